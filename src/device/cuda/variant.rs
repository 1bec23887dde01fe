//! Which of an op's kernels runs: the one for every GPU, or the one that uses what a single architecture has.

use super::Cuda;
use super::sources::only;

/// Which kernel computes an op that has more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Of instructions that every supported GPU has.
    Portable,
    /// In `kernels/hopper/`, where the GPU is one that these are for.
    Hopper,
}

impl Kernel {
    /// Those that run on a GPU, the one to prefer last.
    pub fn all(cuda: &Cuda) -> &'static [Self] {
        if only("hopper/") == Some(cuda.gpu().capability) {
            &[Self::Portable, Self::Hopper]
        } else {
            &[Self::Portable]
        }
    }

    /// The one for the GPU if there is one: faster wherever both were measured (docs/benchmarks).
    pub fn best(cuda: &Cuda) -> Self {
        *Self::all(cuda).last().expect("one runs everywhere")
    }
}
