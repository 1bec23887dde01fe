//! Exchange between the lanes of a warp: `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`,
//! `bar.warp.sync`.
//!
//! All but `activemask` name the lanes that take part. Those that have not come yet are waited for; a lane
//! that is not named, or one that never comes, is a finding.

use super::decode::{Decoded, Mnemonic, Operands};
use super::float::{greatest, least};
use super::types::Type;
use super::values::{Bank, Value, holds};
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::machine::registers::Reg32;
use crate::machine::{Lanes32, Mask, WARP, lanes};

type Result = std::result::Result<Decoded, String>;

/// The lanes that take part together: those of `mask` that name the same members.
fn groups(members: &Lanes32, mask: Mask) -> impl Iterator<Item = (Mask, Mask)> {
    let (members, mut rest) = (*members, mask);
    std::iter::from_fn(move || {
        let named = *members.get(rest.trailing_zeros() as usize)?;
        let group =
            lanes(rest).filter(|&lane| members[lane] == named).fold(0, |group, lane| group | 1 << lane);
        rest &= !group;
        Some((named, group))
    })
}

/// Checks the member masks of the lanes that are here; `Some` where others must be waited for.
fn gathered(x: &mut Execution<'_, '_>, members: &Lanes32, mask: Mask) -> Option<Flow> {
    if mask == !0 && *members == [!0; WARP] {
        return None;
    }
    let mut missing = 0;
    for (named, group) in groups(members, mask) {
        missing |= named & x.warp.live & !group;
    }
    if missing != 0 && !x.last_resort {
        return Some(Flow::Wait(missing));
    }
    let mut strangers = 0;
    for (named, group) in groups(members, mask) {
        strangers |= group & !named;
        let absent = named & x.warp.live & !group;
        if absent != 0 {
            x.finding(Check::MissingLanes, group, || {
                format!("the member mask {named:08x} names lanes {absent:08x}, which never come here with it")
            });
        }
    }
    if strangers != 0 {
        let named = members[strangers.trailing_zeros() as usize];
        x.finding(Check::NotInMask, strangers, || format!("the member mask is {named:08x}"));
    }
    None
}

/// `shfl.sync`.
pub fn shfl(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    const MODES: [&str; 4] = ["up", "down", "bfly", "idx"];
    m.allow(&[&MODES[..], &["sync"]].concat())?;
    m.one_of(&["sync"])?;
    if m.types != [Type::B32] {
        return Err(format!("type {:?}", m.types));
    }
    o.expect(5..=5)?;
    let mode = m.one_of(&MODES)?;
    let (d, p) = (o.target32(0)?, o.second_pred(0)?);
    let (a, b, c, members) = (o.source32(1)?, o.source32(2)?, o.source32(3)?, o.source32(4)?);
    Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
        let members = *x.warp.registers.get32(members);
        if let Some(wait) = gathered(x, &members, mask) {
            return wait;
        }
        let registers = &x.warp.registers;
        let (a, b, c) = (registers.get32(a), registers.get32(b), registers.get32(c));
        let (mut out, mut valid, mut silent) = ([0; WARP], 0, 0);
        for lane in 0..WARP {
            let (from, inside) = shuffle_source(mode, lane as u32, b[lane], c[lane]);
            out[lane] = a[from as usize];
            valid |= Mask::from(inside) << lane;
            silent |= (!mask >> from & 1) << lane;
        }
        silent &= mask;
        if let Some(d) = d {
            x.warp.registers.set32(d, &out, mask);
        }
        if let Some(p) = p {
            x.warp.registers.set_pred(p, valid, mask);
        }
        if silent != 0 {
            x.finding(Check::InactiveSource, silent, || {
                format!("the lanes read lanes that do not execute the shuffle with them; {mask:08x} do")
            });
        }
        Flow::Next
    }))
}

/// The lane that a lane reads, and whether it is inside the segment that `c` describes.
fn shuffle_source(mode: usize, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (delta, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let least = lane & segment;
    let most = least | (clamp & !segment);
    let (from, inside) = match mode {
        // a difference below zero wraps to a number above every lane
        0 => (lane.wrapping_sub(delta), lane.cast_signed() - delta.cast_signed() >= most.cast_signed()),
        1 => (lane + delta, lane + delta <= most),
        2 => (lane ^ delta, lane ^ delta <= most),
        _ => (least | (delta & !segment), least | (delta & !segment) <= most),
    };
    if inside { (from, true) } else { (lane, false) }
}

/// `vote.sync`.
pub fn vote(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    const KINDS: [&str; 4] = ["all", "any", "uni", "ballot"];
    m.allow(&[&KINDS[..], &["sync"]].concat())?;
    m.one_of(&["sync"])?;
    o.expect(3..=3)?;
    let kind = m.one_of(&KINDS)?;
    let (a, members) = (o.pred(1)?, o.source32(2)?);
    let (d, p) = match m.only_type()? {
        Type::B32 if kind == 3 => (o.target32(0)?, None),
        Type::Pred if kind != 3 => (None, o.target_pred(0)?),
        other => return Err(format!("type {other:?}")),
    };
    Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
        let members = *x.warp.registers.get32(members);
        if let Some(wait) = gathered(x, &members, mask) {
            return wait;
        }
        let values = holds(&x.warp.registers, a);
        for (_, group) in groups(&members, mask) {
            let yes = values & group;
            let result = match kind {
                0 => yes == group,
                1 => yes != 0,
                _ => yes == group || yes == 0,
            };
            if let Some(d) = d {
                x.warp.registers.set32(d, &[yes; WARP], group);
            }
            if let Some(p) = p {
                x.warp.registers.set_pred(p, if result { !0 } else { 0 }, group);
            }
        }
        Flow::Next
    }))
}

