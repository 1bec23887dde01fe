//! Stand-in until the tensor branch lands.

use super::block::Block;
use super::warp::Warp;

/// Copies.
#[derive(Clone, Debug, Default)]
pub struct AsyncCopies;

/// At a warp's end.
pub fn finish(_warp: &mut Warp, _block: &mut Block<'_>) {}
