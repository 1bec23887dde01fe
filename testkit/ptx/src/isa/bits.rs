//! Logic, shifts and bit fields.

use super::decode::{Decoded, Mnemonic, Operands};
use super::types::Type;
use super::values::{binary, holds, ternary, unary};
use super::{Class, Flow};
use crate::machine::registers::Pred;
use crate::machine::{Mask, WARP};

type Result = std::result::Result<Decoded, String>;

const CLASS: Class = Class::Integer;

/// `and`, `or`, `xor`.
fn logic(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    small: impl Fn(u32, u32) -> u32 + Send + Sync + 'static,
    large: impl Fn(u64, u64) -> u64 + Send + Sync + 'static,
) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 => binary(CLASS, o, move |a: u16, b: u16| small(u32::from(a), u32::from(b)) as u16),
        Type::B32 => binary(CLASS, o, small),
        Type::B64 => binary(CLASS, o, large),
        Type::Pred => {
            o.expect(3..=3)?;
            let (d, a, b) = (target_pred(o)?, o.pred(1)?, o.pred(2)?);
            Ok(Decoded::execute(Class::Compare, move |x, mask| {
                let registers = &mut x.warp.registers;
                let result = small(holds(registers, a), holds(registers, b));
                registers.set_pred(d, result, mask);
                Flow::Next
            }))
        }
        other => Err(format!("type {other:?}")),
    }
}

fn target_pred(o: &mut Operands<'_>) -> std::result::Result<Pred, String> {
    Ok(o.target_pred(0)?.unwrap_or_else(|| o.builder().predicate()))
}

/// `and`.
pub fn and(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    logic(m, o, |a, b| a & b, |a, b| a & b)
}

/// `or`.
pub fn or(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    logic(m, o, |a, b| a | b, |a, b| a | b)
}

/// `xor`.
pub fn xor(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    logic(m, o, |a, b| a ^ b, |a, b| a ^ b)
}

/// `not`.
pub fn not(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 => unary(CLASS, o, |a: u16| !a),
        Type::B32 => unary(CLASS, o, |a: u32| !a),
        Type::B64 => unary(CLASS, o, |a: u64| !a),
        Type::Pred => {
            o.expect(2..=2)?;
            let (d, a) = (target_pred(o)?, o.pred(1)?);
            Ok(Decoded::execute(Class::Compare, move |x, mask| {
                let result = !holds(&x.warp.registers, a);
                x.warp.registers.set_pred(d, result, mask);
                Flow::Next
            }))
        }
        other => Err(format!("type {other:?}")),
    }
}

/// `cnot`: whether all bits are zero.
pub fn cnot(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 => unary(CLASS, o, |a: u16| u16::from(a == 0)),
        Type::B32 => unary(CLASS, o, |a: u32| u32::from(a == 0)),
        Type::B64 => unary(CLASS, o, |a: u64| u64::from(a == 0)),
        other => Err(format!("type {other:?}")),
    }
}

/// `shl`: beyond the width all bits are gone.
pub fn shl(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 => binary(CLASS, o, |a: u16, n: u32| if n > 15 { 0 } else { a << n }),
        Type::B32 => binary(CLASS, o, |a: u32, n: u32| if n > 31 { 0 } else { a << n }),
        Type::B64 => binary(CLASS, o, |a: u64, n: u32| if n > 63 { 0 } else { a << n }),
        other => Err(format!("type {other:?}")),
    }
}

/// `shr`: beyond the width only copies of the sign are left.
pub fn shr(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 | Type::U16 => binary(CLASS, o, |a: u16, n: u32| if n > 15 { 0 } else { a >> n }),
        Type::B32 | Type::U32 => binary(CLASS, o, |a: u32, n: u32| if n > 31 { 0 } else { a >> n }),
        Type::B64 | Type::U64 => binary(CLASS, o, |a: u64, n: u32| if n > 63 { 0 } else { a >> n }),
        Type::S16 => binary(CLASS, o, |a: i16, n: u32| a >> n.min(15)),
        Type::S32 => binary(CLASS, o, |a: i32, n: u32| a >> n.min(31)),
        Type::S64 => binary(CLASS, o, |a: i64, n: u32| a >> n.min(63)),
        other => Err(format!("type {other:?}")),
    }
}

