//! cp.async and the groups of its copies. When they land: [`crate::machine::async_copies`].
//!
//! Source: PTX ISA, "Data Movement and Conversion Instructions: cp.async".

use super::decode::{Address, Decoded, Mnemonic, Operands};
use super::shared_address::SharedAddress;
use super::types::Type;
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::machine::async_copies::{self, Copy};
use crate::machine::mbarriers::Coming;
use crate::machine::registers::{Pred, Reg32};
use crate::machine::{Lanes32, Mask, WARP, lanes};
use crate::memory::Access;
use crate::parse::builder::Symbol;

/// All of `cp`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    if mnemonic.has("bulk") {
        return super::bulk::decode(mnemonic, operands);
    }
    match mnemonic.modifiers[..] {
        ["async", "commit_group"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.warp.copies.commit(mask);
                Flow::Next
            }))
        }
        ["async", "wait_group"] => {
            operands.expect(1..=1)?;
            let keep = u32::try_from(operands.immediate(0)?).map_err(|error| error.to_string())?;
            Ok(Decoded::execute(Class::Async, move |x, mask| {
                async_copies::wait(x.warp, x.block, mask, keep);
                Flow::Next
            }))
        }
        ["async", "wait_all"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.warp.copies.commit(mask);
                async_copies::wait(x.warp, x.block, mask, 0);
                Flow::Next
            }))
        }
        ["async", "mbarrier::arrive" | "mbarrier", ..] => arrive(mnemonic, operands),
        ["async", "ca" | "cg", ..] => copy(mnemonic, operands),
        _ => Err(format!("modifiers .{}", mnemonic.modifiers.join("."))),
    }
}

/// How many bytes a lane reads.
enum Length {
    /// As many as it writes.
    Full,
    /// The value of a register.
    Register(Reg32),
    /// None where a predicate holds.
    Ignored(Pred, bool),
}

/// `cp.async.{ca,cg}.shared.global [target], [source], bytes {, source bytes | ignore} {, policy}`.
fn copy(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let spaces = ["shared", "shared::cta", "global"];
    let hints = ["L2::cache_hint", "L2::64B", "L2::128B", "L2::256B"];
    mnemonic.allow(&[&["async", "ca", "cg"], &spaces[..], &hints[..]].concat())?;
    if !mnemonic.has("global") || !(mnemonic.has("shared") || mnemonic.has("shared::cta")) {
        return Err("needs .shared.global".into());
    }
    operands.expect(3..=5)?;
    let target = SharedAddress::offset(operands, 0)?;
    let source = operands.address(1)?;
    let bytes = match (operands.immediate(2)?, mnemonic.has("cg")) {
        (bytes @ (4 | 8), false) => bytes as u32,
        (16, _) => 16,
        (bytes, _) => return Err(format!("copies of {bytes} bytes")),
    };
    let rest = operands.count() - 3 - usize::from(mnemonic.has("L2::cache_hint"));
    let length = match rest {
        0 => Length::Full,
        1 => match operands.symbol(3)? {
            Some(Symbol::Pred(_)) => {
                let (pred, negated) = operands.pred(3)?;
                Length::Ignored(pred, negated)
            }
            _ => Length::Register(operands.source32(3)?),
        },
        _ => return Err(format!("{} operands", operands.count())),
    };
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        start(x, mask, &target, &source, bytes, &length);
        Flow::Next
    }))
}

