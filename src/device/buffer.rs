//! An owned matrix of activations, and the memory that is used again and again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;

/// Row-major f32 `[rows, cols]` on a device. Its memory goes back to the device when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Values,
    rows: usize,
    cols: usize,
    memory: Arc<Memory>,
}

impl Buffer {
    pub(super) fn new(memory: &Arc<Memory>, rows: usize, cols: usize) -> Self {
        let values = memory.take(rows * cols);
        Self { values, rows, cols, memory: Arc::clone(memory) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values.get()[..self.rows * self.cols]
    }

    /// All values, row after row.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values.get_mut()[..self.rows * self.cols]
    }

    /// A run of values, seen as a vector.
    pub fn part(&self, range: Range<usize>) -> Part<'_> {
        Part(&self.values()[range])
    }

    /// All values, seen as a vector.
    pub fn whole(&self) -> Part<'_> {
        Part(self.values())
    }

    /// All values, seen as a vector to be written.
    pub fn whole_mut(&mut self) -> PartMut<'_> {
        PartMut::new(self.values_mut())
    }

    /// A run of values to be written.
    pub fn part_mut(&mut self, range: Range<usize>) -> PartMut<'_> {
        PartMut::new(&mut self.values_mut()[range])
    }

    /// Runs of values to be written, all at once; each ends before the next starts.
    pub fn parts_mut(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<PartMut<'_>> {
        let (mut rest, mut done) = (self.values_mut(), 0);
        let mut part = |range: Range<usize>| {
            assert!(done <= range.start, "the parts overlap or stand in another order");
            let (_, from) = std::mem::take(&mut rest).split_at_mut(range.start - done);
            let (part, after) = from.split_at_mut(range.len());
            (rest, done) = (after, range.end);
            PartMut(part)
        };
        ranges.into_iter().map(&mut part).collect()
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values.get()[row * self.cols..(row + 1) * self.cols]
    }
}

/// A borrowed run of values on a device: one parameter of a contiguous arena.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a>(&'a [f32]);

impl<'a> Part<'a> {
    /// Its values.
    pub fn values(&self) -> &'a [f32] {
        self.0
    }
}

/// As [`Part`], to be written.
#[derive(Debug)]
pub struct PartMut<'a>(&'a mut [f32]);

impl<'a> PartMut<'a> {
    pub(super) fn new(values: &'a mut [f32]) -> Self {
        Self(values)
    }

    /// Its values.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.give_back(std::mem::take(&mut self.values));
    }
}

/// Zeroed memory. An allocator keeps what large buffers leave, a piece for each thread that ever took one; the system
/// takes it all back.
#[derive(Debug)]
enum Values {
    Small(Vec<f32>),
    Pages(MmapMut),
}

impl Default for Values {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl Values {
    /// Values from which on pages are used: fewer would waste much of their last.
    const PAGES: usize = 1 << 14;

    fn new(len: usize) -> Self {
        if len < Self::PAGES {
            return Self::Small(vec![0.0; len]);
        }
        let bytes = len * size_of::<f32>();
        Self::Pages(MmapMut::map_anon(bytes).unwrap_or_else(|e| panic!("no memory for {bytes} bytes: {e}")))
    }

    fn get(&self) -> &[f32] {
        match self {
            Self::Small(values) => values,
            Self::Pages(pages) => bytemuck::cast_slice(pages),
        }
    }

    fn get_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Small(values) => values,
            Self::Pages(pages) => bytemuck::cast_slice_mut(pages),
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(self.get())
    }
}

/// Memory of freed buffers by length, so that a training step touches fresh pages only once.
///
/// Free and used memory together stay within 1/8 of the most that was ever used at once, however batches
/// vary in length.
#[derive(Debug, Default)]
pub struct Memory {
    shelves: Mutex<Shelves>,
    /// Whether nobody writes what is taken: pages that the system promised are never touched then.
    blank: bool,
}

/// How much of the most that was used may be held.
const SLACK: f64 = 1.125;

