//! cp.async.bulk, cp.reduce.async.bulk: copies of the asynchronous proxy, plain and of tensors (TMA). When
//! they land: [`crate::machine::bulk_copies`].
//!
//! A cluster has one block here: `.multicast::cluster` must name it alone.
//!
//! Source: PTX ISA, "Data Movement and Conversion Instructions: cp.async.bulk*", "cp.reduce.async.bulk*".

use super::decode::{Address, Decoded, Mnemonic, Operands};
use super::shared_address::SharedAddress;
use super::types::{Space, Type};
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::machine::bulk_copies::{self, Load, Place, Store, can_add};
use crate::machine::mbarriers::Coming;
use crate::machine::registers::Reg32;
use crate::machine::{Lanes32, Lanes64, WARP, lanes};
use crate::memory::tensor_map::{self, Element, TensorMap};
use crate::memory::{Access, PARAM_BASE, space_of};

/// All of `cp.async.bulk` and `cp.reduce.async.bulk`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    match mnemonic.modifiers[..] {
        ["async", "bulk", "commit_group"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.warp.stores.commit(mask);
                Flow::Next
            }))
        }
        ["async", "bulk", "wait_group", ref rest @ ..] if matches!(rest, [] | ["read"]) => {
            operands.expect(1..=1)?;
            let keep = u32::try_from(operands.immediate(0)?).map_err(|error| error.to_string())?;
            let reads_only = !rest.is_empty();
            Ok(Decoded::execute(Class::Async, move |x, mask| {
                bulk_copies::wait(x.warp, x.block, mask, keep, reads_only);
                Flow::Next
            }))
        }
        ["async", "bulk", "prefetch", ..] => {
            let tensor = ["tensor", "1d", "2d", "3d", "4d", "5d", "tile"];
            mnemonic.allow(
                &[&["async", "bulk", "prefetch", "L2", "global", "L2::cache_hint"], &tensor[..]].concat(),
            )?;
            Ok(Decoded::execute(Class::Async, |_, _| Flow::Next))
        }
        ["async", "bulk", ..] | ["reduce", "async", "bulk", ..] => copy(mnemonic, operands),
        _ => Err(format!("modifiers .{}", mnemonic.modifiers.join("."))),
    }
}

/// The operand that names global memory.
struct Global {
    /// The first byte, or the tensor map; a tensor's coordinates.
    address: Address,
    /// Plain copies: how many bytes.
    bytes: Option<Reg32>,
}

