//! What instructions need that a whole warp executes as one: all its lanes, and their agreement.

use super::Execution;
use crate::check::Check;
use crate::machine::{Mask, WARP, lanes};

impl Execution<'_, '_> {
    /// Reports lanes that are missing where an instruction needs all 32 of a warp.
    #[inline(always)]
    pub fn expect_whole_warp(&mut self, mask: Mask) {
        if mask != !0 {
            self.finding(Check::MissingLanes, mask, || {
                format!("all 32 lanes must execute it together; lanes {:08x} are not here", !mask)
            });
        }
    }

    /// Counts a product of the warp, in 1/16 of m16n8k16.
    #[inline(always)]
    pub fn count_products(&mut self, sixteenths: u64) {
        self.block.counters.products(sixteenths, self.warp.copies.groups());
    }

    /// The value that all lanes of a mask must agree on.
    pub fn uniform<T: Copy + PartialEq>(&mut self, values: &[T; WARP], mask: Mask, what: &str) -> T {
        let first = values[mask.trailing_zeros() as usize % WARP];
        let others =
            lanes(mask).filter(|&lane| values[lane] != first).fold(0, |mask: Mask, lane| mask | 1 << lane);
        if others != 0 {
            self.finding(Check::NotUniform, others, || format!("the lanes disagree on {what}"));
        }
        first
    }
}
