//! Runs kernels: a grid's blocks on threads, a block's warps in turns, a warp's lanes at once.

pub mod async_copies;
pub mod barrier;
pub mod block;
pub mod bulk_copies;
pub mod grid;
pub mod mbarriers;
pub mod products;
pub mod registers;
pub mod warp;

/// One bit a lane.
pub type Mask = u32;

/// Lanes of a warp.
pub const WARP: usize = 32;

/// A 32-bit (or narrower) value of each lane.
pub type Lanes32 = [u32; WARP];

/// A 64-bit value of each lane.
pub type Lanes64 = [u64; WARP];

/// The lanes of a mask, ascending.
#[inline(always)]
pub fn lanes(mask: Mask) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        (lane < WARP).then(|| {
            rest &= rest - 1;
            lane
        })
    })
}