/// `shf`: shifts `b:a` and keeps one half.
pub fn shf(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["l", "r", "clamp", "wrap"])?;
    if m.types != [Type::B32] {
        return Err(format!("type {:?}", m.types));
    }
    let wide = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
    let wrap = m.one_of(&["clamp", "wrap"])? == 1;
    let amount = move |n: u32| if wrap { n & 31 } else { n.min(32) };
    match m.one_of(&["l", "r"])? {
        0 => ternary(CLASS, o, move |a: u32, b: u32, n: u32| (wide(a, b) << amount(n) >> 32) as u32),
        _ => ternary(CLASS, o, move |a: u32, b: u32, n: u32| (wide(a, b) >> amount(n)) as u32),
    }
}

/// `brev`.
pub fn brev(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B32 => unary(CLASS, o, u32::reverse_bits),
        Type::B64 => unary(CLASS, o, u64::reverse_bits),
        other => Err(format!("type {other:?}")),
    }
}

/// `popc`.
pub fn popc(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B32 => unary(CLASS, o, u32::count_ones),
        Type::B64 => unary(CLASS, o, u64::count_ones),
        other => Err(format!("type {other:?}")),
    }
}

/// `clz`.
pub fn clz(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::B32 => unary(CLASS, o, u32::leading_zeros),
        Type::B64 => unary(CLASS, o, u64::leading_zeros),
        other => Err(format!("type {other:?}")),
    }
}

/// `bfind`: the place of the highest bit that differs from the sign; all bits set where there is none.
pub fn bfind(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["shiftamt"])?;
    let shift = m.has("shiftamt");
    let place = move |zeros: u32, width: u32| match (zeros < width, shift) {
        (false, _) => !0,
        (true, true) => zeros,
        (true, false) => width - 1 - zeros,
    };
    match m.only_type()? {
        Type::U32 => unary(CLASS, o, move |a: u32| place(a.leading_zeros(), 32)),
        Type::S32 => unary(CLASS, o, move |a: i32| place((a ^ a >> 31).leading_zeros(), 32)),
        Type::U64 => unary(CLASS, o, move |a: u64| place(a.leading_zeros(), 64)),
        Type::S64 => unary(CLASS, o, move |a: i64| place((a ^ a >> 63).leading_zeros(), 64)),
        other => Err(format!("type {other:?}")),
    }
}

/// The lowest `length` bits; all from 64 on.
fn ones(length: u32) -> u64 {
    if length > 63 { !0 } else { (1 << length) - 1 }
}

/// Bits `place` .. `place + length` of `value`, filled up with `sign`.
fn extract(value: u64, sign: bool, place: u32, length: u32, width: u32) -> u64 {
    let length = length & 0xFF;
    let place = place & 0xFF;
    let inside = length.min(width.saturating_sub(place));
    let field = if place < width { value >> place & ones(inside) } else { 0 };
    if sign { field | !ones(inside) } else { field }
}

/// `bfe`.
pub fn bfe(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    // the sign is the field's highest bit, or the value's where the field is longer
    let sign = |value: u64, place: u32, length: u32, width: u32| {
        let top = ((place & 0xFF) + (length & 0xFF)).saturating_sub(1).min(width - 1);
        length & 0xFF != 0 && value >> top & 1 == 1
    };
    match m.only_type()? {
        Type::U32 => {
            ternary(CLASS, o, |a: u32, b: u32, c: u32| extract(u64::from(a), false, b, c, 32) as u32)
        }
        Type::S32 => ternary(CLASS, o, move |a: u32, b: u32, c: u32| {
            extract(u64::from(a), sign(u64::from(a), b, c, 32), b, c, 32) as u32
        }),
        Type::U64 => ternary(CLASS, o, |a: u64, b: u32, c: u32| extract(a, false, b, c, 64)),
        Type::S64 => ternary(CLASS, o, move |a: u64, b: u32, c: u32| extract(a, sign(a, b, c, 64), b, c, 64)),
        other => Err(format!("type {other:?}")),
    }
}

