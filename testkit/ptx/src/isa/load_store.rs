//! `ld`, `st` of all spaces, and hints to caches.

use super::decode::{Address, Decoded, Mnemonic, Operands, Slot};
use super::moves::{read, write};
use super::types::{Space, Type};
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::machine::{Lanes64, Mask, WARP, lanes};
use crate::memory::{Access, LOCAL_BASE, PARAM_BASE, SHARED_BASE, space_of};

type Result = std::result::Result<Decoded, String>;

/// Modifiers that change where and when hardware caches, or who else may see it when; nothing here.
/// Accesses are seen at once by all, so every ordering holds.
pub(super) const HINTS: &[&str] = &[
    "weak",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "ca",
    "cg",
    "cs",
    "cv",
    "lu",
    "wb",
    "wt",
    "nc",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::cache_hint",
    "L2::64B",
    "L2::128B",
    "L2::256B",
];

const SPACES: [&str; 8] =
    ["param", "param::entry", "global", "shared", "shared::cta", "shared::cluster", "local", "const"];

const VECTORS: [&str; 3] = ["v2", "v4", "v8"];

/// What one load or store moves for each lane.
#[derive(Clone, Debug)]
struct Shape {
    ty: Type,
    /// Bytes of one register's value.
    bytes: u32,
    /// Bytes of all.
    total: u32,
    slots: Vec<Slot>,
}

impl Shape {
    fn new(ty: Type, mut slots: Vec<Slot>, vector: usize) -> std::result::Result<Self, String> {
        if slots.len() != vector {
            return Err(format!("{} registers for {vector} values", slots.len()));
        }
        let mut bytes = ty.bytes();
        if let [Slot::Bits128(low, high)] = slots[..] {
            (slots, bytes) = (vec![Slot::Bits64(low), Slot::Bits64(high)], 8);
        }
        let total = bytes * slots.len() as u32;
        let wide = |slot: &Slot| match *slot {
            Slot::Sink => true,
            Slot::Bits32(_, bits) => u32::from(bits) >= 8 * bytes,
            Slot::Bits64(_) => bytes <= 8,
            Slot::Bits128(..) => false,
        };
        if total > 32 || ty == Type::Pred || !slots.iter().all(wide) {
            return Err(format!("{} values of type {ty:?} in these registers", slots.len()));
        }
        Ok(Self { ty, bytes, total, slots })
    }

    /// Widens a loaded value of a signed type; a register cuts it to its own width.
    #[inline(always)]
    fn widen(&self, value: u64) -> u64 {
        let unused = 64 - 8 * self.bytes;
        if self.ty.signed() { ((value << unused).cast_signed() >> unused).cast_unsigned() } else { value }
    }
}

fn policy(m: &Mnemonic<'_>, o: &Operands<'_>) -> std::result::Result<(), String> {
    // the policy is a further operand
    let count = 2 + usize::from(m.has("L2::cache_hint"));
    o.expect(count..=count)
}

/// `ld`.
pub fn ld(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[HINTS, &SPACES, &VECTORS].concat())?;
    policy(m, o)?;
    let shape = Shape::new(m.only_type()?, o.slots(0)?, m.vector())?;
    let space = m.space();
    if space == Space::Param
        && let Some(place) = o.parameter(1)?
    {
        let place = usize::try_from(place).map_err(|_| "before the parameters".to_owned())?;
        return Ok(load_parameter(shape, place));
    }
    let address = o.address(1)?;
    Ok(Decoded::execute(Class::Memory, move |x, mask| {
        load(x, mask, space, &address, &shape);
        Flow::Next
    }))
}

/// A load whose place is known: all lanes get the same.
fn load_parameter(shape: Shape, place: usize) -> Decoded {
    Decoded::execute(Class::Memory, move |x, mask| {
        let parameters = x.block.parameters;
        for (index, &slot) in shape.slots.iter().enumerate() {
            let value = little_endian(parameters, place + index * shape.bytes as usize, shape.bytes);
            let Some(value) = value else {
                x.finding(Check::OutOfBounds, mask, || {
                    format!("parameter byte {place}; there are {}", parameters.len())
                });
                continue;
            };
            match slot {
                Slot::Bits32(register, bits) => {
                    let cut = u32::MAX >> (32 - bits);
                    x.warp.registers.set32(register, &[shape.widen(value) as u32 & cut; WARP], mask);
                }
                slot => write(&mut x.warp.registers, slot, &[shape.widen(value); WARP], mask),
            }
        }
        Flow::Next
    })
}

