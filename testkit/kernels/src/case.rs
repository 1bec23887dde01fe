//! A case: one launch or a few, on one set of inputs, compared with the truth.

use preceptor::base::Result;
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::compare::Comparison;

/// One case of a kernel file.
pub struct Case {
    /// The kernel file, such as `attention/forward`.
    pub kernel: &'static str,
    /// What is special about it, such as `forward, 3 x 4096`.
    pub name: String,
    run: Box<Run>,
}

type Run = dyn Fn(&Bench) -> Result<Outcome>;

/// What a case found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One comparison for each output.
    pub comparisons: Vec<Comparison>,
    /// What the counters of its launches are divided by, where the case is a measurement.
    pub costs: Vec<Cost>,
}

/// The least that a launch has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// The entry; without one, the only entry that the case launches.
    pub entry: Option<String>,
    /// Elements of the output. Kernels on tensor cores count by matrix products instead, and ignore it.
    pub elements: u64,
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
        Self { comparisons: comparisons.into(), costs: Vec::new() }
    }

    /// The case measures the one entry that it launches: so many elements, and bytes at the least.
    #[must_use]
    pub fn costing(mut self, elements: usize, bytes: usize) -> Self {
        self.costs.push(Cost { entry: None, elements: elements as u64, bytes: bytes as u64 });
        self
    }

    /// The case measures this entry among others; its last launch counts.
    #[must_use]
    pub fn costing_of(mut self, entry: &str, elements: usize, bytes: usize) -> Self {
        self.costs.push(Cost {
            entry: Some(entry.to_owned()),
            elements: elements as u64,
            bytes: bytes as u64,
        });
        self
    }
}
