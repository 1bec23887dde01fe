//! How matrices are spread over a warp's lanes. How they are multiplied: `tensor_core`.
//!
//! Every operand of mma, and of wgmma from registers, is built of blocks of 8 rows. Lane `l` holds, of row
//! `l / 4` of a block, the `l % 4`-th group of adjacent elements that fill one 32-bit register:
//!
//! ```text
//! A 16 x K   register q: rows 8 * (q % 2) .., columns 4P * (q / 2) ..    P elements a register
//! B K x 8    register q: rows of B^T 0 .., columns 4P * q ..
//! C 16 x 8   f32: two registers a block of 8 rows, adjacent columns; f16: both columns in one register
//! ```
//!
//! Source: PTX ISA, "Matrix Fragments for mma.m16n8k*" and "wgmma, register fragments".

use super::half::{Bf16, F16, Float16};
use crate::machine::registers::{Reg32, Registers};
use crate::machine::{Lanes32, Mask};

/// Rows of a warp's tile.
pub const ROWS: usize = 16;
/// Columns of one mma.
pub const COLUMNS: usize = 8;
/// An accumulator tile.
pub type Tile = [[f32; COLUMNS]; ROWS];

/// Elements as they are packed into 32-bit registers.
pub trait Packed: 'static {
    /// Elements of one register.
    const COUNT: usize;
    /// One of them, widened without rounding.
    fn element(word: u32, index: usize) -> f32;
}

/// One tf32: an f32 whose lowest 13 bits are ignored.
pub struct Tf32;
/// Four s8.
pub struct S8;
/// Four u8.
pub struct U8;

impl Packed for F16 {
    const COUNT: usize = 2;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        Self((word >> (16 * index)) as u16).to_f32()
    }
}

impl Packed for Bf16 {
    const COUNT: usize = 2;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        Self((word >> (16 * index)) as u16).to_f32()
    }
}

impl Packed for Tf32 {
    const COUNT: usize = 1;
    #[inline(always)]
    fn element(word: u32, _: usize) -> f32 {
        f32::from_bits(word & !0x1fff)
    }
}

impl Packed for S8 {
    const COUNT: usize = 4;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        f32::from((word >> (8 * index)) as u8 as i8)
    }
}

impl Packed for U8 {
    const COUNT: usize = 4;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        f32::from((word >> (8 * index)) as u8)
    }
}

/// Registers of an operand, as many as it needs.
pub fn exactly<const N: usize>(registers: Vec<Reg32>) -> Result<[Reg32; N], String> {
    registers.try_into().map_err(|list: Vec<_>| format!("{} registers where {N} are needed", list.len()))
}

/// A, 16 x K, of `K / (2 * P::COUNT)` registers.
#[inline(always)]
pub fn gather_a<P: Packed, const K: usize>(registers: &Registers, sources: &[Reg32]) -> [[f32; K]; ROWS] {
    let mut a = [[0.0; K]; ROWS];
    for (q, &source) in sources.iter().enumerate() {
        for (row, words) in registers.get32(source).as_chunks::<4>().0.iter().enumerate() {
            let row = &mut a[q % 2 * 8 + row][q / 2 * 4 * P::COUNT..][..4 * P::COUNT];
            for (group, &word) in words.iter().enumerate() {
                for index in 0..P::COUNT {
                    row[group * P::COUNT + index] = P::element(word, index);
                }
            }
        }
    }
    a
}

/// B, K x 8, of `K / (4 * P::COUNT)` registers.
#[inline(always)]
pub fn gather_b<P: Packed, const K: usize>(registers: &Registers, sources: &[Reg32]) -> [[f32; COLUMNS]; K] {
    let mut b = [[0.0; COLUMNS]; K];
    for (q, &source) in sources.iter().enumerate() {
        let rows = &mut b[q * 4 * P::COUNT..][..4 * P::COUNT];
        for (column, words) in registers.get32(source).as_chunks::<4>().0.iter().enumerate() {
            for (group, &word) in words.iter().enumerate() {
                for index in 0..P::COUNT {
                    rows[group * P::COUNT + index][column] = P::element(word, index);
                }
            }
        }
    }
    b
}

/// Four registers of f32, or of integers that `read` turns into f32, as a tile.
#[inline(always)]
pub fn gather_c(registers: &Registers, sources: &[Reg32], read: impl Fn(u32) -> f32) -> Tile {
    let mut c = [[0.0; COLUMNS]; ROWS];
    for (rows, pair) in c.as_chunks_mut::<8>().0.iter_mut().zip(sources.as_chunks::<2>().0) {
        let [even, odd] = pair.map(|source| registers.get32(source).as_chunks::<4>().0);
        for (row, (even, odd)) in rows.iter_mut().zip(even.iter().zip(odd)) {
            for group in 0..4 {
                (row[2 * group], row[2 * group + 1]) = (read(even[group]), read(odd[group]));
            }
        }
    }
    c
}

