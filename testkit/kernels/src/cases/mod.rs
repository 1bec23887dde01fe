//! The cases of every kernel, a file for each op.

mod adamw;
mod attention;
mod gemm;
mod lora;
mod rmsnorm;
mod swiglu;

use crate::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    [adamw::cases, attention::cases, gemm::cases, lora::cases, rmsnorm::cases, swiglu::cases]
        .into_iter()
        .flat_map(|cases| cases())
        .collect()
}
