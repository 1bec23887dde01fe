//! What a CUDA kernel must pass before it ships, on a machine with or without a GPU.
//!
//! - [`gate`]: NVIDIA's compiler makes machine code of every file for every architecture, within the committed
//!   budgets;
//! - [`cases`]: the product launches each kernel, and the results are compared with its CPU form;
//! - [`faults`]: kernels broken on purpose, and who catches it;
//! - [`conformance`]: each modelled instruction on a device, beside the interpreter;
//! - [`stand_in`]: where the driver is the stand-in, it reports what its checks found and what they counted.

pub mod bench;
pub mod budgets;
pub mod case;
pub mod cases;
pub mod compare;
pub mod conformance;
pub mod dense;
pub mod faults;
pub mod gate;
pub mod gpu_check;
pub mod inputs;
pub mod page;
mod path;
pub mod report;
pub mod resources;
pub mod run;
pub mod sass;
pub mod stand_in;
mod tensor_core;
pub mod work;
