//! wgmma: products of a warpgroup, four warps with 16 rows each. When they land:
//! [`crate::machine::products`]; how operands lie in shared memory: [`crate::memory::matrix_descriptor`].
//!
//! Each warp computes its own rows. Accumulation: `tensor_core`, one sum for each product; f16 accumulators
//! are rounded after each.
//!
//! Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Operation".

use super::decode::{Decoded, Mnemonic, Operands};
use super::fragments::{self, COLUMNS, Packed, ROWS, Tile, exactly};
use super::half::{Bf16, F16};
use super::tensor_sums::Factors;
use super::types::Type;
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::check::shared::Reading;
use crate::machine::Mask;
use crate::machine::products::{Held, Left, Product};
use crate::machine::registers::{Pred, Reg32, Reg64, Registers};
use crate::memory::matrix_descriptor::Matrix;

/// k of one product.
const K: usize = 16;

/// All of `wgmma`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    match mnemonic.modifiers[..] {
        ["fence", "sync", "aligned"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.expect_whole_warp(mask);
                x.warp.products.fenced = true;
                Flow::Next
            }))
        }
        ["commit_group", "sync", "aligned"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.expect_whole_warp(mask);
                x.warp.products.commit();
                Flow::Next
            }))
        }
        ["wait_group", "sync", "aligned"] => {
            operands.expect(1..=1)?;
            let keep = u32::try_from(operands.immediate(0)?).map_err(|error| error.to_string())?;
            Ok(Decoded::execute(Class::Async, move |x, mask| {
                x.expect_whole_warp(mask);
                wait(x, keep);
                Flow::Next
            }))
        }
        ["mma_async", "sync", "aligned", shape] => multiply(shape, mnemonic, operands),
        _ => Err(format!("modifiers .{}", mnemonic.modifiers.join("."))),
    }
}

/// A as an operand.
enum LeftOperand {
    Descriptor(Reg64),
    Registers([Reg32; 4]),
}

struct Form {
    targets: Vec<Reg32>,
    left: LeftOperand,
    right: Reg64,
    /// Whether d is added, and whether the predicate is negated.
    accumulate: (Pred, bool),
    negative: bool,
    left_mn_major: bool,
    right_mn_major: bool,
    columns: usize,
    bf16: bool,
    half: bool,
}

/// `wgmma.mma_async.sync.aligned.m64nNk16.D.A.B d, a, b, scale-d, scale-a, scale-b {, trans-a}, trans-b`.
fn multiply(shape: &str, mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (bf16, half) = match mnemonic.types[..] {
        [Type::F32, Type::Bf16, Type::Bf16] => (true, false),
        [Type::F32, Type::F16, Type::F16] => (false, false),
        [Type::F16, Type::F16, Type::F16] => (false, true),
        _ => return Err(format!("types {:?}", mnemonic.types)),
    };
    let columns: usize = shape
        .strip_prefix("m64n")
        .and_then(|rest| rest.strip_suffix("k16"))
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| (8..=256).contains(columns) && columns % 8 == 0)
        .ok_or_else(|| format!("shape .{shape}"))?;
    let from_registers = operands.vector(1)? > 1;
    let count = if from_registers { 7 } else { 8 };
    operands.expect(count..=count)?;
    let targets = operands.targets32(0)?;
    if targets.len() * if half { 4 } else { 2 } != columns {
        return Err(format!("{} accumulator registers for {columns} columns", targets.len()));
    }
    let left = if from_registers {
        LeftOperand::Registers(exactly(operands.sources32(1)?)?)
    } else {
        LeftOperand::Descriptor(operands.source64(1)?)
    };
    let scale = |index: usize| match operands.immediate(index)? {
        1 => Ok(false),
        -1 => Ok(true),
        other => Err(format!("a scale of {other}")),
    };
    let negative = scale(4)? != scale(5)?;
    let transposed = |index: usize| match operands.immediate(index)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("a transposition of {other}")),
    };
    let (left_mn_major, right_mn_major) =
        if from_registers { (false, transposed(6)?) } else { (transposed(6)?, transposed(7)?) };
    let (right, accumulate) = (operands.source64(2)?, operands.pred(3)?);
    let form = Form {
        targets,
        left,
        right,
        accumulate,
        negative,
        left_mn_major,
        right_mn_major,
        columns,
        bf16,
        half,
    };
    Ok(Decoded::execute(Class::Mma, move |x, mask| {
        x.expect_whole_warp(mask);
        issue(x, mask, &form);
        x.count_products((K * form.columns / COLUMNS) as u64);
        Flow::Next
    }))
}

