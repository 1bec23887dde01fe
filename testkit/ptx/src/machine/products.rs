//! wgmma: products that are on their way, and the registers that will hold them.
//!
//! A product is computed as late as is legal: when its group is waited for. Until then its accumulators hold
//! promises: signalling NaNs, each with its own payload. A copy of a promise is still a promise, so the
//! moves that compilers make between registers do no harm; arithmetic with one gives NaN and shows.
//!
//! Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".

use std::collections::VecDeque;

use super::block::Block;
use super::registers::{Reg32, Registers};
use super::warp::Warp;
use super::{Lanes32, WARP};
use crate::check::Check;
use crate::check::shared::Reading;
use crate::isa::At;
use crate::isa::fragments::{self, COLUMNS, ROWS, Tile};
use crate::isa::half::{F16, Float16};
use crate::isa::tensor_sums::{self, Factors};
use crate::memory::matrix_descriptor::Matrix;

/// Where A comes from.
#[derive(Clone, Debug)]
pub enum Left {
    /// Shared memory.
    Shared(Matrix),
    /// Four registers, and what they held at issue.
    Registers([Reg32; 4], Box<[Lanes32; 4]>),
}

/// A warp's part of a product: 16 rows of d = a * b + d.
#[derive(Clone, Debug)]
pub struct Product {
    /// The instruction.
    pub at: At,
    /// A.
    pub left: Left,
    /// B.
    pub right: Matrix,
    /// Columns of b and d.
    pub columns: usize,
    /// Whether elements are bf16; else f16.
    pub bf16: bool,
    /// Whether the product is subtracted.
    pub negative: bool,
    /// Whether d is added; else it is overwritten.
    pub accumulate: bool,
    /// The accumulator.
    pub tile: u32,
    /// What it reads of shared memory.
    pub reading: Reading,
    /// Its group, counted from the warp's first; [`Products::start`] sets it.
    pub group: u32,
}

/// An accumulator in flight.
#[derive(Clone, Debug)]
pub struct Accumulator {
    /// The promise in its first register; the others follow.
    first: u32,
    /// Registers.
    registers: u32,
    /// Whether two f16 share a register.
    half: bool,
    /// Its values, 8 columns at a time, by columns.
    values: Vec<[[f32; ROWS]; COLUMNS]>,
    /// Products that are still to come.
    waiting: u32,
}

/// What the accumulator registers of a product hold when it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Values.
    Values,
    /// The promises of an accumulator in flight, in their order.
    Accumulator(u32),
    /// Promises in another order, of another shape, or not only promises.
    Mixture,
}

/// The products of one warp in the order of their issue.
#[derive(Clone, Debug, Default)]
pub struct Products {
    queue: VecDeque<Product>,
    accumulators: Vec<Accumulator>,
    /// Groups closed.
    closed: u32,
    /// Promises made; payloads start again after 2^21.
    promised: u32,
    /// Whether `wgmma.fence` was executed.
    pub fenced: bool,
}

/// Signalling NaNs: no arithmetic makes one.
const PROMISE: u32 = 0x7f80_0001;
const PAYLOADS: u32 = 1 << 21;

impl Products {
    /// What these registers hold.
    pub fn held(&self, targets: &[Reg32], registers: &Registers) -> Held {
        let words = || targets.iter().map(|&target| registers.get32(target)[0]);
        let Some(accumulator) = self.accumulators.iter().find(|a| words().any(|word| a.holds(word))) else {
            return Held::Values;
        };
        let promises = accumulator.first..accumulator.first + accumulator.registers;
        if words().eq(promises) { Held::Accumulator(accumulator.first) } else { Held::Mixture }
    }

    /// Promises an accumulator that starts with these values. Returns its name.
    pub fn promise(
        &mut self,
        targets: &[Reg32],
        registers: &mut Registers,
        values: impl Iterator<Item = Tile>,
        half: bool,
    ) -> u32 {
        let values = values.map(|tile| fragments::transposed(&tile)).collect();
        let count = targets.len() as u32;
        if self.promised + count > PAYLOADS {
            self.promised = 0;
        }
        let first = PROMISE + self.promised;
        self.promised += count;
        for (word, &target) in (first..).zip(targets) {
            registers.set32(target, &[word; WARP], !0);
        }
        self.accumulators.push(Accumulator { first, registers: count, half, values, waiting: 0 });
        first
    }

    /// Adds a product to the open group.
    pub fn start(&mut self, product: Product) {
        self.accumulator(product.tile).waiting += 1;
        self.queue.push_back(Product { group: self.closed, ..product });
    }

    /// Closes the open group.
    pub fn commit(&mut self) {
        self.closed += 1;
    }

    /// The next product that is due when all groups but the newest `keep` must end.
    pub fn due(&mut self, keep: u32) -> Option<Product> {
        let first = self.queue.front()?;
        if first.group.saturating_add(keep) < self.closed { self.queue.pop_front() } else { None }
    }

    /// An accumulator by its name.
    pub fn accumulator(&mut self, name: u32) -> &mut Accumulator {
        self.accumulators.iter_mut().find(|a| a.first == name).expect("products keep their accumulator")
    }

    /// A product was computed.
    pub fn done(&mut self, name: u32) {
        self.accumulator(name).waiting -= 1;
    }

