//! Moves, packing, and conversions of addresses.

use super::decode::{Decoded, Mnemonic, Operands, Slot};
use super::types::{Space, Type};
use super::values::{Bank, Value, holds, unary};
use super::{Class, Flow};
use crate::machine::registers::Registers;
use crate::machine::{Lanes64, Mask, WARP};
use crate::memory::{LOCAL_BASE, PARAM_BASE, SHARED_BASE, space_of};
use crate::parse::operand::Operand;

type Result = std::result::Result<Decoded, String>;

const CLASS: Class = Class::Integer;

/// `mov`: of one value, `{a, b}` into one register, one register into `{a, b}`.
pub fn mov(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    o.expect(2..=2)?;
    let ty = m.only_type()?;
    let vector = |index| Ok::<_, String>(matches!(o.get(index)?, Operand::Vector(_)));
    if vector(0)? || vector(1)? || ty == Type::B128 {
        return repack(o, ty);
    }
    match ty {
        Type::Pred => {
            let (d, a) = (o.target_pred(0)?.ok_or("needs a target")?, o.pred(1)?);
            Ok(Decoded::execute(CLASS, move |x, mask| {
                let values = holds(&x.warp.registers, a);
                x.warp.registers.set_pred(d, values, mask);
                Flow::Next
            }))
        }
        Type::B16 | Type::U16 | Type::S16 => copy::<u16>(o),
        Type::B32 | Type::U32 | Type::S32 | Type::F32 => copy::<u32>(o),
        Type::B64 | Type::U64 | Type::S64 => copy::<u64>(o),
        Type::F64 => copy::<f64>(o),
        other => Err(format!("type {other:?}")),
    }
}

fn copy<V: Value>(o: &mut Operands<'_>) -> Result {
    let (d, a) = (V::Bank::target(o, 0)?, V::source(o, 1)?);
    Ok(Decoded::execute(CLASS, move |x, mask| {
        let values = *V::Bank::read(&x.warp.registers, a);
        V::Bank::write(&mut x.warp.registers, d, &values, mask);
        Flow::Next
    }))
}

/// Moves bits between registers of different widths; the first is the lowest.
fn repack(o: &mut Operands<'_>, ty: Type) -> Result {
    let bits = 8 * ty.bytes() as usize;
    if o.vector(0)? == 0 || o.vector(1)? == 0 {
        return Err("an empty vector".to_owned());
    }
    let (targets, sources) = (o.slots(0)?, o.source_slots(1, ty.bytes() / o.vector(1)? as u32)?);
    let (to, from) = (bits / targets.len(), bits / sources.len());
    let fits = |slot: &Slot, width: usize| match *slot {
        Slot::Sink => true,
        Slot::Bits32(_, declared) => usize::from(declared) == width,
        Slot::Bits64(_) => width == 64,
        Slot::Bits128(..) => width == 128,
    };
    if !targets.iter().all(|slot| fits(slot, to)) || !sources.iter().all(|slot| fits(slot, from)) {
        return Err(format!("parts of {to} and {from} bits for {bits}"));
    }
    Ok(Decoded::execute(CLASS, move |x, mask| {
        let registers = &mut x.warp.registers;
        // at most 128 bits, as two words
        let mut words = [[0_u64; WARP]; 2];
        for (index, &slot) in sources.iter().enumerate() {
            let place = index * from;
            match slot {
                Slot::Bits128(low, high) => words = [*registers.get64(low), *registers.get64(high)],
                slot => {
                    let values = read(registers, slot);
                    for lane in 0..WARP {
                        words[place / 64][lane] |= values[lane] << (place % 64);
                    }
                }
            }
        }
        for (index, &slot) in targets.iter().enumerate() {
            let place = index * to;
            let word = &words[place / 64];
            let part: Lanes64 = std::array::from_fn(|lane| word[lane] >> (place % 64));
            match slot {
                Slot::Bits128(low, high) => {
                    registers.set64(low, &words[0], mask);
                    registers.set64(high, &words[1], mask);
                }
                slot => write(registers, slot, &part, mask),
            }
        }
        Flow::Next
    }))
}

/// The values of a register of up to 64 bits.
#[inline(always)]
pub(super) fn read(registers: &Registers, slot: Slot) -> Lanes64 {
    match slot {
        Slot::Sink => [0; WARP],
        Slot::Bits32(register, _) => registers.get32(register).map(u64::from),
        Slot::Bits64(register) | Slot::Bits128(register, _) => *registers.get64(register),
    }
}

/// Writes a register of up to 64 bits; what exceeds its width is cut.
#[inline(always)]
pub(super) fn write(registers: &mut Registers, slot: Slot, values: &Lanes64, mask: Mask) {
    match slot {
        Slot::Sink => {}
        Slot::Bits32(register, bits) => {
            let cut = u32::MAX >> (32 - bits);
            let values = std::array::from_fn(|lane| values[lane] as u32 & cut);
            registers.set32(register, &values, mask);
        }
        Slot::Bits64(register) | Slot::Bits128(register, _) => registers.set64(register, values, mask),
    }
}

/// Where a space's generic addresses start.
fn window(space: Space) -> std::result::Result<u64, String> {
    Ok(match space {
        // constants are allocated like global variables
        Space::Global | Space::Const => 0,
        Space::Shared => SHARED_BASE,
        Space::Param => PARAM_BASE,
        Space::Local => LOCAL_BASE,
        Space::Generic => return Err("needs a space".to_owned()),
    })
}

const SPACES: [&str; 7] = ["param", "param::entry", "global", "shared", "shared::cta", "local", "const"];

/// `cvta`, `cvta.to`: between a space's addresses and generic ones.
pub fn cvta(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[&SPACES[..], &["to"]].concat())?;
    if m.types != [Type::U64] {
        return Err(format!("type {:?}", m.types));
    }
    let base = window(m.space())?;
    match m.has("to") {
        true => unary(CLASS, o, move |a: u64| a.wrapping_sub(base)),
        false => unary(CLASS, o, move |a: u64| a.wrapping_add(base)),
    }
}

/// `isspacep`: whether a generic address is in a space.
pub fn isspacep(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&SPACES)?;
    o.expect(2..=2)?;
    let space = m.space();
    window(space)?;
    let (p, a) = (o.target_pred(0)?.ok_or("needs a target")?, o.source64(1)?);
    Ok(Decoded::execute(Class::Compare, move |x, mask| {
        let addresses = x.warp.registers.get64(a);
        let lanes = super::values::mask_of::<u64>(addresses, addresses, |a, _| space_of(a) == space);
        x.warp.registers.set_pred(p, lanes, mask);
        Flow::Next
    }))
}

/// `createpolicy`: cache policies change nothing here, so they are all zero.
pub fn createpolicy(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["fractional", "L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"])?;
    let d = u64::target(o, 0)?;
    Ok(Decoded::execute(CLASS, move |x, mask| {
        x.warp.registers.set64(d, &[0; WARP], mask);
        Flow::Next
    }))
}
