//! Global memory as one launch sees it: its allocations at the start, and who touches them.

use std::sync::{Arc, Mutex};

use super::global::{Allocation, Memory};
use crate::check::global::Touches;
use crate::check::order::Order;

/// The allocations of a launch.
pub struct View {
    allocations: Vec<Arc<Allocation>>,
    /// Who touched what.
    pub touches: Touches,
    /// How atomics order its blocks, where they run one by one.
    pub order: Option<Mutex<Order>>,
}

impl View {
    /// What is allocated now. `ordered`: blocks run one by one; `alone`: and on one thread.
    pub fn new(memory: &Memory, ordered: bool, alone: bool) -> Self {
        let allocations = memory.snapshot();
        let touches = Touches::new(allocations.iter().map(AsRef::as_ref), alone);
        Self { allocations, touches, order: ordered.then(Mutex::default) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty()
    }

    /// All of them, by address.
    pub fn allocations(&self) -> &[Arc<Allocation>] {
        &self.allocations
    }

    /// Their labels.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.allocations.iter().map(|a| a.label.as_str())
    }

    /// The number of the allocation that starts at or before an address.
    #[inline(always)]
    pub fn find(&self, address: u64) -> Option<usize> {
        self.allocations.partition_point(|a| a.start <= address).checked_sub(1)
    }

    /// An allocation by its number.
    #[inline(always)]
    pub fn get(&self, index: usize) -> &Allocation {
        &self.allocations[index]
    }

    /// A value of 1, 2, 4 or 8 bytes at an address that was allowed; all bits set where it was not.
    #[inline(always)]
    pub fn load(&self, address: u64, bytes: u32) -> u64 {
        match self.holder(address, bytes) {
            Some(allocation) => allocation.load(address, bytes),
            None => !0,
        }
    }

    /// Writes a value of 1, 2, 4 or 8 bytes at an address that was allowed.
    #[inline(always)]
    pub fn store(&self, address: u64, bytes: u32, value: u64) {
        if let Some(allocation) = self.holder(address, bytes) {
            allocation.store(address, bytes, value);
        }
    }

    /// Copies bytes out; false where they are not inside one allocation.
    pub fn load_bytes(&self, address: u64, out: &mut [u8]) -> bool {
        let holder = self.holder(address, out.len() as u32);
        holder.map(|allocation| allocation.read(address, out)).is_some()
    }

    /// Copies bytes in; false where they are not inside one allocation.
    pub fn store_bytes(&self, address: u64, bytes: &[u8]) -> bool {
        let holder = self.holder(address, bytes.len() as u32);
        holder.map(|allocation| allocation.write(address, bytes.iter().copied())).is_some()
    }

    /// The allocation that holds these bytes.
    #[inline(always)]
    pub fn holder(&self, address: u64, bytes: u32) -> Option<&Allocation> {
        self.find(address).map(|index| self.get(index)).filter(|allocation| allocation.holds(address, bytes))
    }

    /// An address in words that a reader can use.
    pub fn describe(&self, address: u64) -> String {
        match self.find(address).map(|index| self.get(index)) {
            None => "below every allocation".to_owned(),
            Some(a) => {
                let (offset, size) = (address - a.start, a.bytes as u64);
                if offset < size {
                    format!("byte {offset} of {} ({size} bytes)", a.label)
                } else {
                    format!("{} bytes behind the end of {} ({size} bytes)", offset - size, a.label)
                }
            }
        }
    }
}
