//! `cvt`: between integers, floats and packed floats.

use super::Class;
use super::convert_packed;
use super::decode::{Decoded, Mnemonic, Operands};
use super::float::{NAN, canonical, flush, saturate};
use super::half::{Bf16, F16, Float16};
use super::rounding::{MODES, Rounding, narrow_to_odd};
use super::types::Type;
use super::values::{Value, unary};

type Result = std::result::Result<Decoded, String>;

/// Rounding of a float to an integer, in the order of [`INTEGER_MODES`].
const INTEGER_MODES: [&str; 4] = ["rni", "rzi", "rmi", "rpi"];

/// Every modifier of a conversion.
const KNOWN: [&str; 13] =
    ["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "relu", "satfinite"];

/// `cvt.to.from`.
pub fn cvt(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&KNOWN)?;
    let (to, from) = match m.types[..] {
        [to, from] => (to, from),
        _ => return Err(format!("needs two types, has {}", m.types.len())),
    };
    match (is_float(to), is_float(from)) {
        _ if convert_packed::takes(to, from) => convert_packed::cvt(m, o, to, from),
        (Some(true), Some(true)) => float_to_float(m, o, to, from),
        (Some(true), Some(false)) => integer_to_float(m, o, to, from),
        (Some(false), Some(true)) => float_to_integer(m, o, to, from),
        (Some(false), Some(false)) => integer_to_integer(m, o, to, from),
        _ => Err(format!("types {to:?} and {from:?}")),
    }
}

/// Whether a scalar type is a float or an integer; `None` for others.
fn is_float(ty: Type) -> Option<bool> {
    match ty {
        Type::F16 | Type::Bf16 | Type::F32 | Type::F64 => Some(true),
        Type::U8 | Type::S8 | Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::U64 | Type::S64 => {
            Some(false)
        }
        _ => None,
    }
}

/// The low bits of a register as an integer of a type.
#[inline(always)]
fn widen(bits: u64, ty: Type) -> i128 {
    let unused = 64 - 8 * ty.bytes();
    if ty.signed() {
        i128::from((bits << unused).cast_signed() >> unused)
    } else {
        i128::from(bits << unused >> unused)
    }
}