    /// Keeps the promises of accumulators that nothing will change any more, in the registers that may hold some.
    pub fn deliver(&mut self, registers: &mut Registers, holders: &[Reg32]) {
        let done = |accumulator: &mut Accumulator| accumulator.waiting == 0;
        let done: Vec<_> = self.accumulators.extract_if(.., done).collect();
        if done.is_empty() {
            return;
        }
        let results: Vec<_> = done.iter().map(|accumulator| (accumulator, accumulator.results())).collect();
        for &holder in holders {
            let lanes = registers.get32_mut(holder);
            // most hold no promise: look at all lanes at once
            if !lanes.iter().fold(false, |any, word| any | (word.wrapping_sub(PROMISE) < PAYLOADS)) {
                continue;
            }
            for (accumulator, results) in &results {
                let first = lanes[0].wrapping_sub(accumulator.first);
                if first < accumulator.registers && *lanes == [lanes[0]; WARP] {
                    *lanes = results[first as usize];
                    break;
                }
                for (lane, word) in lanes.iter_mut().enumerate() {
                    if accumulator.holds(*word) {
                        *word = results[(*word - accumulator.first) as usize][lane];
                    }
                }
            }
        }
    }
}

impl Accumulator {
    #[inline(always)]
    fn holds(&self, word: u32) -> bool {
        word.wrapping_sub(self.first) < self.registers
    }

    /// What the registers will hold, in their order.
    fn results(&self) -> Vec<Lanes32> {
        let tiles = self.values.iter().map(fragments::transposed);
        if self.half {
            tiles.flat_map(|tile| [0, 1].map(|q| fragments::lanes_of_f16(&tile, q))).collect()
        } else {
            tiles.flat_map(|tile| [0, 1, 2, 3].map(|q| fragments::lanes_of(&tile, q))).collect()
        }
    }

    /// values += a * b for one block of 8 columns, or = where the old ones do not count; both by columns.
    #[inline(always)]
    pub fn multiply(
        &mut self,
        block: usize,
        accumulate: bool,
        a: &Factors<16, ROWS>,
        b: &[[f32; 16]; COLUMNS],
    ) {
        let half = self.half;
        let tile = &mut self.values[block];
        if !accumulate {
            *tile = [[0.0; ROWS]; COLUMNS];
        }
        tensor_sums::multiply_add(b, a, tile);
        if half {
            tile.as_flattened_mut().iter_mut().for_each(|value| *value = F16::from_f32(*value).to_f32());
        }
    }
}

/// A warp's end: products that nothing waited for are a finding.
pub fn finish(warp: &mut Warp, block: &mut Block<'_>) {
    for product in &warp.products.queue {
        block.finding(Check::AsyncUse, product.at, warp.id, !0, || "nothing waits for this product".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::registers::Layout;
    use crate::memory::swizzle::Swizzle;

    fn registers(count: u32) -> Registers {
        Registers::new(&Layout { count32: count, ..Layout::default() })
    }

    fn product(tile: u32) -> Product {
        let right = Matrix { start: 0, leading: 0, stride: 0, swizzle: Swizzle::None, mn_major: false };
        let left = Left::Shared(right);
        Product {
            at: At::default(),
            left,
            right,
            columns: 8,
            bf16: true,
            negative: false,
            accumulate: true,
            tile,
            reading: Reading::default(),
            group: 0,
        }
    }

    fn numbered() -> Tile {
        std::array::from_fn(|row| std::array::from_fn(|column| (row * 8 + column) as f32))
    }

    #[test]
    fn a_promise_survives_moves_and_is_kept_once_its_group_ends() {
        let mut registers = registers(6);
        let holders: Vec<_> = (0..6).map(Reg32).collect();
        let targets: Vec<_> = (0..4).map(Reg32).collect();
        let mut products = Products::default();
        let tile = products.promise(&targets, &mut registers, std::iter::once(numbered()), false);
        products.start(product(tile));
        products.commit();
        let moved = *registers.get32(Reg32(2));
        assert!(f32::from_bits(moved[0]).is_nan());
        registers.set32(Reg32(5), &moved, 0xff);
        assert_eq!(products.held(&targets, &registers), Held::Accumulator(tile));
        assert!(products.due(1).is_none(), "the newest group may stay");
        let due = products.due(0).expect("one is due");
        products.done(due.tile);
        products.deliver(&mut registers, &holders);
        // register 2 holds row 8 + lane / 4, column 2 * (lane % 4)
        let expected: Vec<_> = (0..8).map(|lane| ((8 + lane / 4) * 8 + lane % 4 * 2) as f32).collect();
        let read = |r| registers.get32(Reg32(r))[..8].iter().map(|&w| f32::from_bits(w)).collect::<Vec<_>>();
        assert_eq!(read(2), expected);
        assert_eq!(read(5), expected);
        assert_eq!(registers.get32(Reg32(5))[8], 0, "the move wrote eight lanes");
        assert_eq!(products.held(&targets, &registers), Held::Values);
    }

    #[test]
    fn an_accumulator_waits_for_its_last_product() {
        let mut registers = registers(4);
        let targets: Vec<_> = (0..4).map(Reg32).collect();
        let holders = targets.clone();
        let mut products = Products::default();
        let tile = products.promise(&targets, &mut registers, std::iter::once(numbered()), false);
        for _ in 0..2 {
            products.start(product(tile));
            products.commit();
        }
        let first = products.due(1).expect("the older group is due");
        products.done(first.tile);
        products.deliver(&mut registers, &holders);
        assert_eq!(products.held(&targets, &registers), Held::Accumulator(tile));
        assert_eq!(products.held(&targets[..2], &registers), Held::Mixture, "another shape");
    }
}
