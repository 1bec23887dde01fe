//! An owned matrix of activations, and the memory that is used again and again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Row-major f32 `[rows, cols]` on a device. Its memory goes back to the device when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    rows: usize,
    cols: usize,
    memory: Arc<Memory>,
}

impl Buffer {
    pub(super) fn new(memory: &Arc<Memory>, rows: usize, cols: usize) -> Self {
        Self { values: memory.take(rows * cols), rows, cols, memory: Arc::clone(memory) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.rows * self.cols]
    }

    /// All values, row after row.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.rows * self.cols]
    }

    /// A run of values, seen as a vector.
    pub fn part(&self, range: Range<usize>) -> Part<'_> {
        Part(&self.values()[range])
    }

    /// Two runs of values at once; the first ends before the second starts.
    pub fn two_parts_mut(&mut self, first: Range<usize>, second: Range<usize>) -> (PartMut<'_>, PartMut<'_>) {
        assert!(first.end <= second.start, "the parts overlap or stand in the other order");
        let (left, right) = self.values_mut()[..second.end].split_at_mut(second.start);
        (PartMut(&mut left[first]), PartMut(right))
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
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

impl PartMut<'_> {
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

/// Memory of freed buffers by size class, so that a training step touches fresh pages only once.
#[derive(Debug, Default)]
pub struct Memory {
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    free: HashMap<usize, Vec<Vec<f32>>>,
    in_use: usize,
    peak: usize,
}

impl Memory {
    fn take(&self, len: usize) -> Vec<f32> {
        let class = size_class(len);
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.in_use += class * size_of::<f32>();
        shelves.peak = shelves.peak.max(shelves.in_use);
        let found = shelves.free.get_mut(&class).and_then(Vec::pop);
        drop(shelves);
        let values = found.unwrap_or_else(|| vec![0.0; class]);
        // A read before the first write must show in tests, not pass by luck.
        #[cfg(debug_assertions)]
        let values = {
            let mut values = values;
            values.fill(f32::NAN);
            values
        };
        values
    }

    fn give_back(&self, values: Vec<f32>) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.in_use -= values.len() * size_of::<f32>();
        shelves.free.entry(values.len()).or_default().push(values);
    }

    /// The most bytes that were in use at once, size classes included.
    pub fn peak_bytes(&self) -> usize {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).peak
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
    fn memory_comes_back() {
        let memory = Arc::new(Memory::default());
        drop(Buffer::new(&memory, 10, 100));
        drop(Buffer::new(&memory, 100, 10));
        assert_eq!(memory.peak_bytes(), size_class(1000) * 4);
    }
}