/// `match.sync`: the lanes that hold the same value; `.all`: whether all do.
pub fn matches(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    fn typed<V: Value>(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result
    where
        V::Bank: PartialEq,
    {
        let all = m.one_of(&["any", "all"])? == 1;
        let (d, p) = (o.target32(0)?, o.second_pred(0)?);
        let (a, members) = (V::source(o, 1)?, o.source32(2)?);
        Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
            let members = *x.warp.registers.get32(members);
            if let Some(wait) = gathered(x, &members, mask) {
                return wait;
            }
            let values = *V::Bank::read(&x.warp.registers, a);
            let mut out = [0; WARP];
            for (_, group) in groups(&members, mask) {
                for lane in lanes(group) {
                    out[lane] =
                        lanes(group).filter(|&l| values[l] == values[lane]).fold(0, |m, l| m | 1 << l);
                    if all && out[lane] != group {
                        out[lane] = 0;
                    }
                }
            }
            if let Some(d) = d {
                x.warp.registers.set32(d, &out, mask);
            }
            if let Some(p) = p {
                let same = lanes(mask).filter(|&lane| out[lane] != 0).fold(0, |m, lane| m | 1 << lane);
                x.warp.registers.set_pred(p, same, mask);
            }
            Flow::Next
        }))
    }
    m.allow(&["sync", "any", "all"])?;
    m.one_of(&["sync"])?;
    o.expect(3..=3)?;
    match m.only_type()? {
        Type::B32 => typed::<u32>(m, o),
        Type::B64 => typed::<u64>(m, o),
        other => Err(format!("type {other:?}")),
    }
}

/// `redux.sync`: one result of all lanes.
pub fn redux(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    const KINDS: [&str; 6] = ["add", "min", "max", "and", "or", "xor"];
    m.allow(&[&KINDS[..], &["sync", "abs", "NaN"]].concat())?;
    m.one_of(&["sync"])?;
    o.expect(3..=3)?;
    let (kind, ty) = (m.one_of(&KINDS)?, m.only_type()?);
    if (m.has("abs") || m.has("NaN")) && ty != Type::F32 {
        return Err(format!("type {ty:?} with these modifiers"));
    }
    let fold: fn(u32, u32) -> u32 = match (KINDS[kind], ty) {
        ("add", Type::U32 | Type::S32) => u32::wrapping_add,
        ("min", Type::U32) => u32::min,
        ("max", Type::U32) => u32::max,
        ("min", Type::S32) => |a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned(),
        ("max", Type::S32) => |a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned(),
        ("min", Type::F32) => |a, b| least(f32::from_bits(a), f32::from_bits(b)).to_bits(),
        ("max", Type::F32) => |a, b| greatest(f32::from_bits(a), f32::from_bits(b)).to_bits(),
        ("and", Type::B32) => |a, b| a & b,
        ("or", Type::B32) => |a, b| a | b,
        ("xor", Type::B32) => |a, b| a ^ b,
        _ => return Err(format!("type {ty:?} of this operation")),
    };
    let (magnitude, nan_wins) = (m.has("abs"), m.has("NaN"));
    let (d, a, members) = (u32::target(o, 0)?, o.source32(1)?, o.source32(2)?);
    Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
        let members = *x.warp.registers.get32(members);
        if let Some(wait) = gathered(x, &members, mask) {
            return wait;
        }
        let values =
            x.warp.registers.get32(a).map(|value| if magnitude { value & !(1 << 31) } else { value });
        for (_, group) in groups(&members, mask) {
            let nan = nan_wins && lanes(group).any(|lane| f32::from_bits(values[lane]).is_nan());
            let folded = lanes(group).map(|lane| values[lane]).reduce(fold).unwrap_or(0);
            let result = if nan { super::float::NAN } else { folded };
            x.warp.registers.set32(d, &[result; WARP], group);
        }
        Flow::Next
    }))
}

/// `activemask`.
pub fn activemask(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    let d = u32::target(o, 0)?;
    Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
        x.warp.registers.set32(d, &[mask; WARP], mask);
        Flow::Next
    }))
}

/// `elect.sync`: one lane, here the lowest.
pub fn elect(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["sync"])?;
    m.one_of(&["sync"])?;
    o.expect(2..=2)?;
    let (d, p, members) = (o.target32(0)?, o.second_pred(0)?, o.source32(1)?);
    Ok(Decoded::execute(Class::Shuffle, move |x, mask| {
        let members = *x.warp.registers.get32(members);
        if let Some(wait) = gathered(x, &members, mask) {
            return wait;
        }
        for (_, group) in groups(&members, mask) {
            let leader = group.trailing_zeros();
            if let Some(d) = d {
                x.warp.registers.set32(d, &[leader; WARP], group);
            }
            if let Some(p) = p {
                x.warp.registers.set_pred(p, 1 << leader, group);
            }
        }
        Flow::Next
    }))
}

/// `bar.warp.sync`: the lanes see each other's accesses.
pub(super) fn warp_barrier(members: Reg32) -> Decoded {
    Decoded::execute(Class::Control, move |x, mask| {
        let members = *x.warp.registers.get32(members);
        if let Some(wait) = gathered(x, &members, mask) {
            return wait;
        }
        for (_, group) in groups(&members, mask) {
            x.block.clocks.sync_lanes(x.warp.id, group, x.warp.live);
        }
        Flow::Next
    })
}