fn copy(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let tensor = mnemonic.has("tensor");
    let dimensions = ["1d", "2d", "3d", "4d", "5d"];
    let common = ["async", "bulk", "global", "shared::cta", "L2::cache_hint"];
    let loads = ["shared::cluster", "mbarrier::complete_tx::bytes", "multicast::cluster"];
    let stores = ["bulk_group", "reduce", "add", "noftz"];
    let tensors = [&["tensor", "tile"], &dimensions[..]].concat();
    mnemonic.allow(&[&common[..], &loads, &stores, if tensor { &tensors } else { &[] }].concat())?;
    let rank = if tensor { Some(mnemonic.one_of(&dimensions)? + 1) } else { None };
    let hints = usize::from(mnemonic.has("L2::cache_hint"));
    let space = |part: &&&str| part.starts_with("shared") || **part == "global";
    let spaces: Vec<_> = mnemonic.modifiers.iter().filter(space).copied().collect();
    let reduces = mnemonic.has("reduce");
    match spaces[..] {
        ["shared::cluster" | "shared::cta", "global"]
            if mnemonic.has("mbarrier::complete_tx::bytes") && !reduces =>
        {
            let multicast = mnemonic.has("multicast::cluster");
            let plain = usize::from(!tensor);
            let fixed = 3 + plain;
            operands
                .expect(fixed + usize::from(multicast) + hints..=fixed + usize::from(multicast) + hints)?;
            let target = SharedAddress::offset(operands, 0)?;
            let source = global(operands, 1, rank, if tensor { None } else { Some(2) })?;
            let barrier = SharedAddress::offset(operands, 2 + plain)?;
            let blocks = if multicast { Some(operands.source32(fixed)?) } else { None };
            Ok(Decoded::execute(Class::Async, move |x, mask| {
                let registers = &x.warp.registers;
                let (targets, barriers) = (target.lanes(registers), barrier.lanes(registers));
                let blocks = blocks.map_or([1; WARP], |register| *registers.get32(register));
                for lane in lanes(mask) {
                    if blocks[lane] & 0xffff != 1 {
                        x.finding(Check::Trap, 1 << lane, || {
                            format!("multicast to blocks {:#x}: a cluster has one block here", blocks[lane])
                        });
                    }
                    load(x, lane, targets[lane], &source, barriers[lane]);
                }
                Flow::Next
            }))
        }
        ["global", "shared::cta"] if mnemonic.has("bulk_group") => {
            let fixed = if tensor { 2 } else { 3 };
            operands.expect(fixed + hints..=fixed + hints)?;
            let adds = addition(mnemonic, tensor)?;
            let target = global(operands, 0, rank, if tensor { None } else { Some(2) })?;
            let source = SharedAddress::offset(operands, 1)?;
            Ok(Decoded::execute(Class::Async, move |x, mask| {
                let sources = source.lanes(&x.warp.registers);
                for lane in lanes(mask) {
                    store(x, lane, sources[lane], &target, adds);
                }
                Flow::Next
            }))
        }
        _ => Err(format!("a copy .{}", mnemonic.modifiers.join("."))),
    }
}

/// How a store changes what is there.
#[derive(Clone, Copy)]
enum Change {
    Replace,
    /// Adds elements of this type.
    Add(Element),
    /// Adds elements of the tensor's type.
    AddTensor,
}

fn addition(mnemonic: &Mnemonic<'_>, tensor: bool) -> Result<Change, String> {
    if !mnemonic.has("reduce") {
        return if mnemonic.has("add") || mnemonic.has("noftz") {
            Err(".add without .reduce".into())
        } else {
            Ok(Change::Replace)
        };
    }
    if !mnemonic.has("add") {
        return Err("a reduction other than .add".into());
    }
    if tensor {
        return Ok(Change::AddTensor);
    }
    match mnemonic.only_type()? {
        Type::F32 => Ok(Change::Add(Element::F32)),
        Type::F16 => Ok(Change::Add(Element::F16)),
        Type::Bf16 => Ok(Change::Add(Element::Bf16)),
        Type::U32 => Ok(Change::Add(Element::U32)),
        Type::S32 => Ok(Change::Add(Element::S32)),
        other => Err(format!(".add of {other:?}")),
    }
}

fn global(
    operands: &mut Operands<'_>,
    index: usize,
    rank: Option<usize>,
    bytes: Option<usize>,
) -> Result<Global, String> {
    let address = operands.address(index)?;
    if address.coordinates.len() != rank.unwrap_or(0) {
        return Err(format!("{} coordinates", address.coordinates.len()));
    }
    Ok(Global { address, bytes: bytes.map(|index| operands.source32(index)).transpose()? })
}

impl Global {
    /// What one lane means; a finding where it means nothing.
    fn place(&self, x: &mut Execution<'_, '_>, lane: usize) -> Option<Place> {
        let registers = &x.warp.registers;
        let addresses: Lanes64 = self.address.lanes64(registers);
        let address = addresses[lane];
        if let Some(register) = self.bytes {
            let bytes = registers.get32(register)[lane];
            if !bytes.is_multiple_of(16) || !address.is_multiple_of(16) {
                x.finding(Check::Misaligned, 1 << lane, || {
                    format!("{bytes} bytes at {address:#x}: both must be multiples of 16")
                });
                return None;
            }
            return Some(Place::Bytes { address, bytes });
        }
        let coordinate = |register: &Reg32| {
            let values: &Lanes32 = registers.get32(*register);
            values[lane] as i32
        };
        let start: Vec<i32> = self.address.coordinates.iter().map(coordinate).collect();
        let map = tensor_map(x, lane, address)?;
        if map.rank() != start.len() {
            x.finding(Check::Trap, 1 << lane, || {
                format!("{} coordinates for a tensor of {} dimensions", start.len(), map.rank())
            });
            return None;
        }
        Some(Place::Box { map, start })
    }
}

