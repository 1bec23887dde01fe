//! One small kernel for each instruction that the interpreter models, on random inputs: what a device computes
//! beside what the interpreter computes.
//!
//! This is the one thing that can show a misunderstanding that the kernels and the interpreter share. The
//! kernels are `conformance/*.cu`; the end of an entry's name says how close the two must be
//! (conformance/form.cuh). On the stand-in the pack compares the interpreter with itself, which proves the pack.

mod closeness;
mod form;
mod inputs;

pub use form::{Form, Outcome, forms};

use preceptor::device::cuda::Sources;

/// The kernels' sources.
pub const SOURCES: Sources = Sources::Given(&[
    ("approximate.cu", include_str!("../../conformance/approximate.cu")),
    ("convert.cu", include_str!("../../conformance/convert.cu")),
    ("float.cu", include_str!("../../conformance/float.cu")),
    ("form.cuh", include_str!("../../conformance/form.cuh")),
    ("integer.cu", include_str!("../../conformance/integer.cu")),
    ("lanes.cu", include_str!("../../conformance/lanes.cu")),
    ("matrix.cu", include_str!("../../conformance/matrix.cu")),
    ("memory.cu", include_str!("../../conformance/memory.cu")),
]);

/// The files of [`SOURCES`] that hold kernels.
pub const FILES: &[&str] = &["approximate", "convert", "float", "integer", "lanes", "matrix", "memory"];
