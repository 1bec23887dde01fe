//! The cases of every kernel, a file for each op.

mod rmsnorm;

use crate::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    [rmsnorm::cases].into_iter().flat_map(|cases| cases()).collect()
}