/// The tensor map at a generic address.
fn tensor_map(x: &mut Execution<'_, '_>, lane: usize, address: u64) -> Option<TensorMap> {
    let mut bytes = [0; tensor_map::BYTES];
    let there = match space_of(address) {
        Space::Param => {
            let at = (address - PARAM_BASE) as usize;
            let found = x.block.parameters.get(at..at + tensor_map::BYTES);
            found.map(|found| bytes.copy_from_slice(found)).is_some()
        }
        Space::Global => x.block.global.load_bytes(address, &mut bytes),
        _ => false,
    };
    let map = TensorMap::decode(&bytes).filter(|map| there && map.check().is_ok());
    if map.is_none() {
        x.finding(Check::Trap, 1 << lane, || format!("there is no tensor map at {address:#x}"));
    } else if !address.is_multiple_of(64) {
        x.finding(Check::Misaligned, 1 << lane, || {
            format!("the tensor map at {address:#x} is not at a multiple of 64")
        });
    }
    map
}

/// The pieces of global memory that a copy touches.
fn pieces(place: &Place) -> Vec<(u64, u32)> {
    place.rows().into_iter().map(|row| (row.address, row.inside.end - row.inside.start)).collect()
}

fn shared_alignment(x: &mut Execution<'_, '_>, lane: usize, address: u32, place: &Place) -> bool {
    let alignment = if matches!(place, Place::Box { .. }) { 128 } else { 16 };
    let aligned = address.is_multiple_of(alignment);
    if !aligned {
        x.finding(Check::Misaligned, 1 << lane, || {
            format!("the shared address {address} of a bulk copy is no multiple of {alignment}")
        });
    }
    aligned
}

fn load(x: &mut Execution<'_, '_>, lane: usize, target: u32, source: &Global, barrier: u32) {
    let Some(source) = source.place(x, lane) else { return };
    let known = x.mbarrier(barrier, lane).is_some();
    if !known
        || !shared_alignment(x, lane, target, &source)
        || !x.global_bulk(&pieces(&source), lane as u32, Access::Read)
        || !x.shared_bulk(target, source.bytes(), lane as u32, Access::AsyncWrite)
    {
        return;
    }
    let load = Load { at: x.at, warp: x.warp.id, lane: lane as u32, source, target };
    if let Some(barrier) = x.block.mbarriers.get(barrier) {
        barrier.announce(Coming::Load(Box::new(load)));
    }
    x.block.progress += 1;
}

fn store(x: &mut Execution<'_, '_>, lane: usize, source: u32, target: &Global, change: Change) {
    let Some(target) = target.place(x, lane) else { return };
    let add = match (change, &target) {
        (Change::Replace, _) => None,
        (Change::Add(element), _) => Some(element),
        (Change::AddTensor, Place::Box { map, .. }) if can_add(map.element) => Some(map.element),
        _ => {
            x.finding(Check::Trap, 1 << lane, || {
                "an addition to elements of this type is not modelled".into()
            });
            return;
        }
    };
    let access = if add.is_some() { Access::Atomic } else { Access::Write };
    if !shared_alignment(x, lane, source, &target)
        || !x.shared_bulk(source, target.bytes(), lane as u32, Access::Read)
        || !x.global_bulk(&pieces(&target), lane as u32, access)
    {
        return;
    }
    let store = Store::new(x.at, lane as u32, source, target, add, x.block);
    x.warp.stores.start(store);
}
