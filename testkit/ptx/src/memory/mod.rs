//! Bytes: global allocations, a block's shared memory, and the one door through which instructions reach
//! them.

pub mod access;
pub mod global;
pub mod matrix_descriptor;
pub mod shared;
pub mod swizzle;
pub mod tensor_map;
pub mod view;

use crate::isa::types::Space;
use crate::machine::{Lanes64, Mask};

/// Generic addresses of shared memory start here.
pub const SHARED_BASE: u64 = 1 << 48;
/// Generic addresses of kernel parameters start here.
pub const PARAM_BASE: u64 = 1 << 49;
/// Generic addresses of local memory start here.
pub const LOCAL_BASE: u64 = 1 << 50;

/// How an instruction touches bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads them.
    Read,
    /// It writes them.
    Write,
    /// It reads and writes them in one step.
    Atomic,
    /// It starts an asynchronous copy into them.
    AsyncWrite,
}

/// The space of a generic address.
#[inline(always)]
pub fn space_of(address: u64) -> Space {
    match address {
        ..SHARED_BASE => Space::Global,
        SHARED_BASE..PARAM_BASE => Space::Shared,
        PARAM_BASE..LOCAL_BASE => Space::Param,
        _ => Space::Local,
    }
}

/// The space of the generic addresses of `mask`'s lanes, where it is one; an empty mask is global.
#[inline(always)]
pub fn resolve(addresses: &Lanes64, mask: Mask) -> Option<Space> {
    let Some(first) = addresses.get(mask.trailing_zeros() as usize) else { return Some(Space::Global) };
    let space = space_of(*first);
    crate::machine::lanes(mask).all(|lane| space_of(addresses[lane]) == space).then_some(space)
}
