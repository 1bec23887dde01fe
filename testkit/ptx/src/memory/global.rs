//! Global memory: allocations at made-up addresses, far enough apart that a wrong address hits none.
//!
//! Words are atomics, so blocks on several threads may touch the same memory; a race between blocks is then
//! a finding and not undefined behaviour. Values stay little-endian, as on the device.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use crate::machine::{Lanes64, Mask, lanes};

/// Where the first allocation starts.
const FIRST: u64 = 0x7000_0000_0000;
/// Allocations start at multiples of this, as cuMemAlloc promises.
const ALIGNMENT: u64 = 256;
/// Unused addresses behind each allocation.
const RED_ZONE: u64 = 4096;

/// Why memory could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The bytes are not inside one allocation.
    OutOfBounds {
        /// First byte.
        address: u64,
        /// How many.
        bytes: usize,
    },
    /// No allocation starts here.
    NotAllocated(u64),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { address, bytes } => {
                write!(f, "{bytes} bytes at {address:#x} are not inside one allocation")
            }
            Self::NotAllocated(address) => write!(f, "no allocation starts at {address:#x}"),
        }
    }
}

impl std::error::Error for MemoryError {}

/// One allocation.
pub struct Allocation {
    /// Address of its first byte.
    pub start: u64,
    /// Its size.
    pub bytes: usize,
    /// What findings and counters call it.
    pub label: String,
    words: Box<[AtomicU32]>,
    /// For each word, one bit a byte: whether it was ever written.
    ready: Box<[AtomicU8]>,
}

impl Allocation {
    fn new(start: u64, bytes: usize, label: &str) -> Self {
        let words = bytes.div_ceil(4);
        Self {
            start,
            bytes,
            label: label.to_owned(),
            // all bits set: a float never written is NaN
            words: (0..words).map(|_| AtomicU32::new(!0)).collect(),
            ready: (0..words).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Whether the bytes are inside.
    #[inline(always)]
    pub fn holds(&self, address: u64, bytes: u32) -> bool {
        address.wrapping_sub(self.start) < self.bytes as u64
            && address.wrapping_sub(self.start) + u64::from(bytes) <= self.bytes as u64
    }

    /// A value of 1, 2, 4 or 8 bytes inside, at a multiple of its size.
    #[inline(always)]
    pub fn load(&self, address: u64, bytes: u32) -> u64 {
        let offset = (address - self.start) as usize;
        let word = u64::from(self.words[offset / 4].load(Relaxed));
        match bytes {
            4 => word,
            8 => word | u64::from(self.words[offset / 4 + 1].load(Relaxed)) << 32,
            2 => word >> (8 * (offset % 4)) & 0xffff,
            _ => word >> (8 * (offset % 4)) & 0xff,
        }
    }

    /// A row of 16 bytes inside, at a multiple of 4.
    #[inline(always)]
    pub fn load_row(&self, address: u64) -> [u8; 16] {
        let first = (address - self.start) as usize / 4;
        let words: &[AtomicU32; 4] = self.words[first..].first_chunk().expect("the row is inside");
        let mut row = [0; 16];
        for (bytes, word) in row.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        row
    }

    /// Writes a value of 1, 2, 4 or 8 bytes inside, at a multiple of its size.
    #[inline(always)]
    pub fn store(&self, address: u64, bytes: u32, value: u64) {
        let offset = (address - self.start) as usize;
        let index = offset / 4;
        match bytes {
            4 => self.words[index].store(value as u32, Relaxed),
            8 => {
                self.words[index].store(value as u32, Relaxed);
                self.words[index + 1].store((value >> 32) as u32, Relaxed);
            }
            _ => {
                let shift = 8 * (offset % 4);
                let kept = !((if bytes == 2 { 0xffff } else { 0xff }) << shift);
                let new = (value as u32) << shift & !kept;
                let update = |word: u32| Some(word & kept | new);
                let _: Result<u32, u32> = self.words[index].fetch_update(Relaxed, Relaxed, update);
            }
        }
        self.mark(offset, bytes);
    }

    /// Replaces the word at `address` atomically; returns the old one.
    pub fn update(&self, address: u64, change: impl Fn(u32) -> u32) -> u32 {
        let offset = (address - self.start) as usize;
        self.mark(offset, 4);
        match self.words[offset / 4].fetch_update(Relaxed, Relaxed, |word| Some(change(word))) {
            Ok(old) | Err(old) => old,
        }
    }

    /// Whether all these bytes were written once.
    #[inline(always)]
    pub fn is_ready(&self, address: u64, bytes: u32) -> bool {
        let offset = (address - self.start) as usize;
        if bytes < 4 {
            let part = ((1u8 << bytes) - 1) << (offset % 4);
            return self.ready[offset / 4].load(Relaxed) & part == part;
        }
        let words = &self.ready[offset / 4..(offset + bytes as usize) / 4];
        words.iter().fold(15, |all, word| all & word.load(Relaxed)) == 15
    }

    /// The lanes whose bytes, all inside and aligned, were not all written.
    #[inline(always)]
    pub fn unready(&self, addresses: &Lanes64, bytes: u32, mask: Mask) -> Mask {
        let holds = |lane: usize| match bytes {
            // the widths of most accesses, known to the compiler
            4 => self.is_ready(addresses[lane], 4),
            16 => self.is_ready(addresses[lane], 16),
            _ => self.is_ready(addresses[lane], bytes),
        };
        lanes(mask).fold(0, |unready, lane| unready | Mask::from(!holds(lane)) << lane)
    }

    #[inline(always)]
    fn mark(&self, offset: usize, bytes: u32) {
        if bytes >= 4 {
            for word in &self.ready[offset / 4..(offset + bytes as usize) / 4] {
                word.store(15, Relaxed);
            }
        } else {
            let part = ((1u8 << bytes) - 1) << (offset % 4);
            self.ready[offset / 4].fetch_or(part, Relaxed);
        }
    }

    /// Copies bytes out, all of them inside.
    pub fn read(&self, address: u64, out: &mut [u8]) {
        let offset = (address - self.start) as usize;
        if offset.is_multiple_of(4) {
            for (word, out) in self.words[offset / 4..].iter().zip(out.chunks_mut(4)) {
                out.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..out.len()]);
            }
            return;
        }
        for (byte, out) in (offset..).zip(out) {
            *out = (self.words[byte / 4].load(Relaxed) >> (8 * (byte % 4))) as u8;
        }
    }

