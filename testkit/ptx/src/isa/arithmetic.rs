//! `add`, `sub`, `mul`, `mad`, `fma`, `div`, `rem`, `min`, `max`, `neg`, `abs`: sends each type to its family.

use super::decode::{Decoded, Mnemonic, Operands};
use super::rounding::Rounding;
use super::types::Type;
use super::{float, float16, integer, special};

type Result = std::result::Result<Decoded, String>;

/// Families of types that compute in their own way.
enum Family {
    Integer,
    Single,
    Double,
    Half,
}

fn family(m: &Mnemonic<'_>) -> std::result::Result<Family, String> {
    Ok(match m.only_type()? {
        Type::F32 | Type::F32x2 => Family::Single,
        Type::F64 => Family::Double,
        Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2 => Family::Half,
        Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::U64 | Type::S64 => Family::Integer,
        other => return Err(format!("type {other:?}")),
    })
}

/// `add`.
pub fn add(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::add(m, o),
        Family::Single => float::binary32(m, o, |a, b| a + b, Rounding::add_to_odd),
        Family::Double => float::binary64(m, o, |a, b| a + b),
        Family::Half => float16::binary(m, o, |a, b| a + b),
    }
}

/// `sub`.
pub fn sub(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::sub(m, o),
        Family::Single => float::binary32(m, o, |a, b| a - b, |mode, a, b| mode.add_to_odd(a, -b)),
        Family::Double => float::binary64(m, o, |a, b| a - b),
        Family::Half => float16::binary(m, o, |a, b| a - b),
    }
}

/// `mul`.
pub fn mul(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::mul(m, o),
        // a product of two f32 is exact in f64
        Family::Single => float::binary32(m, o, |a, b| a * b, |_, a, b| a * b),
        Family::Double => float::binary64(m, o, |a, b| a * b),
        Family::Half => float16::binary(m, o, |a, b| a * b),
    }
}

/// `mad`; of floats the same as `fma`.
pub fn mad(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::mad(m, o),
        _ => fma(m, o),
    }
}

/// `fma`.
pub fn fma(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => Err("an integer type".to_owned()),
        Family::Single => float::fma32(m, o),
        Family::Double => float::fma64(m, o),
        Family::Half => float16::fma(m, o),
    }
}

/// `div`.
pub fn div(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::div(m, o),
        Family::Single => special::div32(m, o),
        Family::Double => float::binary64(m, o, |a, b| a / b),
        Family::Half => Err("a 16-bit type".to_owned()),
    }
}

/// `min`.
pub fn min(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::min(m, o),
        Family::Single => float::extremum32(m, o, float::least),
        Family::Double => float::extremum64(m, o, f64::min),
        Family::Half => float16::extremum(m, o, float::least),
    }
}

/// `max`.
pub fn max(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::max(m, o),
        Family::Single => float::extremum32(m, o, float::greatest),
        Family::Double => float::extremum64(m, o, f64::max),
        Family::Half => float16::extremum(m, o, float::greatest),
    }
}

/// `neg`.
pub fn neg(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::neg(m, o),
        Family::Single => float::sign32(m, o, |bits| bits ^ 1 << 31),
        Family::Double => float::sign64(m, o, |bits| bits ^ 1 << 63),
        Family::Half => float16::sign(m, o, |bits| bits ^ 0x8000),
    }
}

/// `abs`.
pub fn abs(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    match family(m)? {
        Family::Integer => integer::abs(m, o),
        Family::Single => float::sign32(m, o, |bits| bits & !(1 << 31)),
        Family::Double => float::sign64(m, o, |bits| bits & !(1 << 63)),
        Family::Half => float16::sign(m, o, |bits| bits & 0x7FFF),
    }
}