fn start(
    x: &mut Execution<'_, '_>,
    mask: Mask,
    target: &SharedAddress,
    source: &Address,
    bytes: u32,
    length: &Length,
) {
    let registers = &x.warp.registers;
    let (target, source) = (target.lanes(registers), source.lanes64(registers));
    let mut source_bytes = match *length {
        Length::Full => [bytes; WARP],
        Length::Register(register) => *registers.get32(register),
        Length::Ignored(pred, negated) => {
            let ignored = registers.get_pred(pred) ^ if negated { !0 } else { 0 };
            std::array::from_fn(|lane| if ignored >> lane & 1 == 1 { 0 } else { bytes })
        }
    };
    let too_many = select(mask, |lane| source_bytes[lane] > bytes);
    if too_many != 0 {
        x.finding(Check::Trap, too_many, || format!("more than {bytes} source bytes for a copy of {bytes}"));
        lanes(too_many).for_each(|lane| source_bytes[lane] = bytes);
    }
    let good = readable(x, &source, &source_bytes, bytes, mask);
    let good = x.shared(&target, bytes, good, Access::AsyncWrite);
    if good != 0 {
        x.warp.copies.start(Copy {
            at: x.at,
            lanes: good,
            target,
            source,
            bytes,
            source_bytes,
            group: [0; WARP],
        });
    }
}

/// Holds the sources to bounds, alignment and initialisation; a lane that reads nothing has no source.
fn readable(
    x: &mut Execution<'_, '_>,
    source: &[u64; WARP],
    source_bytes: &Lanes32,
    bytes: u32,
    mask: Mask,
) -> Mask {
    let full = select(mask, |lane| source_bytes[lane] == bytes);
    let part = select(mask, |lane| source_bytes[lane] != bytes && source_bytes[lane] != 0);
    let mut good = mask & !full & !part | x.global(source, bytes, full, Access::Read);
    if part == 0 {
        return good;
    }
    let misaligned = select(part, |lane| !source[lane].is_multiple_of(u64::from(bytes)));
    if misaligned != 0 {
        x.finding(Check::Misaligned, misaligned, || {
            format!("the source of {bytes} bytes is not at a multiple")
        });
    }
    good |= part & !misaligned;
    // powers of two, the largest first, so that each piece is aligned
    for piece in [8, 4, 2, 1] {
        let has = select(good & part, |lane| source_bytes[lane] & piece != 0);
        let start = |lane: usize| source[lane] + u64::from(source_bytes[lane] & !(2 * piece - 1));
        let read = x.global(&std::array::from_fn(start), piece, has, Access::Read);
        good &= !(has & !read);
    }
    good
}

fn select(mask: Mask, holds: impl Fn(usize) -> bool) -> Mask {
    lanes(mask).filter(|&lane| holds(lane)).fold(0, |selected: Mask, lane| selected | 1 << lane)
}

/// `cp.async.mbarrier.arrive{.noinc}{.shared}.b64 [barrier]`: arrives when the lane's copies have landed.
fn arrive(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    mnemonic.allow(&["async", "mbarrier", "arrive", "noinc", "shared", "shared::cta"])?;
    if !mnemonic.has("arrive") || mnemonic.only_type()? != Type::B64 {
        return Err("needs .mbarrier.arrive.b64".into());
    }
    operands.expect(1..=1)?;
    let barrier = SharedAddress::new(mnemonic, operands, 0)?;
    let counted = mnemonic.has("noinc");
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = barrier.lanes(&x.warp.registers);
        let clock = x.block.clocks.release(x.warp.id, mask, x.warp.live);
        let mut rest = mask;
        while rest != 0 {
            let (first, warp) = (rest.trailing_zeros() as usize, x.warp.id);
            let address = addresses[first];
            // lanes that name one barrier arrive there together
            let group = select(rest, |lane| addresses[lane] == address);
            rest &= !group;
            if x.mbarrier(address, first).is_none() {
                continue;
            }
            let (copies, count) = (x.warp.copies.hand_over(group), group.count_ones());
            let Some(barrier) = x.block.mbarriers.get(address) else { continue };
            let added = if counted { Ok(()) } else { barrier.expect_more(count) };
            barrier.announce(Coming::Arrivals { copies, warp, lanes: group, clock: clock.clone() });
            if let Err(message) = added {
                x.finding(Check::Mbarrier, group, || message);
            }
        }
        Flow::Next
    }))
}