fn issue(x: &mut Execution<'_, '_>, mask: Mask, form: &Form) {
    if !x.warp.products.fenced {
        x.finding(Check::AsyncUse, mask, || "no wgmma.fence before the first product".into());
        x.warp.products.fenced = true;
    }
    let left = match form.left {
        LeftOperand::Registers(registers) => {
            let held = Box::new(registers.map(|register| *x.warp.registers.get32(register)));
            Some(Left::Registers(registers, held))
        }
        LeftOperand::Descriptor(register) => {
            matrix(x, mask, register, form.left_mn_major, "a").map(Left::Shared)
        }
    };
    let right = matrix(x, mask, form.right, form.right_mn_major, "b");
    let (Some(left), Some(right)) = (left, right) else { return };
    let (pred, negated) = form.accumulate;
    let holds = x.warp.registers.get_pred(pred) ^ if negated { !0 } else { 0 };
    let accumulate = x.uniform(&std::array::from_fn(|lane| holds >> lane & 1 == 1), mask, "scale-d");
    if accumulate {
        let unwritten = form.targets.iter().find(|target| x.warp.registers.missing(&[target.0]) & mask != 0);
        if let Some(target) = unwritten {
            let lanes = x.warp.registers.missing(&[target.0]) & mask;
            x.block.without_value(target.0, x.at, x.warp.id, lanes);
        }
    }
    let (registers, products) = (&mut x.warp.registers, &mut x.warp.products);
    let held = products.held(&form.targets, registers);
    let tile = match held {
        Held::Accumulator(tile) => tile,
        Held::Values | Held::Mixture => {
            let tiles = tiles(&form.targets, registers, form.half);
            products.promise(&form.targets, registers, tiles.into_iter(), form.half)
        }
    };
    if held == Held::Mixture {
        x.finding(Check::AsyncUse, mask, || {
            "some of these accumulators belong to a product of another shape that is in flight".into()
        });
    }
    let product = Product {
        at: x.at,
        left,
        right,
        columns: form.columns,
        bf16: form.bf16,
        negative: form.negative,
        accumulate,
        tile,
        reading: x.block.shadow.begin_reading(x.warp.id, &x.block.clocks),
        group: 0,
    };
    if touch(x, &product) {
        x.warp.products.start(product);
    } else {
        x.block.shadow.end_reading(product.reading, &x.block.clocks);
    }
}

/// The matrix of a descriptor that all lanes agree on.
fn matrix(
    x: &mut Execution<'_, '_>,
    mask: Mask,
    register: Reg64,
    mn_major: bool,
    name: &str,
) -> Option<Matrix> {
    let descriptors = *x.warp.registers.get64(register);
    let descriptor = x.uniform(&descriptors, mask, "a matrix descriptor");
    match Matrix::decode(descriptor, mn_major) {
        Ok(matrix) => Some(matrix),
        Err(message) => {
            x.finding(Check::Trap, mask, || format!("operand {name}: {message}"));
            None
        }
    }
}

/// What accumulators hold, 8 columns at a time.
fn tiles(targets: &[Reg32], registers: &Registers, half: bool) -> Vec<Tile> {
    if half {
        targets.chunks_exact(2).map(|pair| fragments::gather_c_f16(registers, pair)).collect()
    } else {
        targets.chunks_exact(4).map(|four| fragments::gather_c(registers, four, f32::from_bits)).collect()
    }
}

/// The first row of a warp in its warpgroup's tile.
fn first_row(warp: u32) -> u32 {
    warp % 4 * ROWS as u32
}