fn little_endian(bytes: &[u8], place: usize, count: u32) -> Option<u64> {
    let part = bytes.get(place..place.checked_add(count as usize)?)?;
    Some(part.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// The lanes of each space that generic addresses name, with the offset of the space's window.
fn split(addresses: &Lanes64, mask: Mask) -> [(Space, Mask, u64); 4] {
    let mut parts = [
        (Space::Global, 0, 0),
        (Space::Shared, 0, SHARED_BASE),
        (Space::Param, 0, PARAM_BASE),
        (Space::Local, 0, LOCAL_BASE),
    ];
    for lane in lanes(mask) {
        let space = space_of(addresses[lane]);
        if let Some(part) = parts.iter_mut().find(|part| part.0 == space) {
            part.1 |= 1 << lane;
        }
    }
    parts
}

fn load(x: &mut Execution<'_, '_>, mask: Mask, space: Space, address: &Address, shape: &Shape) {
    let addresses = address.lanes64(&x.warp.registers);
    match space {
        Space::Generic => {
            for (space, mask, base) in split(&addresses, mask) {
                if mask != 0 {
                    let inside = addresses.map(|address| address.wrapping_sub(base));
                    load_space(x, mask, space, &inside, shape);
                }
            }
        }
        space => load_space(x, mask, space, &addresses, shape),
    }
}

fn load_space(x: &mut Execution<'_, '_>, mask: Mask, space: Space, addresses: &Lanes64, shape: &Shape) {
    match space {
        Space::Global | Space::Const | Space::Generic => {
            let good = x.global(addresses, shape.total, mask, Access::Read);
            let Some(&first) = addresses.get(good.trailing_zeros() as usize) else { return };
            let global = x.block.global;
            let usual = global.holder(first, shape.total);
            gather(x, good, shape, |lane, offset| {
                let address = addresses[lane] + u64::from(offset);
                match usual {
                    Some(allocation) if allocation.holds(address, shape.bytes) => {
                        allocation.load(address, shape.bytes)
                    }
                    _ => global.load(address, shape.bytes),
                }
            });
        }
        Space::Shared => {
            let addresses = addresses.map(|address| u32::try_from(address).unwrap_or(u32::MAX));
            let good = x.shared(&addresses, shape.total, mask, Access::Read);
            for (index, &slot) in shape.slots.iter().enumerate() {
                let mut values = [0; WARP];
                for lane in lanes(good) {
                    let address = addresses[lane] + index as u32 * shape.bytes;
                    values[lane] = shape.widen(x.block.shared.load_value(address, shape.bytes));
                }
                write(&mut x.warp.registers, slot, &values, good);
            }
        }
        Space::Param => {
            let parameters = x.block.parameters;
            let size = parameters.len();
            let good = bounded(x, addresses, shape.total, mask, size, "parameters");
            gather(x, good, shape, |lane, offset| {
                little_endian(parameters, addresses[lane] as usize + offset as usize, shape.bytes)
                    .unwrap_or(!0)
            });
        }
        Space::Local => {
            let size = x.block.kernel.local_bytes as usize;
            let good = bounded(x, addresses, shape.total, mask, size, "local memory");
            for (index, &slot) in shape.slots.iter().enumerate() {
                let mut values = [0; WARP];
                for lane in lanes(good) {
                    let place = lane * size + addresses[lane] as usize + index * shape.bytes as usize;
                    values[lane] =
                        shape.widen(little_endian(&x.warp.local, place, shape.bytes).unwrap_or(!0));
                }
                write(&mut x.warp.registers, slot, &values, good);
            }
        }
    }
}

/// Fills the registers of a load: `value` gives a lane's bytes at an offset.
#[inline(always)]
fn gather(x: &mut Execution<'_, '_>, mask: Mask, shape: &Shape, value: impl Fn(usize, u32) -> u64) {
    for (index, &slot) in shape.slots.iter().enumerate() {
        let mut values = [0; WARP];
        for lane in lanes(mask) {
            values[lane] = shape.widen(value(lane, index as u32 * shape.bytes));
        }
        write(&mut x.warp.registers, slot, &values, mask);
    }
}

/// The lanes whose bytes are inside a small memory and aligned; reports the others.
fn bounded(
    x: &mut Execution<'_, '_>,
    addresses: &Lanes64,
    bytes: u32,
    mask: Mask,
    size: usize,
    what: &str,
) -> Mask {
    let (mut outside, mut misaligned) = (0, 0);
    for lane in lanes(mask) {
        let end = addresses[lane].checked_add(u64::from(bytes));
        outside |= Mask::from(end.is_none_or(|end| end > size as u64)) << lane;
        misaligned |= Mask::from(!addresses[lane].is_multiple_of(u64::from(bytes))) << lane;
    }
    for (check, wrong) in [(Check::OutOfBounds, outside), (Check::Misaligned, misaligned & !outside)] {
        if let Some(address) = addresses.get(wrong.trailing_zeros() as usize) {
            x.finding(check, wrong, || format!("{bytes} bytes at byte {address} of {size} bytes of {what}"));
        }
    }
    mask & !outside & !misaligned
}

/// `st`.
pub fn st(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[HINTS, &SPACES, &VECTORS].concat())?;
    policy(m, o)?;
    match m.space() {
        Space::Param => return Err("a call's argument: functions must be inlined".to_owned()),
        Space::Const => return Err("a store to constants".to_owned()),
        _ => {}
    }
    let ty = m.only_type()?;
    let shape = Shape::new(ty, o.source_slots(1, ty.bytes())?, m.vector())?;
    let (space, address) = (m.space(), o.address(0)?);
    Ok(Decoded::execute(Class::Memory, move |x, mask| {
        let addresses = address.lanes64(&x.warp.registers);
        match space {
            Space::Generic => {
                for (space, mask, base) in split(&addresses, mask) {
                    if mask != 0 {
                        let inside = addresses.map(|address| address.wrapping_sub(base));
                        store_space(x, mask, space, &inside, &shape);
                    }
                }
            }
            space => store_space(x, mask, space, &addresses, &shape),
        }
        Flow::Next
    }))
}

fn store_space(x: &mut Execution<'_, '_>, mask: Mask, space: Space, addresses: &Lanes64, shape: &Shape) {
    match space {
        Space::Global | Space::Generic => {
            let good = x.global(addresses, shape.total, mask, Access::Write);
            let Some(&first) = addresses.get(good.trailing_zeros() as usize) else { return };
            let global = x.block.global;
            let usual = global.holder(first, shape.total);
            for (index, &slot) in shape.slots.iter().enumerate() {
                let values = read(&x.warp.registers, slot);
                for lane in lanes(good) {
                    let address = addresses[lane] + u64::from(index as u32 * shape.bytes);
                    match usual {
                        Some(allocation) if allocation.holds(address, shape.bytes) => {
                            allocation.store(address, shape.bytes, values[lane]);
                        }
                        _ => global.store(address, shape.bytes, values[lane]),
                    }
                }
            }
        }
        Space::Shared => {
            let addresses = addresses.map(|address| u32::try_from(address).unwrap_or(u32::MAX));
            let mut values = [[0; WARP]; 8];
            for (values, &slot) in values.iter_mut().zip(&shape.slots) {
                *values = read(&x.warp.registers, slot);
            }
            let width = shape.bytes as usize;
            x.shared_write(&addresses, shape.total, mask, |lane, bytes| {
                for (part, values) in bytes.chunks_exact_mut(width).zip(&values) {
                    part.copy_from_slice(&values[lane].to_le_bytes()[..width]);
                }
            });
        }
        Space::Local => {
            let size = x.block.kernel.local_bytes as usize;
            let good = bounded(x, addresses, shape.total, mask, size, "local memory");
            let width = shape.bytes as usize;
            for (index, &slot) in shape.slots.iter().enumerate() {
                let values = read(&x.warp.registers, slot);
                for lane in lanes(good) {
                    let place = lane * size + addresses[lane] as usize + index * width;
                    let value = values[lane].to_le_bytes();
                    x.warp.local[place..place + width].copy_from_slice(&value[..width]);
                }
            }
        }
        Space::Param | Space::Const => {
            x.finding(Check::OutOfBounds, mask, || "a store to the kernel's parameters".to_owned());
        }
    }
}

/// `prefetch`, `prefetchu`, `applypriority`: hints; nothing is done.
pub fn prefetch(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[HINTS, &["global", "local", "param", "const", "tensormap", "L1", "L2"]].concat())?;
    // the operands must still make sense
    o.address(0)?;
    Ok(Decoded::execute(Class::Memory, |_, _| Flow::Next))
}
