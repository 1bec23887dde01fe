//! Addresses of instructions that only work on shared memory.
//!
//! A cluster has one block here, so `.shared::cluster` addresses are those of the block itself.

use super::decode::{Address, Mnemonic, Operands};
use super::types::Space;
use crate::machine::Lanes32;
use crate::machine::registers::Registers;
use crate::memory::SHARED_BASE;

/// An address operand that is in shared memory: an offset, or a generic address where no space is named.
#[derive(Clone, Debug)]
pub struct SharedAddress {
    address: Address,
    generic: bool,
}

impl SharedAddress {
    /// The address operand of an instruction whose space, if named, is shared.
    pub fn new(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>, index: usize) -> Result<Self, String> {
        let generic = mnemonic.space() == Space::Generic;
        Ok(Self { address: operands.address(index)?, generic })
    }

    /// The address operand of an instruction that always means shared memory here.
    pub fn offset(operands: &mut Operands<'_>, index: usize) -> Result<Self, String> {
        Ok(Self { address: operands.address(index)?, generic: false })
    }

    /// The offset of each lane; generic addresses outside of shared memory become out of bounds.
    #[inline(always)]
    pub fn lanes(&self, registers: &Registers) -> Lanes32 {
        if !self.generic {
            return self.address.lanes32(registers);
        }
        let addresses = self.address.lanes64(registers);
        let offset =
            |lane: usize| addresses[lane].checked_sub(SHARED_BASE).and_then(|offset| offset.try_into().ok());
        std::array::from_fn(|lane| offset(lane).unwrap_or(u32::MAX))
    }
}