/// Two registers of packed f16 as a tile.
#[inline(always)]
pub fn gather_c_f16(registers: &Registers, sources: &[Reg32]) -> Tile {
    let mut c = [[0.0; COLUMNS]; ROWS];
    for (q, &source) in sources.iter().enumerate() {
        for (lane, &word) in registers.get32(source).iter().enumerate() {
            for index in 0..2 {
                c[q * 8 + lane / 4][lane % 4 * 2 + index] = F16::element(word, index);
            }
        }
    }
    c
}

/// Register `q` of a tile that is kept in f32.
#[inline(always)]
pub fn lanes_of(tile: &Tile, q: usize) -> Lanes32 {
    std::array::from_fn(|lane| tile[q / 2 * 8 + lane / 4][lane % 4 * 2 + q % 2].to_bits())
}

/// Register `q` of a tile that is kept in f16, rounded to nearest even.
#[inline(always)]
pub fn lanes_of_f16(tile: &Tile, q: usize) -> Lanes32 {
    let half = |lane: usize, index: usize| {
        u32::from(F16::from_f32(tile[q * 8 + lane / 4][lane % 4 * 2 + index]).to_bits())
    };
    std::array::from_fn(|lane| half(lane, 0) | half(lane, 1) << 16)
}

/// Writes a tile into its four registers of f32.
#[inline(always)]
pub fn scatter_c(registers: &mut Registers, targets: &[Reg32], tile: &Tile, mask: Mask) {
    for (q, &target) in targets.iter().enumerate() {
        registers.set32(target, &lanes_of(tile, q), mask);
    }
}

/// Writes a tile into its two registers of f16.
#[inline(always)]
pub fn scatter_c_f16(registers: &mut Registers, targets: &[Reg32], tile: &Tile, mask: Mask) {
    for (q, &target) in targets.iter().enumerate() {
        registers.set32(target, &lanes_of_f16(tile, q), mask);
    }
}

/// c += a * b for integers, whose sums are exact in f32.
#[inline(always)]
pub fn multiply_add<const K: usize>(a: &[[f32; K]; ROWS], b: &[[f32; COLUMNS]; K], c: &mut Tile) {
    // four rows at once: their sums fill the registers and hide each other's latency
    for (a, c) in a.as_chunks::<4>().0.iter().zip(c.as_chunks_mut::<4>().0) {
        let mut sums = *c;
        for k in 0..K {
            for row in 0..4 {
                for column in 0..COLUMNS {
                    sums[row][column] += a[row][k] * b[k][column];
                }
            }
        }
        *c = sums;
    }
}