/// `bfi`: `a`'s low bits into `b`.
pub fn bfi(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    o.expect(5..=5)?;
    let (place, length) = (o.source32(3)?, o.source32(4)?);
    let insert = |a: u64, b: u64, place: u32, length: u32| {
        let (place, length) = (place & 0xFF, length & 0xFF);
        let field = if place > 63 { 0 } else { ones(length) << place };
        b & !field | (if place > 63 { 0 } else { a << place }) & field
    };
    match m.only_type()? {
        Type::B32 => {
            let (d, a, b) = (o.target32(0)?, o.source32(1)?, o.source32(2)?);
            let d = d.unwrap_or_else(|| o.builder().register32());
            Ok(Decoded::execute(CLASS, move |x, mask| {
                let registers = &mut x.warp.registers;
                let (a, b) = (registers.get32(a), registers.get32(b));
                let (place, length) = (registers.get32(place), registers.get32(length));
                let mut out = [0; WARP];
                for lane in 0..WARP {
                    let (a, b) = (u64::from(a[lane]), u64::from(b[lane]));
                    out[lane] = insert(a, b, place[lane], length[lane]) as u32;
                }
                registers.set32(d, &out, mask);
                Flow::Next
            }))
        }
        Type::B64 => {
            let (d, a, b) = (o.target64(0)?, o.source64(1)?, o.source64(2)?);
            let d = d.unwrap_or_else(|| o.builder().register64());
            Ok(Decoded::execute(CLASS, move |x, mask| {
                let registers = &mut x.warp.registers;
                let (a, b) = (registers.get64(a), registers.get64(b));
                let (place, length) = (registers.get32(place), registers.get32(length));
                let mut out = [0; WARP];
                for lane in 0..WARP {
                    out[lane] = insert(a[lane], b[lane], place[lane], length[lane]);
                }
                registers.set64(d, &out, mask);
                Flow::Next
            }))
        }
        other => Err(format!("type {other:?}")),
    }
}

/// `lop3`: bit `a * 4 + b * 2 + c` of the table.
pub fn lop3(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    if m.types != [Type::B32] {
        return Err(format!("type {:?}", m.types));
    }
    o.expect(5..=5)?;
    let table = o.immediate(4)? as u32;
    // each row of the table that gives 1 is a product of a, b, c or their negations
    let row = move |index: u32| if table >> index & 1 == 1 { !0 } else { 0 };
    let rows: [Mask; 8] = std::array::from_fn(|index| row(index as u32));
    let (d, a, b, c) = (o.target32(0)?, o.source32(1)?, o.source32(2)?, o.source32(3)?);
    let d = d.unwrap_or_else(|| o.builder().register32());
    Ok(Decoded::execute(CLASS, move |x, mask| {
        let registers = &mut x.warp.registers;
        let (a, b, c) = (registers.get32(a), registers.get32(b), registers.get32(c));
        let mut out = [0; WARP];
        for lane in 0..WARP {
            let (a, b, c) = (a[lane], b[lane], c[lane]);
            let choose = |low: Mask, high: Mask| low & !c | high & c;
            let without_a = choose(rows[0], rows[1]) & !b | choose(rows[2], rows[3]) & b;
            let with_a = choose(rows[4], rows[5]) & !b | choose(rows[6], rows[7]) & b;
            out[lane] = without_a & !a | with_a & a;
        }
        registers.set32(d, &out, mask);
        Flow::Next
    }))
}

/// `prmt`: four bytes out of the eight of `b:a`.
pub fn prmt(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    const FORMS: [&str; 6] = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];
    m.allow(&FORMS)?;
    if m.types != [Type::B32] {
        return Err(format!("type {:?}", m.types));
    }
    let byte =
        |a: u32, b: u32, index: u32| ((u64::from(b) << 32 | u64::from(a)) >> (8 * (index & 7))) as u32 & 0xFF;
    if m.modifiers.is_empty() {
        return ternary(CLASS, o, move |a: u32, b: u32, selector: u32| {
            (0..4).fold(0, |word, i| {
                let choice = selector >> (4 * i);
                let plain = byte(a, b, choice);
                let sign = if plain & 0x80 != 0 { 0xFF } else { 0 };
                word | (if choice & 8 == 0 { plain } else { sign }) << (8 * i)
            })
        });
    }
    let form = m.one_of(&FORMS)?;
    ternary(CLASS, o, move |a: u32, b: u32, selector: u32| {
        let n = selector & 3;
        (0..4_u32).fold(0, |word, i| {
            let index = match form {
                0 => n + i,
                1 => n.wrapping_sub(i),
                2 => n,
                3 => n.max(i),
                4 => n.min(i),
                _ => (n & 1) * 2 + (i & 1),
            };
            word | byte(a, b, index) << (8 * i)
        })
    })
}
