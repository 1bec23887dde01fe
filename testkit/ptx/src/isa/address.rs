//! The addresses of operands, for each lane.

use crate::machine::registers::{Reg32, Reg64, Registers};
use crate::machine::{Lanes32, Lanes64, WARP};

/// Where an address starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A 32-bit register: an offset in shared, local or parameter memory.
    Bits32(Reg32),
    /// A 64-bit register.
    Bits64(Reg64),
}

/// `[base + offset]`, `[base + offset, {coordinates}]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it starts.
    pub base: Base,
    /// Bytes added to it.
    pub offset: i64,
    /// A tensor's coordinates, fastest first; empty where there are none.
    pub coordinates: Vec<Reg32>,
}

impl Address {
    /// The address of each lane.
    #[inline(always)]
    pub fn lanes64(&self, registers: &Registers) -> Lanes64 {
        match self.base {
            Base::Bits32(register) => {
                let base = registers.get32(register);
                std::array::from_fn(|lane| u64::from(base[lane].wrapping_add(self.offset as u32)))
            }
            Base::Bits64(register) => {
                let base = registers.get64(register);
                std::array::from_fn(|lane| base[lane].wrapping_add(self.offset as u64))
            }
        }
    }

    /// The address of each lane in a space of fewer than 4 GiB; what does not fit becomes `u32::MAX`,
    /// which is out of bounds everywhere.
    #[inline(always)]
    pub fn lanes32(&self, registers: &Registers) -> Lanes32 {
        match self.base {
            Base::Bits32(register) => {
                let base = registers.get32(register);
                std::array::from_fn(|lane| base[lane].wrapping_add(self.offset as u32))
            }
            Base::Bits64(register) => {
                let base = registers.get64(register);
                let mut lanes = [0; WARP];
                for lane in 0..WARP {
                    let address = base[lane].wrapping_add(self.offset as u64);
                    lanes[lane] = u32::try_from(address).unwrap_or(u32::MAX);
                }
                lanes
            }
        }
    }
}