/// The least and greatest integer of a type.
fn limits(ty: Type) -> (i128, i128) {
    let bits = 8 * ty.bytes();
    if ty.signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// An integer of a type as a register of `width` bits holds it: signed ones fill the register.
#[inline(always)]
fn narrow(value: u64, ty: Type, width: u32) -> u64 {
    let unused = 64 - 8 * ty.bytes();
    let value = if ty.signed() {
        ((value << unused).cast_signed() >> unused).cast_unsigned()
    } else {
        value << unused >> unused
    };
    value << (64 - width) >> (64 - width)
}

/// A unary instruction on raw bits, whatever banks its operands are in.
fn raw(
    class: Class,
    o: &mut Operands<'_>,
    (to, from): (u32, u32),
    f: impl Fn(u64) -> u64 + Send + Sync + 'static,
) -> Result {
    match (to == 64, from == 64) {
        (true, true) => unary(class, o, f),
        (true, false) => unary(class, o, move |bits: u32| f(u64::from(bits))),
        (false, true) => unary(class, o, move |bits: u64| f(bits) as u32),
        (false, false) => unary(class, o, move |bits: u32| f(u64::from(bits)) as u32),
    }
}

fn integer_to_integer(m: &Mnemonic<'_>, o: &mut Operands<'_>, to: Type, from: Type) -> Result {
    m.allow(&["sat"])?;
    let widths = (o.width(0, to.bytes())?, o.width(1, from.bytes())?);
    if m.has("sat") {
        let (least, greatest) = limits(to);
        let saturated = move |bits| widen(bits, from).clamp(least, greatest) as u64;
        return raw(Class::Integer, o, widths, move |bits| narrow(saturated(bits), to, widths.0));
    }
    raw(Class::Integer, o, widths, move |bits| narrow(narrow(bits, from, 64), to, widths.0))
}

fn integer_to_float(m: &Mnemonic<'_>, o: &mut Operands<'_>, to: Type, from: Type) -> Result {
    m.allow(&[&MODES[..], &["ftz", "sat"]].concat())?;
    let mode = Rounding::of(m.one_of(&MODES)?);
    let (sat, class) = (m.has("sat"), Class::Convert);
    let from_width = o.width(1, from.bytes())?;
    // round-to-odd keeps enough for any further rounding
    let wide = move |bits| integer_to_odd(widen(bits, from));
    match to {
        Type::F64 if mode == Rounding::Nearest && !sat => {
            raw(class, o, (64, from_width), move |bits| (widen(bits, from) as f64).to_bits())
        }
        Type::F32 if mode == Rounding::Nearest && !sat && from == Type::S32 => {
            unary(class, o, |a: i32| a as f32)
        }
        Type::F32 if mode == Rounding::Nearest && !sat && from == Type::U32 => {
            unary(class, o, |a: u32| a as f32)
        }
        Type::F32 => raw(class, o, (32, from_width), move |bits| {
            let value = mode.to_f32(wide(bits));
            u64::from((if sat { saturate(value) } else { value }).to_bits())
        }),
        Type::F16 if !sat => {
            raw(class, o, (16, from_width), move |bits| u64::from(round16::<F16>(wide(bits), mode).0))
        }
        Type::Bf16 if !sat => {
            raw(class, o, (16, from_width), move |bits| u64::from(round16::<Bf16>(wide(bits), mode).0))
        }
        other => Err(format!("type {other:?} with these modifiers")),
    }
}

/// An integer as an f64, rounded to odd.
fn integer_to_odd(value: i128) -> f64 {
    let nearest = value as f64;
    let back = nearest as i128;
    if back == value || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    let beyond = back.abs() > value.abs();
    f64::from_bits(if beyond { nearest.to_bits() - 1 } else { nearest.to_bits() + 1 })
}

fn float_to_integer(m: &Mnemonic<'_>, o: &mut Operands<'_>, to: Type, from: Type) -> Result {
    m.allow(&[&INTEGER_MODES[..], &["ftz", "sat"]].concat())?;
    let mode = m.one_of(&INTEGER_MODES)?;
    let ftz = m.has("ftz");
    let widths = (o.width(0, to.bytes())?, 8 * from.bytes());
    let (least, greatest) = limits(to);
    // NaN is zero in narrow conversions and the top bit in wide ones
    let nan = if to.bytes() == 8 || from == Type::F64 { 1_u64 << (8 * to.bytes() - 1) } else { 0 };
    raw(Class::Convert, o, widths, move |bits| {
        let value = round_to_integer(to_f64(bits, from, ftz), mode);
        let integer = if value.is_nan() { nan } else { (value as i128).clamp(least, greatest) as u64 };
        narrow(integer, to, widths.0)
    })
}

fn round_to_integer(value: f64, mode: usize) -> f64 {
    match mode {
        0 => value.round_ties_even(),
        1 => value.trunc(),
        2 => value.floor(),
        _ => value.ceil(),
    }
}

/// The bits of a float, exactly.
#[inline(always)]
fn to_f64(bits: u64, ty: Type, ftz: bool) -> f64 {
    match ty {
        Type::F16 => f64::from(F16(bits as u16).to_f32()),
        Type::Bf16 => f64::from(Bf16(bits as u16).to_f32()),
        Type::F32 if ftz => f64::from(flush(f32::from_bits(bits as u32))),
        Type::F32 => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

/// An f64 as an f32, to nearest: of a NaN the upper bits, made quiet.
fn narrow_double(value: f64) -> f32 {
    let bits = value.to_bits();
    let quiet = (bits >> 32) as u32 & 0x8000_0000 | 0x7FC0_0000 | (bits >> 29) as u32 & 0x003F_FFFF;
    if value.is_nan() { f32::from_bits(quiet) } else { value as f32 }
}

fn float_to_float(m: &Mnemonic<'_>, o: &mut Operands<'_>, to: Type, from: Type) -> Result {
    m.allow(&[&MODES[..], &INTEGER_MODES[..], &["ftz", "sat", "relu"]].concat())?;
    let class = Class::Convert;
    let integral = INTEGER_MODES.iter().any(|mode| m.has(mode));
    let narrows = to.bytes() < from.bytes() || (to != from && to.bytes() == from.bytes());
    if narrows && !MODES.iter().any(|mode| m.has(mode)) {
        return Err("needs a rounding mode".to_owned());
    }
    match (to, from, &m.modifiers[..]) {
        (Type::F32, Type::F16, []) => return unary(class, o, |a: F16| canonical(a.to_f32())),
        (Type::F32, Type::Bf16, []) => return unary(class, o, |a: Bf16| a.to_f32()),
        (Type::F16, Type::F32, ["rn"]) => return unary(class, o, F16::from_f32),
        (Type::Bf16, Type::F32, ["rn"]) => return unary(class, o, Bf16::from_f32),
        (Type::F64, Type::F32, []) => return unary(class, o, |a: f32| f64::from(a)),
        (Type::F32, Type::F64, ["rn"]) => return unary(class, o, narrow_double),
        _ => {}
    }
    let mode = if integral || !narrows { Rounding::Nearest } else { Rounding::of(m.one_of(&MODES)?) };
    let integer_mode = if integral { Some(m.one_of(&INTEGER_MODES)?) } else { None };
    let (ftz, sat, relu) = (m.has("ftz"), m.has("sat"), m.has("relu"));
    raw(class, o, (8 * to.bytes(), 8 * from.bytes()), move |bits| {
        let mut value = to_f64(bits, from, ftz);
        if let Some(mode) = integer_mode {
            value = round_to_integer(value, mode);
        }
        if sat {
            value = if value > 0.0 { value.min(1.0) } else { 0.0 };
        }
        if relu && value <= 0.0 {
            value = 0.0;
        }
        from_f64(value, to, mode, ftz)
    })
}

/// A float's bits in a type, rounded once.
fn from_f64(value: f64, ty: Type, mode: Rounding, ftz: bool) -> u64 {
    match ty {
        Type::F16 => u64::from(round16::<F16>(value, mode).0),
        Type::Bf16 => u64::from(round16::<Bf16>(value, mode).0),
        Type::F32 if value.is_nan() => u64::from(NAN),
        Type::F32 => {
            let rounded = mode.to_f32(value);
            u64::from((if ftz { flush(rounded) } else { rounded }).to_bits())
        }
        _ => value.to_bits(),
    }
}

/// A 16-bit format's precision, least normal exponent and greatest value.
pub(super) trait Format: Float16 + Value<Bank = u32> {
    const PRECISION: i32;
    const MINIMUM: i32;
    const GREATEST: f64;
}

impl Format for F16 {
    const PRECISION: i32 = 11;
    const MINIMUM: i32 = -14;
    const GREATEST: f64 = 65504.0;
}

impl Format for Bf16 {
    const PRECISION: i32 = 8;
    const MINIMUM: i32 = -126;
    const GREATEST: f64 = 3.389_531_389_251_535_5e38;
}

/// An f64 in a 16-bit format, rounded once.
pub(super) fn round16<H: Format>(value: f64, mode: Rounding) -> H {
    if mode == Rounding::Nearest || !value.is_finite() {
        return H::from_f32(narrow_to_odd(value));
    }
    let negative = value.is_sign_negative();
    let magnitude = mode.to_format(value.abs(), negative, H::PRECISION, H::MINIMUM);
    // beyond the greatest value only a mode that grows magnitudes gives infinity
    let grew = magnitude > value.abs();
    let bounded = match magnitude > H::GREATEST {
        true if grew || mode.grows(negative) => f64::INFINITY,
        true => H::GREATEST,
        false => magnitude,
    };
    H::from_f32(bounded.copysign(value) as f32)
}
