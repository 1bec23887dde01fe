//! Typed values of lanes, and the shapes that most instructions have: one result of one to three sources.
//!
//! A closure works on one lane's values; the loops here run it over all 32 lanes, so that the compiler turns
//! it into vector instructions. Lanes outside of the mask are computed too and thrown away: closures must
//! not panic for any bits.

use super::decode::{Decoded, Operands};
use super::{Class, Flow};
use crate::machine::registers::{Pred, Reg32, Reg64, Registers};
use crate::machine::{Mask, WARP};

/// A register bank: 32 or 64 bits a lane.
pub trait Bank: Copy + Default + Send + Sync + 'static {
    /// A register of the bank.
    type Register: Copy + Send + Sync + 'static;

    /// The lanes of a register.
    fn read(registers: &Registers, register: Self::Register) -> &[Self; WARP];

    /// Writes the lanes of `mask`.
    fn write(registers: &mut Registers, register: Self::Register, values: &[Self; WARP], mask: Mask);

    /// The source operand of an index.
    fn source(operands: &mut Operands<'_>, index: usize) -> Result<Self::Register, String>;

    /// The target operand of an index; for `_` a register that nobody reads.
    fn target(operands: &mut Operands<'_>, index: usize) -> Result<Self::Register, String>;
}

impl Bank for u32 {
    type Register = Reg32;

    #[inline(always)]
    fn read(registers: &Registers, register: Reg32) -> &[Self; WARP] {
        registers.get32(register)
    }

    #[inline(always)]
    fn write(registers: &mut Registers, register: Reg32, values: &[Self; WARP], mask: Mask) {
        registers.set32(register, values, mask);
    }

    fn source(operands: &mut Operands<'_>, index: usize) -> Result<Reg32, String> {
        operands.source32(index)
    }

    fn target(operands: &mut Operands<'_>, index: usize) -> Result<Reg32, String> {
        Ok(operands.target32(index)?.unwrap_or_else(|| operands.builder().register32()))
    }
}

impl Bank for u64 {
    type Register = Reg64;

    #[inline(always)]
    fn read(registers: &Registers, register: Reg64) -> &[Self; WARP] {
        registers.get64(register)
    }

    #[inline(always)]
    fn write(registers: &mut Registers, register: Reg64, values: &[Self; WARP], mask: Mask) {
        registers.set64(register, values, mask);
    }

    fn source(operands: &mut Operands<'_>, index: usize) -> Result<Reg64, String> {
        operands.source64(index)
    }

    fn target(operands: &mut Operands<'_>, index: usize) -> Result<Reg64, String> {
        Ok(operands.target64(index)?.unwrap_or_else(|| operands.builder().register64()))
    }
}

/// A value of one lane, and how a register holds it.
pub trait Value: Copy + 'static {
    /// The bank that holds it.
    type Bank: Bank;

    /// From a register's bits.
    fn load(bits: Self::Bank) -> Self;

    /// To a register's bits.
    fn store(self) -> Self::Bank;

    /// The source operand of an index.
    fn source(operands: &mut Operands<'_>, index: usize) -> Result<<Self::Bank as Bank>::Register, String> {
        Self::Bank::source(operands, index)
    }
}

macro_rules! value {
    ($($value:ty, $bank:ty, $load:expr, $store:expr;)*) => {$(
        impl Value for $value {
            type Bank = $bank;

            #[inline(always)]
            fn load(bits: $bank) -> Self {
                $load(bits)
            }

            #[inline(always)]
            fn store(self) -> $bank {
                $store(self)
            }
        }
    )*};
}

value! {
    u32, u32, |bits| bits, |value| value;
    i32, u32, u32::cast_signed, i32::cast_unsigned;
    f32, u32, f32::from_bits, f32::to_bits;
    u64, u64, |bits| bits, |value| value;
    i64, u64, u64::cast_signed, i64::cast_unsigned;
    f64, u64, f64::from_bits, f64::to_bits;
    [f32; 2], u64, |bits| [f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)],
        |[low, high]: Self| u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32;
}

impl Value for u16 {
    type Bank = u32;

