//! How matrices are spread over a warp's lanes, and the loop that multiplies them.
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
//! Products are exact in f32 (two significands of at most 11 bits). They are added to the accumulator one by
//! one, k ascending, each sum rounded to f32; f16 accumulators are rounded once, at the end. The hardware
//! adds with another order and another rounding: its results differ within the bound of a sum of K + 1 terms.
//!
//! Source: PTX ISA, "Matrix Fragments for mma.m16n8k*" and "wgmma, register fragments".

use half::f16;

use crate::machine::registers::{Reg32, Registers};
use crate::machine::{Lanes32, Mask, WARP};

/// Rows of a warp's tile.
pub const ROWS: usize = 16;
/// Columns of one mma.
pub const COLUMNS: usize = 8;
/// An accumulator tile.
pub type Tile = [[f32; COLUMNS]; ROWS];

/// Elements as they are packed into 32-bit registers.
pub trait Packed {
    /// Elements of one register.
    const COUNT: usize;
    /// One of them, widened without rounding.
    fn element(word: u32, index: usize) -> f32;
}

/// Two f16.
pub struct F16;
/// Two bf16.
pub struct Bf16;
/// One tf32: an f32 whose lowest 13 bits are ignored.
pub struct Tf32;
/// Four s8.
pub struct S8;
/// Four u8.
pub struct U8;

/// An f16 of any kind as f32; without a branch, so that loops over it are vectorised.
#[inline(always)]
pub fn widen_f16(bits: u16) -> f32 {
    // shifted into place the exponent is 112 too small; the product repairs it, for subnormals too
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// A bf16 as f32.
#[inline(always)]
pub fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl Packed for F16 {
    const COUNT: usize = 2;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        widen_f16((word >> (16 * index)) as u16)
    }
}

impl Packed for Bf16 {
    const COUNT: usize = 2;
    #[inline(always)]
    fn element(word: u32, index: usize) -> f32 {
        widen_bf16((word >> (16 * index)) as u16)
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

/// A, 16 x K, of `K / (2 * P::COUNT)` registers.
#[inline(always)]
pub fn gather_a<P: Packed, const K: usize>(registers: &Registers, sources: &[Reg32]) -> [[f32; K]; ROWS] {
    let mut a = [[0.0; K]; ROWS];
    for (q, &source) in sources.iter().enumerate() {
        let words = registers.get32(source);
        for (lane, &word) in words.iter().enumerate() {
            let row = &mut a[q % 2 * 8 + lane / 4];
            let column = q / 2 * 4 * P::COUNT + lane % 4 * P::COUNT;
            for index in 0..P::COUNT {
                row[column + index] = P::element(word, index);
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
        let words = registers.get32(source);
        for (lane, &word) in words.iter().enumerate() {
            let k = q * 4 * P::COUNT + lane % 4 * P::COUNT;
            for index in 0..P::COUNT {
                b[k + index][lane / 4] = P::element(word, index);
            }
        }
    }
    b
}

/// Four registers of f32, or of integers that `read` turns into f32, as a tile.
#[inline(always)]
pub fn gather_c(registers: &Registers, sources: &[Reg32], read: impl Fn(u32) -> f32) -> Tile {
    let mut c = [[0.0; COLUMNS]; ROWS];
    for (q, &source) in sources.iter().enumerate() {
        let words = registers.get32(source);
        for (lane, &word) in words.iter().enumerate() {
            c[q / 2 * 8 + lane / 4][lane % 4 * 2 + q % 2] = read(word);
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
        u32::from(f16::from_f32(tile[q * 8 + lane / 4][lane % 4 * 2 + index]).to_bits())
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

/// c += a * b, k ascending, each step rounded to f32.
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

/// Whether a warp is whole: matrices are undefined with lanes missing.
pub const WHOLE: Mask = !0;

const _: () = assert!(WARP == 32);