    /// Copies bytes in, all of them inside.
    pub fn write(&self, address: u64, mut values: impl ExactSizeIterator<Item = u8>) {
        let mut at = address;
        while values.len() > 0 {
            if at.is_multiple_of(4) && values.len() >= 4 {
                let word: [u8; 4] = std::array::from_fn(|_| values.next().expect("four are left"));
                self.store(at, 4, u64::from(u32::from_le_bytes(word)));
                at += 4;
            } else if let Some(value) = values.next() {
                self.store(at, 1, u64::from(value));
                at += 1;
            }
        }
    }
}

/// A device's global memory.
#[derive(Default)]
pub struct Memory {
    space: RwLock<Space>,
}

#[derive(Default)]
struct Space {
    allocations: BTreeMap<u64, Arc<Allocation>>,
    used: u64,
}

impl Memory {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// New memory; its address is never used again.
    pub fn allocate(&self, bytes: usize, label: &str) -> u64 {
        let mut space = self.space.write().expect("no writer panics");
        let start = FIRST + space.used;
        space.used += (bytes as u64).next_multiple_of(ALIGNMENT) + RED_ZONE;
        space.allocations.insert(start, Arc::new(Allocation::new(start, bytes, label)));
        start
    }

    /// Ends an allocation.
    pub fn free(&self, start: u64) -> Result<(), MemoryError> {
        let mut space = self.space.write().expect("no writer panics");
        space.allocations.remove(&start).map(drop).ok_or(MemoryError::NotAllocated(start))
    }

    /// Copies bytes out.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.find(address, out.len())?.read(address, out);
        Ok(())
    }

    /// Copies bytes in.
    pub fn write(&self, address: u64, values: &[u8]) -> Result<(), MemoryError> {
        self.find(address, values.len())?.write(address, values.iter().copied());
        Ok(())
    }

    /// Sets bytes to one value.
    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<(), MemoryError> {
        self.find(address, bytes)?.write(address, std::iter::repeat_n(value, bytes));
        Ok(())
    }

    /// The allocation that holds these bytes.
    pub fn find(&self, address: u64, bytes: usize) -> Result<Arc<Allocation>, MemoryError> {
        let space = self.space.read().expect("no writer panics");
        let below = space.allocations.range(..=address).next_back();
        let size = u32::try_from(bytes).ok();
        below
            .filter(|(_, found)| {
                size.is_some_and(|size| found.holds(address, size)) || (bytes == 0 && address == found.start)
            })
            .map(|(_, found)| Arc::clone(found))
            .ok_or(MemoryError::OutOfBounds { address, bytes })
    }

    /// All allocations as they are now, by address.
    pub fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.space.read().expect("no writer panics").allocations.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_neighbours_stay() {
        let memory = Memory::new();
        let start = memory.allocate(11, "x");
        memory.write(start, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap();
        memory.write(start + 3, &[30, 40]).unwrap();
        let mut all = [0; 11];
        memory.read(start, &mut all).unwrap();
        assert_eq!(all, [1, 2, 3, 30, 40, 6, 7, 8, 9, 10, 11]);
        let found = memory.find(start, 8).unwrap();
        assert_eq!(found.load(start, 8), u64::from_le_bytes([1, 2, 3, 30, 40, 6, 7, 8]));
        assert_eq!((found.load(start + 2, 2), found.load(start + 4, 4)), (30 << 8 | 3, 0x0807_0628));
    }

    #[test]
    fn one_byte_beyond_is_outside() {
        let memory = Memory::new();
        let (first, second) = (memory.allocate(10, "x"), memory.allocate(10, "y"));
        assert!(memory.write(first, &[0; 10]).is_ok());
        assert_eq!(
            memory.write(first, &[0; 11]),
            Err(MemoryError::OutOfBounds { address: first, bytes: 11 })
        );
        assert!(memory.read(second - 1, &mut [0]).is_err());
        memory.free(first).unwrap();
        assert_eq!(memory.free(first), Err(MemoryError::NotAllocated(first)));
        assert!(memory.read(first, &mut [0]).is_err());
    }

    #[test]
    fn what_was_never_written_is_known() {
        let memory = Memory::new();
        let start = memory.allocate(16, "x");
        memory.write(start + 2, &[1, 1, 1, 1, 1, 1]).unwrap();
        let found = memory.find(start, 16).unwrap();
        assert!(found.is_ready(start + 2, 2) && found.is_ready(start + 4, 4) && found.is_ready(start + 3, 1));
        assert!(!found.is_ready(start, 4) && !found.is_ready(start + 4, 8) && !found.is_ready(start + 1, 1));
    }
}
