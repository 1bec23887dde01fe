//! ldmatrix, stmatrix: 8 x 8 matrices of 16-bit elements between shared memory and registers.
//!
//! Lane `8q + r` names row `r` of matrix `q`, 16 bytes. Register `q` of lane `l` holds two elements of row
//! `l / 4`, `2(l % 4)` and the next; with `.trans`, of column `l / 4`.
//!
//! Source: PTX ISA, "Warp-level matrix load/store instructions".

use super::decode::{Decoded, Mnemonic, Operands};
use super::shared_address::SharedAddress;
use super::types::Type;
use super::{Class, Execution, Flow};
use crate::machine::{Lanes32, Mask, lanes};
use crate::memory::Access;

/// `ldmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}{.shared}.b16 {d..}, [rows]`.
pub fn decode_load(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (count, transposed) = shape(mnemonic, operands)?;
    let targets = operands.targets32(0)?;
    let rows = SharedAddress::new(mnemonic, operands, 1)?;
    if targets.len() != count {
        return Err(format!("{} registers for {count} matrices", targets.len()));
    }
    Ok(Decoded::execute(Class::MatrixMove, move |x, mask| {
        x.expect_whole_warp(mask);
        let addresses = rows.lanes(&x.warp.registers);
        let good = x.shared_rows(&addresses, row_lanes(count), Access::Read);
        for (matrix, &target) in targets.iter().enumerate() {
            let words = load(x, &addresses, good, matrix, transposed);
            x.warp.registers.set32(target, &words, mask);
        }
        Flow::Next
    }))
}

/// `stmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}{.shared}.b16 [rows], {s..}`.
pub fn decode_store(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (count, transposed) = shape(mnemonic, operands)?;
    let sources = operands.sources32(1)?;
    let rows = SharedAddress::new(mnemonic, operands, 0)?;
    if sources.len() != count {
        return Err(format!("{} registers for {count} matrices", sources.len()));
    }
    Ok(Decoded::execute(Class::MatrixMove, move |x, mask| {
        x.expect_whole_warp(mask);
        let addresses = rows.lanes(&x.warp.registers);
        let good = x.shared_rows(&addresses, row_lanes(count), Access::Write);
        for (matrix, &source) in sources.iter().enumerate() {
            let words = *x.warp.registers.get32(source);
            store(x, &addresses, good, matrix, transposed, &words);
        }
        Flow::Next
    }))
}

fn shape(mnemonic: &Mnemonic<'_>, operands: &Operands<'_>) -> Result<(usize, bool), String> {
    let shared = ["shared", "shared::cta"];
    mnemonic.allow(&[&["sync", "aligned", "m8n8", "x1", "x2", "x4", "trans"], &shared[..]].concat())?;
    if !["sync", "aligned", "m8n8"].iter().all(|needed| mnemonic.has(needed)) {
        return Err("needs .sync.aligned.m8n8".into());
    }
    if mnemonic.only_type()? != Type::B16 {
        return Err("elements other than .b16".into());
    }
    operands.expect(2..=2)?;
    Ok(([1, 2, 4][mnemonic.one_of(&["x1", "x2", "x4"])?], mnemonic.has("trans")))
}

fn row_lanes(matrices: usize) -> Mask {
    if matrices == 4 { !0 } else { (1 << (8 * matrices)) - 1 }
}

/// Register `matrix` of each lane; rows that are not there read as NaN.
fn load(x: &Execution<'_, '_>, addresses: &Lanes32, good: Mask, matrix: usize, transposed: bool) -> Lanes32 {
    let mut rows = [[0xffff_u16; 8]; 8];
    for row in lanes(good >> (8 * matrix) & 0xff) {
        let bytes: [u8; 16] = x.block.shared.load(addresses[8 * matrix + row]);
        rows[row] =
            std::array::from_fn(|column| u16::from_le_bytes([bytes[2 * column], bytes[2 * column + 1]]));
    }
    let element =
        |row: usize, column: usize| u32::from(if transposed { rows[column][row] } else { rows[row][column] });
    std::array::from_fn(|lane| {
        let (row, column) = (lane / 4, lane % 4 * 2);
        element(row, column) | element(row, column + 1) << 16
    })
}

fn store(
    x: &mut Execution<'_, '_>,
    addresses: &Lanes32,
    good: Mask,
    matrix: usize,
    transposed: bool,
    words: &Lanes32,
) {
    let mut rows = [[0_u16; 8]; 8];
    for (lane, &word) in words.iter().enumerate() {
        for half in 0..2 {
            let (row, column) = (lane / 4, lane % 4 * 2 + half);
            let (row, column) = if transposed { (column, row) } else { (row, column) };
            rows[row][column] = (word >> (16 * half)) as u16;
        }
    }
    for row in lanes(good >> (8 * matrix) & 0xff) {
        let bytes: [u8; 16] = std::array::from_fn(|byte| rows[row][byte / 2].to_le_bytes()[byte % 2]);
        x.block.shared.store(addresses[8 * matrix + row], bytes);
    }
}
