//! The cases of every kernel, a file for each op.

mod adamw;
mod rmsnorm;
mod swiglu;

use crate::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    [adamw::cases, rmsnorm::cases, swiglu::cases].into_iter().flat_map(|cases| cases()).collect()
}
