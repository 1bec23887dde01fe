//! Empty on purpose: NCCL's functions are in the stand-in's `libcuda.so`, beside the streams that they use.
//!
//! Programs look for `libnccl.so`. This library has that name and needs `libcuda.so`, so the loader, asked
//! for a function of this one, finds it there. Load the stand-in's `libcuda.so` by path first, then this
//! library.