/// Checks that the operands in shared memory may be read; from now on they must not change.
fn touch(x: &mut Execution<'_, '_>, product: &Product) -> bool {
    let left = match product.left {
        Left::Shared(matrix) => touch_matrix(x, product.reading, matrix, first_row(x.warp.id), ROWS as u32),
        Left::Registers(..) => true,
    };
    left && touch_matrix(x, product.reading, product.right, 0, product.columns as u32)
}

/// Touches `count` rows (or columns) from `first` on, for 16 k.
fn touch_matrix(x: &mut Execution<'_, '_>, reading: Reading, matrix: Matrix, first: u32, count: u32) -> bool {
    let (lines, chunks) = if matrix.mn_major {
        (0..K as u32, first / 8..(first + count) / 8)
    } else {
        (first..first + count, 0..K as u32 / 8)
    };
    x.shared_matrix(reading, matrix, lines, chunks)
}

fn wait(x: &mut Execution<'_, '_>, keep: u32) {
    let here = x.at;
    while let Some(product) = x.warp.products.due(keep) {
        x.at = product.at;
        x.block.shadow.end_reading(product.reading, &x.block.clocks);
        if let Left::Registers(registers, held) = &product.left
            && (0..4).any(|q| *x.warp.registers.get32(registers[q]) != held[q])
        {
            x.finding(Check::AsyncUse, !0, || {
                "registers of a changed before the product was waited for".into()
            });
        }
        if product.bf16 { compute::<Bf16>(x, &product) } else { compute::<F16>(x, &product) }
    }
    x.at = here;
    x.warp.products.deliver(&mut x.warp.registers, &x.block.kernel.promised);
}

fn compute<P: Packed>(x: &mut Execution<'_, '_>, product: &Product) {
    let shared = x.block.shared.bytes();
    let chunk = |at: u32| -> [f32; 8] {
        let bytes: &[u8; 16] = shared[at as usize..].first_chunk().expect("the chunk was checked");
        let mut values = [0.0; 8];
        for (value, &bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = P::element(u32::from(u16::from_le_bytes(bytes)), 0);
        }
        values
    };
    // by columns, as the accumulator
    let mut a = [[0.0; ROWS]; K];
    match product.left {
        Left::Registers(registers, _) => {
            a = fragments::transposed(&fragments::gather_a::<P, K>(&x.warp.registers, &registers));
        }
        Left::Shared(matrix) => {
            let (first, places) = (first_row(x.warp.id), matrix.places());
            for (half, eight) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                // a block of 8 x 8, line by line
                for line in 0..8 {
                    let line = 8 * half + line;
                    if matrix.mn_major {
                        a[line][8 * eight..][..8]
                            .copy_from_slice(&chunk(places.at(line as u32, first / 8 + eight as u32)));
                    } else {
                        let values = chunk(places.at(first + line as u32, eight as u32));
                        (0..8).for_each(|k| a[8 * eight + k][line] = values[k]);
                    }
                }
            }
        }
    }
    if product.negative {
        a.as_flattened_mut().iter_mut().for_each(|value| *value = -*value);
    }
    let a = Factors::new(a);
    let places = product.right.places();
    let accumulator = x.warp.products.accumulator(product.tile);
    for block in 0..product.columns / COLUMNS {
        if product.right.mn_major {
            let mut b = [[0.0; COLUMNS]; K];
            for (k, b) in b.iter_mut().enumerate() {
                *b = chunk(places.at(k as u32, block as u32));
            }
            accumulator.multiply(block, product.accumulate, &a, &fragments::transposed(&b));
        } else {
            let mut b = [[0.0; K]; COLUMNS];
            for (column, b) in b.iter_mut().enumerate() {
                let first = places.line((block * COLUMNS + column) as u32);
                for (eight, b) in b.as_chunks_mut().0.iter_mut().enumerate() {
                    *b = chunk(places.chunk(first, eight as u32));
                }
            }
            accumulator.multiply(block, product.accumulate, &a, &b);
        }
    }
    x.warp.products.done(product.tile);
}
