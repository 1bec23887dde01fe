//! A case: one launch or a few, on one set of inputs, compared with the truth.

use preceptor::base::Result;

use crate::bench::Bench;
use crate::compare::Comparison;

/// One case of a kernel file.
pub struct Case {
    /// The kernel file, such as `attention/forward`.
    pub kernel: &'static str,
    /// What is special about it, such as `forward, 3 x 4096`.
    pub name: String,
    run: Box<dyn Fn(&Bench) -> Result<Outcome>>,
}

/// What a case found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One comparison for each output.
    pub comparisons: Vec<Comparison>,
    /// The case as a measurement, if it is one.
    pub cost: Option<Cost>,
}

/// What the launches of a case have to do at least; the counters are divided by it.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Elements of the output, or multiply-adds of a 16 x 8 x 16 product (`mma`).
    pub units: u64,
    /// Bytes of global memory, each tensor once.
    pub bytes: u64,
}

impl Case {
    /// A case of `kernel`, run by `run`.
    pub fn new(
        kernel: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Bench) -> Result<Outcome> + 'static,
    ) -> Self {
        Self { kernel, name: name.into(), run: Box::new(run) }
    }

    /// Runs it.
    pub fn run(&self, bench: &Bench) -> Result<Outcome> {
        (self.run)(bench)
    }
}

impl Outcome {
    /// The outcome of these comparisons.
    pub fn of(comparisons: impl Into<Vec<Comparison>>) -> Self {
        Self { comparisons: comparisons.into(), cost: None }
    }

    /// The same as a measurement: `units` elements (or mma) and `bytes` at the least.
    #[must_use]
    pub fn costing(self, units: usize, bytes: usize) -> Self {
        Self { cost: Some(Cost { units: units as u64, bytes: bytes as u64 }), ..self }
    }
}
