//! Tensor-core and asynchronous instructions, run as PTX text, against what the ISA says they do.

mod async_copy;
mod bulk;
mod harness;
mod matrix;
mod mbarrier;
mod mma;
mod wgmma;
