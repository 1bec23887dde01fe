//! One small kernel for each instruction that the interpreter models, on random inputs: what a device computes
//! beside what the interpreter computes.
//!
//! This is the one thing that can show a misunderstanding that the kernels and the interpreter share. The
//! kernels are `conformance/*.cu`; the end of an entry's name says how close the two must be
//! (conformance/form.cuh). On the stand-in the pack compares the interpreter with itself, which proves the pack.

mod closeness;
mod form;
mod inputs;

pub use form::{Expected, Form, Outcome, forms};

use preceptor::base::Result;
use preceptor::device::cuda::{Nvrtc, Sources};

use crate::run::Setup;

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

/// Runs all forms on the modelled device `key`, or on the machine's first GPU.
pub fn run(setup: &Setup, key: Option<&str>) -> Result<(Vec<Form>, Vec<Outcome>)> {
    let stand_in = setup.stand_in_as(key)?;
    let expected = Expected::new(&Nvrtc::open(setup.nvrtc.as_deref())?)?;
    let cuda = Setup { sources: SOURCES, ..setup.clone() }.open()?;
    let forms = forms()?;
    let outcomes = forms.iter().map(|form| form.run(&cuda, &expected)).collect::<Result<_>>()?;
    drop(stand_in);
    Ok((forms, outcomes))
}
