//! The way that a warp takes through a loop of matrix products when nothing is out of the ordinary.
//!
//! A loop of attention holds code that most turns skip: masks, a rescaling, a step that is repeated. Counting all of it
//! would count what does not run. Of all ways from the loop's start back to it, this is the one that multiplies most,
//! then that fetches most, then that is shortest. A loop inside is gone through once.

use std::collections::{BTreeSet, HashMap};

use crate::sass::{Instruction, is};

/// What a way is worth, in this order: matrix products, copies to shared memory, instructions saved.
type Worth = (usize, usize, isize);

/// The ways of one entry.
pub(crate) struct Ways<'a> {
    code: &'a [Instruction],
    /// Where blocks start, and where the code ends.
    starts: Vec<usize>,
}

impl<'a> Ways<'a> {
    pub(crate) fn new(code: &'a [Instruction]) -> Self {
        let after_jumps = code.iter().enumerate().filter(|(_, i)| ends_block(i)).map(|(at, _)| at + 1);
        let targets = code.iter().filter_map(|i| i.target).filter(|&to| to < code.len());
        let starts: BTreeSet<usize> = after_jumps.chain(targets).chain([0, code.len()]).collect();
        Self { code, starts: starts.into_iter().collect() }
    }

    /// Instructions and matrix products of the loop that makes the most products in a turn.
    pub(crate) fn busiest(&self) -> Option<(usize, usize)> {
        let back = |(at, i): (usize, &Instruction)| i.target.filter(|&to| to <= at);
        let heads: BTreeSet<usize> = self.code.iter().enumerate().filter_map(back).collect();
        let turns = heads.into_iter().filter_map(|head| self.best(head, head, &mut HashMap::new()));
        // Of a loop and one around it that adds no product, the inner one.
        let (products, _, saved) = turns.max_by_key(|&(products, _, saved)| (products, saved))?;
        (products > 0).then_some((saved.unsigned_abs(), products))
    }

    /// The best way from block `start` to `head`, both without what comes after.
    fn best(&self, start: usize, head: usize, known: &mut HashMap<usize, Option<Worth>>) -> Option<Worth> {
        if let Some(worth) = known.get(&start) {
            return *worth;
        }
        let block = start..*self.starts.iter().find(|&&next| next > start)?;
        let last = &self.code[block.end - 1];
        let next = falls_through(last).then_some(block.end).filter(|&to| to < self.code.len());
        let onward = |to: usize| match to == head {
            true => Some((0, 0, 0)),
            // Back to anywhere else is another turn of a loop inside.
            false if to > start => self.best(to, head, known),
            false => None,
        };
        let best = [last.target, next].into_iter().flatten().filter_map(onward).max();
        let count = |kind| self.code[block.clone()].iter().filter(|i| is(&i.opcode, kind)).count();
        let made: usize = self.code[block.clone()].iter().map(|i| products_of(&i.opcode)).sum();
        let copied = count("LDGSTS") + count("UTMALDG");
        let nops = count("NOP");
        let worth = best.map(|(products, copies, saved)| {
            (products + made, copies + copied, saved - (block.len() - nops) as isize)
        });
        known.insert(start, worth);
        worth
    }
}

/// Products of 16 x 8 x 16 that a warp makes. Of a warpgroup's 64 x N x 16, `HGMMA.64xNx16`, a warp makes 16 rows.
fn products_of(opcode: &str) -> usize {
    let columns = |opcode: &str| opcode.split('x').nth(1)?.parse::<usize>().ok();
    if is(opcode, "HGMMA") { columns(opcode).unwrap_or(0) / 8 } else { usize::from(is(opcode, "HMMA")) }
}

fn ends_block(i: &Instruction) -> bool {
    i.target.is_some() || is(&i.opcode, "EXIT")
}

/// Whether what stands below `i` may run after it.
fn falls_through(i: &Instruction) -> bool {
    // BRA.DIV and BRA.CONV leave only if lanes have parted.
    i.predicated || !ends_block(i) || i.opcode.starts_with("BRA.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warpgroups_product_counts_its_columns() {
        assert_eq!(["HGMMA.64x256x16.F32.BF16", "HMMA.16816.F32.BF16", "IMAD"].map(products_of), [32, 1, 0]);
    }

    fn code(text: &[(&str, bool, Option<usize>)]) -> Vec<Instruction> {
        let one = |&(opcode, predicated, target): &(&str, bool, Option<usize>)| Instruction {
            opcode: opcode.into(),
            predicated,
            target,
        };
        text.iter().map(one).collect()
    }

    #[test]
    fn the_way_skips_what_a_turn_may_skip_and_keeps_the_work() {
        let code = code(&[
            ("MOV", false, None),
            ("BRA", true, Some(3)), // 1: the loop; the last turn does not fetch
            ("LDGSTS", false, None),
            ("HMMA", false, None),  // 3: a step that may be repeated
            ("BRA", true, Some(7)), // no mask
            ("FSEL", false, None),
            ("FSEL", false, None),
            ("BRA", true, Some(3)), // 7: repeat
            ("HMMA", false, None),
            ("BRA.DIV", false, Some(12)),
            ("BRA", true, Some(1)),
            ("EXIT", false, None),
            ("HMMA", false, None), // 12: lanes have parted
            ("BRA", false, Some(1)),
        ]);
        // 1 2 3 4 7 8 9, then 12 and 13, which multiply more
        assert_eq!(Ways::new(&code).busiest(), Some((9, 3)));
        assert_eq!(Ways::new(&code[..12]).busiest(), Some((8, 2)));
    }

    #[test]
    fn a_loop_around_the_products_does_not_count() {
        let code = code(&[
            ("LDGSTS", false, None), // 0: for each pair of operands
            ("LDGSTS", false, None), // 1: for each step
            ("HMMA", false, None),
            ("BRA", true, Some(1)),
            ("BRA", true, Some(0)),
            ("EXIT", false, None),
        ]);
        assert_eq!(Ways::new(&code).busiest(), Some((3, 1)));
    }

    #[test]
    fn without_a_loop_there_is_no_way() {
        assert_eq!(Ways::new(&code(&[("HMMA", false, None), ("EXIT", false, None)])).busiest(), None);
    }
}