#[derive(Debug, Default)]
struct Shelves {
    free: BTreeMap<usize, Vec<Values>>,
    free_bytes: usize,
    used_bytes: usize,
    peak_bytes: usize,
}

impl Shelves {
    /// A free buffer of at least `len` values and at most twice that.
    fn reuse(&mut self, len: usize) -> Option<Values> {
        let (&found, shelf) = self.free.range_mut(len..=2 * len).next()?;
        let values = shelf.pop()?;
        if shelf.is_empty() {
            self.free.remove(&found);
        }
        self.free_bytes -= values.bytes();
        Some(values)
    }

    /// Returns free memory to the system until no more than the limit is held; the largest first.
    fn trim(&mut self) {
        let limit = (self.peak_bytes as f64 * SLACK) as usize;
        while self.free_bytes + self.used_bytes > limit {
            let Some(mut shelf) = self.free.last_entry() else { return };
            let dropped = shelf.get_mut().pop();
            self.free_bytes -= dropped.map_or(0, |values| values.bytes());
            if shelf.get().is_empty() {
                shelf.remove();
            }
        }
    }
}

impl Memory {
    /// Memory that is counted, not written.
    pub(super) fn blank() -> Self {
        Self { blank: true, ..Self::default() }
    }

    fn take(&self, len: usize) -> Values {
        let class = size_class(len);
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shelves.reuse(class);
        shelves.used_bytes += found.as_ref().map_or(class * size_of::<f32>(), Values::bytes);
        shelves.peak_bytes = shelves.peak_bytes.max(shelves.used_bytes);
        if found.is_none() {
            shelves.trim();
        }
        drop(shelves);
        let mut values = found.unwrap_or_else(|| Values::new(class));
        // A read before the first write must show in tests, not pass by luck.
        if cfg!(debug_assertions) && !self.blank {
            values.get_mut().fill(f32::NAN);
        }
        values
    }

    fn give_back(&self, values: Values) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.used_bytes -= values.bytes();
        shelves.free_bytes += values.bytes();
        shelves.free.entry(values.get().len()).or_default().push(values);
    }

    /// Bytes that are in use, size classes included.
    pub fn used_bytes(&self) -> usize {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).used_bytes
    }

    /// The most bytes that were in use at once, size classes included.
    pub fn peak_bytes(&self) -> usize {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).peak_bytes
    }
}

/// Rounds up to one of eight steps per power of two: at most 1/8 is wasted, and batches of nearly the
/// same length use the same memory.
fn size_class(len: usize) -> usize {
    const SMALLEST: usize = 64;
    if len <= SMALLEST {
        return SMALLEST;
    }
    let step = (len.next_power_of_two() / 16).max(1);
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_length_and_wastes_at_most_an_eighth() {
        for len in (65..5000).chain([1 << 20, (1 << 20) + 1, 12_345_678]) {
            let class = size_class(len);
            assert!(class >= len && class as f64 <= len as f64 * 1.125, "{len} -> {class}");
            assert_eq!(size_class(class), class);
        }
    }

    #[test]
    fn memory_comes_back_and_stays_bounded() {
        let memory = Arc::new(Memory::default());
        drop(Buffer::new(&memory, 10, 100));
        drop(Buffer::new(&memory, 100, 10));
        assert_eq!(memory.peak_bytes(), size_class(1000) * 4);
        for rows in 1..300 {
            let together = [Buffer::new(&memory, rows, 100), Buffer::new(&memory, rows, 30)];
            drop(together);
            let shelves = memory.shelves.lock().unwrap();
            let held = shelves.free_bytes + shelves.used_bytes;
            assert!(held as f64 <= SLACK * shelves.peak_bytes as f64, "{held} bytes held");
            let counted: usize = shelves.free.values().flatten().map(Values::bytes).sum();
            assert_eq!((counted, shelves.used_bytes), (shelves.free_bytes, 0));
        }
    }
}
