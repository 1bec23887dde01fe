//! mma.sync: d = a * b + c over the registers of one warp. Layouts and accumulation: [`super::fragments`].
//!
//! Integer products are summed exactly and added to c modulo 2^32.
//!
//! Source: PTX ISA, "Warp-level matrix multiply-accumulate operation: mma".

use super::decode::{Decoded, Mnemonic, Operands};
use super::fragments::{self, COLUMNS, Packed, ROWS, S8, Tf32, U8, exactly};
use super::half::{Bf16, F16};
use super::tensor_sums::Factors;
use super::types::Type;
use super::{Class, Flow, tensor_sums};
use crate::machine::registers::Reg32;

/// `mma.sync.aligned.SHAPE.row.col.D.A.B.C d, a, b, c`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let ["sync", "aligned", shape, "row", "col"] = mnemonic.modifiers[..] else {
        return Err("a form other than .sync.aligned.SHAPE.row.col".into());
    };
    operands.expect(4..=4)?;
    use Type::{F32, S32};
    match (shape, &mnemonic.types[..]) {
        ("m16n8k16", [F32, Type::Bf16, Type::Bf16, F32]) => single::<Bf16, 16>(operands),
        ("m16n8k8", [F32, Type::Bf16, Type::Bf16, F32]) => single::<Bf16, 8>(operands),
        ("m16n8k16", [F32, Type::F16, Type::F16, F32]) => single::<F16, 16>(operands),
        ("m16n8k8", [F32, Type::F16, Type::F16, F32]) => single::<F16, 8>(operands),
        ("m16n8k8", [F32, Type::Tf32, Type::Tf32, F32]) => single::<Tf32, 8>(operands),
        ("m16n8k4", [F32, Type::Tf32, Type::Tf32, F32]) => single::<Tf32, 4>(operands),
        ("m16n8k16", [Type::F16, Type::F16, Type::F16, Type::F16]) => half::<16>(operands),
        ("m16n8k8", [Type::F16, Type::F16, Type::F16, Type::F16]) => half::<8>(operands),
        ("m16n8k32", [S32, Type::S8, Type::S8, S32]) => integer::<S8, S8, 32>(operands),
        ("m16n8k32", [S32, Type::U8, Type::U8, S32]) => integer::<U8, U8, 32>(operands),
        ("m16n8k32", [S32, Type::U8, Type::S8, S32]) => integer::<U8, S8, 32>(operands),
        ("m16n8k32", [S32, Type::S8, Type::U8, S32]) => integer::<S8, U8, 32>(operands),
        ("m16n8k16", [S32, Type::S8, Type::S8, S32]) => integer::<S8, S8, 16>(operands),
        _ => Err(format!("shape .{shape} with types {:?}", mnemonic.types)),
    }
}

/// The registers of A and of B, as many as the shape has.
fn factors<P: Packed, const K: usize>(
    operands: &mut Operands<'_>,
) -> Result<(Vec<Reg32>, Vec<Reg32>), String> {
    let (a, b) = (operands.sources32(1)?, operands.sources32(2)?);
    let blocks = K / (4 * P::COUNT);
    if (a.len(), b.len()) != (2 * blocks, blocks) {
        return Err(format!("{} and {} registers for a and b", a.len(), b.len()));
    }
    Ok((a, b))
}

fn single<P: Packed, const K: usize>(operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (a, b) = factors::<P, K>(operands)?;
    let d = exactly::<4>(operands.targets32(0)?)?;
    let c = exactly::<4>(operands.sources32(3)?)?;
    Ok(Decoded::execute(Class::Mma, move |x, mask| {
        x.expect_whole_warp(mask);
        let registers = &mut x.warp.registers;
        let left: [[f32; K]; ROWS] = fragments::gather_a::<P, K>(registers, &a);
        let right: [[f32; COLUMNS]; K] = fragments::gather_b::<P, K>(registers, &b);
        let mut sums = fragments::gather_c(registers, &c, f32::from_bits);
        tensor_sums::multiply_add(&left, &Factors::new(right), &mut sums);
        fragments::scatter_c(registers, &d, &sums, mask);
        x.count_products(K as u64);
        Flow::Next
    }))
}

fn half<const K: usize>(operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (a, b) = factors::<F16, K>(operands)?;
    let d = exactly::<2>(operands.targets32(0)?)?;
    let c = exactly::<2>(operands.sources32(3)?)?;
    Ok(Decoded::execute(Class::Mma, move |x, mask| {
        x.expect_whole_warp(mask);
        let registers = &mut x.warp.registers;
        let left: [[f32; K]; ROWS] = fragments::gather_a::<F16, K>(registers, &a);
        let right: [[f32; COLUMNS]; K] = fragments::gather_b::<F16, K>(registers, &b);
        let mut sums = fragments::gather_c_f16(registers, &c);
        tensor_sums::multiply_add(&left, &Factors::new(right), &mut sums);
        fragments::scatter_c_f16(registers, &d, &sums, mask);
        x.count_products(K as u64);
        Flow::Next
    }))
}

fn integer<A: Packed, B: Packed, const K: usize>(operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let (a, b) = factors::<A, K>(operands)?;
    let d = exactly::<4>(operands.targets32(0)?)?;
    let c = exactly::<4>(operands.sources32(3)?)?;
    Ok(Decoded::execute(Class::Mma, move |x, mask| {
        x.expect_whole_warp(mask);
        let registers = &mut x.warp.registers;
        let left: [[f32; K]; ROWS] = fragments::gather_a::<A, K>(registers, &a);
        let right: [[f32; COLUMNS]; K] = fragments::gather_b::<B, K>(registers, &b);
        // at most 32 * 255^2: exact in f32
        let mut sums = [[0.0; COLUMNS]; ROWS];
        fragments::multiply_add(&left, &right, &mut sums);
        for (q, (&target, &addend)) in d.iter().zip(&c).enumerate() {
            let addend = *registers.get32(addend);
            let products = fragments::lanes_of(&sums, q);
            let total = std::array::from_fn(|lane| {
                addend[lane].wrapping_add_signed(f32::from_bits(products[lane]) as i32)
            });
            registers.set32(target, &total, mask);
        }
        x.count_products(K as u64);
        Flow::Next
    }))
}