/// A matrix with rows and columns exchanged.
#[inline(always)]
pub fn transposed<const R: usize, const C: usize>(matrix: &[[f32; C]; R]) -> [[f32; R]; C] {
    std::array::from_fn(|column| std::array::from_fn(|row| matrix[row][column]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::registers::Layout;

    /// Element `i` of a lane's fragment lies at (row, column): the formulas of the ISA's tables, with
    /// `g = lane / 4` (groupID) and `t = lane % 4` (threadID_in_group).
    type Table = fn(i: usize, g: usize, t: usize) -> (usize, usize);

    fn a_16bit_k16(i: usize, g: usize, t: usize) -> (usize, usize) {
        let row = if matches!(i, 0..2 | 4..6) { g } else { g + 8 };
        (row, t * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
    }

    fn a_16bit_k8(i: usize, g: usize, t: usize) -> (usize, usize) {
        (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1))
    }

    fn a_tf32(i: usize, g: usize, t: usize) -> (usize, usize) {
        (if i == 0 || i == 2 { g } else { g + 8 }, if i < 2 { t } else { t + 4 })
    }

    fn a_8bit_k32(i: usize, g: usize, t: usize) -> (usize, usize) {
        let row = if matches!(i, 0..4 | 8..12) { g } else { g + 8 };
        (row, t * 4 + (i & 3) + if i >= 8 { 16 } else { 0 })
    }

    fn b_16bit(i: usize, g: usize, t: usize) -> (usize, usize) {
        (t * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, g)
    }

    fn b_tf32(i: usize, g: usize, t: usize) -> (usize, usize) {
        (if i == 0 { t } else { t + 4 }, g)
    }

    fn b_8bit(i: usize, g: usize, t: usize) -> (usize, usize) {
        (t * 4 + (i & 3) + if i >= 4 { 16 } else { 0 }, g)
    }

    /// Registers whose element `i` is `value(row, column)`, encoded by `encode` into `32 / width` bits.
    fn filled(
        count: usize,
        width: usize,
        table: Table,
        value: impl Fn(usize, usize) -> u32,
    ) -> (Registers, Vec<Reg32>) {
        let layout = Layout { count32: count as u32, ..Layout::default() };
        let mut registers = Registers::new(&layout);
        let list: Vec<_> = (0..count as u32).map(Reg32).collect();
        for (q, &register) in list.iter().enumerate() {
            let word = |lane: usize| {
                (0..32 / width).fold(0, |word, part| {
                    let (row, column) = table(q * (32 / width) + part, lane / 4, lane % 4);
                    word | value(row, column) << (part * width)
                })
            };
            registers.set32(register, &std::array::from_fn(word), !0);
        }
        (registers, list)
    }

    fn number(row: usize, column: usize) -> u32 {
        ((row * 37 + column * 5) % 128) as u32
    }

    fn check<P: Packed, const K: usize>(
        a: (usize, Table),
        b: (usize, Table),
        width: usize,
        encode: fn(u32) -> u32,
    ) {
        let value = |row, column| encode(number(row, column));
        let (registers, list) = filled(a.0, width, a.1, value);
        let gathered: [[f32; K]; ROWS] = gather_a::<P, K>(&registers, &list);
        for (row, values) in gathered.iter().enumerate() {
            for (column, &found) in values.iter().enumerate() {
                assert_eq!(found, number(row, column) as f32, "a, row {row}, column {column}, K {K}");
            }
        }
        let (registers, list) = filled(b.0, width, b.1, value);
        let gathered: [[f32; COLUMNS]; K] = gather_b::<P, K>(&registers, &list);
        for (k, values) in gathered.iter().enumerate() {
            for (column, &found) in values.iter().enumerate() {
                assert_eq!(found, number(k, column) as f32, "b, k {k}, column {column}, K {K}");
            }
        }
    }

    #[test]
    fn fragments_lie_as_in_the_tables() {
        let bf16: fn(u32) -> u32 = |v| (v as f32).to_bits() >> 16;
        let f16: fn(u32) -> u32 = |v| u32::from(F16::from_f32(v as f32).to_bits());
        check::<Bf16, 16>((4, a_16bit_k16), (2, b_16bit), 16, bf16);
        check::<Bf16, 8>((2, a_16bit_k8), (1, b_16bit), 16, bf16);
        check::<F16, 16>((4, a_16bit_k16), (2, b_16bit), 16, f16);
        check::<F16, 8>((2, a_16bit_k8), (1, b_16bit), 16, f16);
        check::<Tf32, 8>((4, a_tf32), (2, b_tf32), 32, |v| (v as f32).to_bits() | 0x1fff);
        check::<Tf32, 4>((2, a_tf32), (1, b_tf32), 32, |v| (v as f32).to_bits());
        check::<S8, 32>((4, a_8bit_k32), (2, b_8bit), 8, |v| v);
        check::<U8, 32>((4, a_8bit_k32), (2, b_8bit), 8, |v| v);
        check::<S8, 16>(
            (2, |i, g, t| (if i < 4 { g } else { g + 8 }, t * 4 + (i & 3))),
            (1, b_8bit),
            8,
            |v| v,
        );
    }

    #[test]
    fn accumulators_come_back_where_they_were() {
        let table: Table = |i, g, t| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1));
        let (mut registers, list) =
            filled(4, 32, table, |row, column| (number(row, column) as f32).to_bits());
        let tile = gather_c(&registers, &list, f32::from_bits);
        assert!(
            (0..ROWS).all(|row| (0..COLUMNS).all(|column| tile[row][column] == number(row, column) as f32))
        );
        let before: Vec<_> = list.iter().map(|&register| *registers.get32(register)).collect();
        list.iter().for_each(|&register| registers.set32(register, &[0; 32], !0));
        scatter_c(&mut registers, &list, &tile, !0);
        assert!(list.iter().zip(&before).all(|(&register, before)| registers.get32(register) == before));

        let encode = |row, column| u32::from(F16::from_f32(number(row, column) as f32).to_bits());
        let (mut registers, list) = filled(2, 16, table, encode);
        let tile = gather_c_f16(&registers, &list);
        assert!(
            (0..ROWS).all(|row| (0..COLUMNS).all(|column| tile[row][column] == number(row, column) as f32))
        );
        let before: Vec<_> = list.iter().map(|&register| *registers.get32(register)).collect();
        scatter_c_f16(&mut registers, &list, &tile, !0);
        assert!(list.iter().zip(&before).all(|(&register, before)| registers.get32(register) == before));
    }
}
