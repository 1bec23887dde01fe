//! Division and the special functions, exact and approximate.
//!
//! The maximum errors are those of the PTX ISA; see [`super::approximate`] for what becomes of them.

use super::approximate::perturb;
use super::decode::{Decoded, Mnemonic, Operands};
use super::float::{Around, NAN, canonical};
use super::rounding::Rounding;
use super::types::Type;
use super::values::{Bank, Value, unary};
use super::{Class, Flow, float16};
use crate::machine::WARP;

type Result = std::result::Result<Decoded, String>;

/// `d, a` of f32 with a documented relative error.
fn approximate(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    relative: f32,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> Result {
    m.allow(&["approx", "ftz"])?;
    m.one_of(&["approx"])?;
    if m.types != [Type::F32] {
        return Err(format!("type {:?}", m.types));
    }
    o.expect(2..=2)?;
    let (d, a) = (u32::target(o, 0)?, f32::source(o, 1)?);
    let around = Around { rounding: Rounding::Nearest, ftz: m.has("ftz"), sat: false };
    Ok(Decoded::execute(Class::Special, move |x, mask| {
        let inputs = x.warp.registers.get32(a);
        let mut out = [0; WARP];
        for lane in 0..WARP {
            out[lane] = around.result(f(around.input(f32::from_bits(inputs[lane])))).to_bits();
        }
        if let Some(seed) = x.block.seed {
            for lane in 0..WARP {
                let moved = perturb(f32::from_bits(out[lane]), u64::from(inputs[lane]), relative, seed);
                out[lane] = moved.to_bits();
            }
        }
        x.warp.registers.set32(d, &out, mask);
        Flow::Next
    }))
}

/// `rcp`, `sqrt` to nearest.
fn exact(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    single: impl Fn(f32) -> f32 + Send + Sync + 'static,
    double: impl Fn(f64) -> f64 + Send + Sync + 'static,
) -> Result {
    m.allow(&["rn", "ftz"])?;
    m.one_of(&["rn"])?;
    match m.only_type()? {
        Type::F32 => {
            let around = Around { rounding: Rounding::Nearest, ftz: m.has("ftz"), sat: false };
            unary(Class::Special, o, move |a: f32| around.result(single(around.input(a))))
        }
        Type::F64 if !m.has("ftz") => unary(Class::Special, o, double),
        other => Err(format!("type {other:?}")),
    }
}

/// `ex2.approx`.
pub fn ex2(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match m.only_type()? {
        Type::F32 => approximate(m, o, 2.0_f32.powi(-22), f32::exp2),
        _ => float16::special(m, o, f32::exp2),
    }
}

/// `lg2.approx`. The documented error is absolute near 1; the relative one holds elsewhere.
pub fn lg2(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    approximate(m, o, 2.0_f32.powi(-22), f32::log2)
}

/// `rcp.approx`, `rcp.rn`.
pub fn rcp(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match (m.has("approx"), &m.types[..]) {
        (true, [Type::F64]) => upper_half(m, o, f64::recip),
        (true, _) => approximate(m, o, 2.0_f32.powi(-23), f32::recip),
        (false, _) => exact(m, o, f32::recip, f64::recip),
    }
}

/// The approximate forms of f64 work on the upper 32 bits; the lower ones of the result are zero.
fn upper_half(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    f: impl Fn(f64) -> f64 + Send + Sync + 'static,
) -> Result {
    m.allow(&["approx", "ftz"])?;
    m.one_of(&["ftz"])?;
    let flush = |value: f64| if value.is_subnormal() { 0.0_f64.copysign(value) } else { value };
    unary(Class::Special, o, move |a: f64| {
        let input = flush(f64::from_bits(a.to_bits() & !0xFFFF_FFFF));
        flush(f64::from_bits(f(input).to_bits() & !0xFFFF_FFFF))
    })
}

/// `sqrt.approx`, `sqrt.rn`.
pub fn sqrt(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match m.has("approx") {
        true => approximate(m, o, 2.0_f32.powi(-23), f32::sqrt),
        // said once more, because to the Rust compiler the root of a negative number is any NaN
        false => exact(m, o, |a| if a < 0.0 { f32::from_bits(NAN) } else { a.sqrt() }, f64::sqrt),
    }
}

/// `rsqrt.approx`.
pub fn rsqrt(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match m.only_type()? {
        Type::F64 if m.has("ftz") => upper_half(m, o, |a| 1.0 / a.sqrt()),
        Type::F64 => {
            m.allow(&["approx"])?;
            unary(Class::Special, o, |a: f64| 1.0 / a.sqrt())
        }
        _ => approximate(m, o, 2.0_f32.powf(-22.9), |a| (1.0 / f64::from(a).sqrt()) as f32),
    }
}

/// `sin.approx`. The documented error is absolute, 2^-20.5 in -2 pi .. 2 pi.
pub fn sin(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    approximate(m, o, 2.0_f32.powf(-20.5), f32::sin)
}

/// `cos.approx`. See [`sin`].
pub fn cos(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    approximate(m, o, 2.0_f32.powf(-20.5), f32::cos)
}

/// `tanh.approx`.
pub fn tanh(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match m.only_type()? {
        Type::F32 => approximate(m, o, 2.0_f32.powi(-11), f32::tanh),
        _ => float16::special(m, o, f32::tanh),
    }
}

/// `div.rn`, `div.full`, `div.approx` of f32.
pub fn div32(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["rn", "full", "approx", "ftz"])?;
    let form = m.one_of(&["rn", "full", "approx"])?;
    if m.types != [Type::F32] {
        return Err(format!("type {:?}", m.types));
    }
    o.expect(3..=3)?;
    let (d, a, b) = (u32::target(o, 0)?, f32::source(o, 1)?, f32::source(o, 2)?);
    let around = Around { rounding: Rounding::Nearest, ftz: m.has("ftz"), sat: false };
    let class = if form == 0 { Class::Float } else { Class::Special };
    Ok(Decoded::execute(class, move |x, mask| {
        let (a, b) = (x.warp.registers.get32(a), x.warp.registers.get32(b));
        let mut out = [0; WARP];
        for lane in 0..WARP {
            let (a, b) = (around.input(f32::from_bits(a[lane])), around.input(f32::from_bits(b[lane])));
            let quotient = if form == 2 { divide_approximately(a, b) } else { canonical(a / b) };
            out[lane] = around.result(quotient).to_bits();
        }
        if let Some(seed) = x.block.seed.filter(|_| form != 0) {
            for lane in 0..WARP {
                let input = u64::from(a[lane]) << 32 | u64::from(b[lane]);
                // 2 ulp; an ulp is at least 2^-24 of its value
                let moved = perturb(f32::from_bits(out[lane]), input, 2.0_f32.powi(-23), seed);
                out[lane] = moved.to_bits();
            }
        }
        x.warp.registers.set32(d, &out, mask);
        Flow::Next
    }))
}

/// `a * (1 / b)`: the reciprocal of a divisor above 2^126 is subnormal and counts as zero.
#[inline(always)]
fn divide_approximately(a: f32, b: f32) -> f32 {
    let huge = b.is_finite() && b.abs() > 2.0_f32.powi(126);
    canonical(if huge { a * 0.0_f32.copysign(b) } else { a / b })
}