    #[inline(always)]
    fn load(bits: u32) -> Self {
        bits as Self
    }

    #[inline(always)]
    fn store(self) -> u32 {
        u32::from(self)
    }

    fn source(operands: &mut Operands<'_>, index: usize) -> Result<Reg32, String> {
        operands.source16(index)
    }
}

impl Value for i16 {
    type Bank = u32;

    #[inline(always)]
    fn load(bits: u32) -> Self {
        bits as Self
    }

    #[inline(always)]
    fn store(self) -> u32 {
        u32::from(self.cast_unsigned())
    }

    fn source(operands: &mut Operands<'_>, index: usize) -> Result<Reg32, String> {
        operands.source16(index)
    }
}

/// The register of a value.
pub type Register<V> = <<V as Value>::Bank as Bank>::Register;

/// `d, a`.
pub fn unary<D: Value, A: Value>(
    class: Class,
    operands: &mut Operands<'_>,
    f: impl Fn(A) -> D + Send + Sync + 'static,
) -> Result<Decoded, String> {
    operands.expect(2..=2)?;
    let (d, a) = (D::Bank::target(operands, 0)?, A::source(operands, 1)?);
    Ok(Decoded::execute(class, move |x, mask| {
        let registers = &mut x.warp.registers;
        let a = A::Bank::read(registers, a);
        let mut out = [D::Bank::default(); WARP];
        for lane in 0..WARP {
            out[lane] = f(A::load(a[lane])).store();
        }
        D::Bank::write(registers, d, &out, mask);
        Flow::Next
    }))
}

/// `d, a, b`.
pub fn binary<D: Value, A: Value, B: Value>(
    class: Class,
    operands: &mut Operands<'_>,
    f: impl Fn(A, B) -> D + Send + Sync + 'static,
) -> Result<Decoded, String> {
    operands.expect(3..=3)?;
    let (d, a, b) = (D::Bank::target(operands, 0)?, A::source(operands, 1)?, B::source(operands, 2)?);
    Ok(Decoded::execute(class, move |x, mask| {
        let registers = &mut x.warp.registers;
        let (a, b) = (A::Bank::read(registers, a), B::Bank::read(registers, b));
        let mut out = [D::Bank::default(); WARP];
        for lane in 0..WARP {
            out[lane] = f(A::load(a[lane]), B::load(b[lane])).store();
        }
        D::Bank::write(registers, d, &out, mask);
        Flow::Next
    }))
}

/// `d, a, b, c`.
pub fn ternary<D: Value, A: Value, B: Value, C: Value>(
    class: Class,
    operands: &mut Operands<'_>,
    f: impl Fn(A, B, C) -> D + Send + Sync + 'static,
) -> Result<Decoded, String> {
    operands.expect(4..=4)?;
    let (d, a) = (D::Bank::target(operands, 0)?, A::source(operands, 1)?);
    let (b, c) = (B::source(operands, 2)?, C::source(operands, 3)?);
    Ok(Decoded::execute(class, move |x, mask| {
        let registers = &mut x.warp.registers;
        let a = A::Bank::read(registers, a);
        let (b, c) = (B::Bank::read(registers, b), C::Bank::read(registers, c));
        let mut out = [D::Bank::default(); WARP];
        for lane in 0..WARP {
            out[lane] = f(A::load(a[lane]), B::load(b[lane]), C::load(c[lane])).store();
        }
        D::Bank::write(registers, d, &out, mask);
        Flow::Next
    }))
}

/// The lanes where a predicate operand holds.
#[inline(always)]
pub fn holds(registers: &Registers, (pred, negated): (Pred, bool)) -> Mask {
    let bits = registers.get_pred(pred);
    if negated { !bits } else { bits }
}

/// The lanes where a condition on two values holds.
#[inline(always)]
pub fn mask_of<V: Value>(a: &[V::Bank; WARP], b: &[V::Bank; WARP], condition: impl Fn(V, V) -> bool) -> Mask {
    let mut mask = 0;
    for lane in 0..WARP {
        mask |= Mask::from(condition(V::load(a[lane]), V::load(b[lane]))) << lane;
    }
    mask
}
