//! Integer arithmetic. What PTX leaves open (division by zero) gives all bits set.

use super::Class;
use super::decode::{Decoded, Mnemonic, Operands};
use super::types::Type;
use super::values::{binary, ternary, unary};

type Result = std::result::Result<Decoded, String>;

/// One closure for all integer types of `add`, `sub`, ...
macro_rules! each {
    ($m:expr, $shape:ident, $o:expr, |$($v:ident),+| $body:expr) => {
        match $m.only_type()? {
            Type::U16 => $shape(Class::Integer, $o, |$($v: u16),+| -> u16 { $body }),
            Type::S16 => $shape(Class::Integer, $o, |$($v: i16),+| -> i16 { $body }),
            Type::U32 => $shape(Class::Integer, $o, |$($v: u32),+| -> u32 { $body }),
            Type::S32 => $shape(Class::Integer, $o, |$($v: i32),+| -> i32 { $body }),
            Type::U64 => $shape(Class::Integer, $o, |$($v: u64),+| -> u64 { $body }),
            Type::S64 => $shape(Class::Integer, $o, |$($v: i64),+| -> i64 { $body }),
            other => Err(format!("type {other:?}")),
        }
    };
}

/// The same for types with a sign.
macro_rules! each_signed {
    ($m:expr, $shape:ident, $o:expr, |$($v:ident),+| $body:expr) => {
        match $m.only_type()? {
            Type::S16 => $shape(Class::Integer, $o, |$($v: i16),+| -> i16 { $body }),
            Type::S32 => $shape(Class::Integer, $o, |$($v: i32),+| -> i32 { $body }),
            Type::S64 => $shape(Class::Integer, $o, |$($v: i64),+| -> i64 { $body }),
            other => Err(format!("type {other:?}")),
        }
    };
}

/// `add{.sat}`.
pub fn add(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["sat"])?;
    match m.has("sat") {
        true if m.types == [Type::S32] => binary(Class::Integer, o, i32::saturating_add),
        true => Err("modifier `.sat` of another type than .s32".to_owned()),
        false => each!(m, binary, o, |a, b| a.wrapping_add(b)),
    }
}

/// `sub{.sat}`.
pub fn sub(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["sat"])?;
    match m.has("sat") {
        true if m.types == [Type::S32] => binary(Class::Integer, o, i32::saturating_sub),
        true => Err("modifier `.sat` of another type than .s32".to_owned()),
        false => each!(m, binary, o, |a, b| a.wrapping_sub(b)),
    }
}

/// The halves of a product.
const PARTS: [&str; 3] = ["lo", "hi", "wide"];

/// `mul{.lo, .hi, .wide}`.
pub fn mul(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&PARTS)?;
    let class = Class::Integer;
    match (m.one_of(&PARTS)?, m.only_type()?) {
        (0, _) => each!(m, binary, o, |a, b| a.wrapping_mul(b)),
        (1, Type::U16) => binary(class, o, |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16),
        (1, Type::S16) => binary(class, o, |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16),
        (1, Type::U32) => binary(class, o, high_u32),
        (1, Type::S32) => binary(class, o, high_i32),
        (1, Type::U64) => binary(class, o, high_u64),
        (1, Type::S64) => binary(class, o, high_i64),
        (2, Type::U16) => binary(class, o, |a: u16, b: u16| u32::from(a) * u32::from(b)),
        (2, Type::S16) => binary(class, o, |a: i16, b: i16| i32::from(a) * i32::from(b)),
        (2, Type::U32) => binary(class, o, |a: u32, b: u32| u64::from(a) * u64::from(b)),
        (2, Type::S32) => binary(class, o, |a: i32, b: i32| i64::from(a) * i64::from(b)),
        (_, other) => Err(format!("type {other:?}")),
    }
}

/// `mad{.lo, .hi, .wide}`.
pub fn mad(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&PARTS)?;
    let class = Class::Integer;
    match (m.one_of(&PARTS)?, m.only_type()?) {
        (0, _) => each!(m, ternary, o, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        (1, Type::U32) => ternary(class, o, |a: u32, b: u32, c: u32| high_u32(a, b).wrapping_add(c)),
        (1, Type::S32) => ternary(class, o, |a: i32, b: i32, c: i32| high_i32(a, b).wrapping_add(c)),
        (1, Type::U64) => ternary(class, o, |a: u64, b: u64, c: u64| high_u64(a, b).wrapping_add(c)),
        (1, Type::S64) => ternary(class, o, |a: i64, b: i64, c: i64| high_i64(a, b).wrapping_add(c)),
        (2, Type::U16) => {
            ternary(class, o, |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
        }
        (2, Type::S16) => {
            ternary(class, o, |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))
        }
        (2, Type::U32) => {
            ternary(class, o, |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
        }
        (2, Type::S32) => {
            ternary(class, o, |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))
        }
        (_, other) => Err(format!("type {other:?}")),
    }
}

fn high_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

fn high_i32(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn high_i64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// `div`, towards zero.
pub fn div(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    each!(m, binary, o, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) })
}

/// `rem`, with the sign of the dividend.
pub fn rem(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    each!(m, binary, o, |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) })
}

/// `min{.relu}`.
pub fn min(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["relu"])?;
    match m.has("relu") {
        true if m.types == [Type::S32] => binary(Class::Integer, o, |a: i32, b: i32| a.min(b).max(0)),
        true => Err("modifier `.relu` of another type than .s32".to_owned()),
        false => each!(m, binary, o, |a, b| a.min(b)),
    }
}

/// `max{.relu}`.
pub fn max(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["relu"])?;
    match m.has("relu") {
        true if m.types == [Type::S32] => binary(Class::Integer, o, |a: i32, b: i32| a.max(b).max(0)),
        true => Err("modifier `.relu` of another type than .s32".to_owned()),
        false => each!(m, binary, o, |a, b| a.max(b)),
    }
}

/// `neg`.
pub fn neg(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    each_signed!(m, unary, o, |a| a.wrapping_neg())
}

/// `abs`.
pub fn abs(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    each_signed!(m, unary, o, |a| a.wrapping_abs())
}

/// `sad`: `c + |a - b|`.
pub fn sad(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    each!(m, ternary, o, |a, b, c| c.wrapping_add(if a > b { a.wrapping_sub(b) } else { b.wrapping_sub(a) }))
}
