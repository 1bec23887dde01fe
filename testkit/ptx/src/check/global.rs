//! Which blocks of one launch touch each word of global memory.
//!
//! Blocks run in any order and on several threads, so a conflict is looked for when all are done: for each
//! word (and half or byte, where accesses are narrower) the first touch of the lowest and of the highest block
//! that wrote it, and that read it. So the findings do not depend on who ran when. Where atomics order blocks,
//! these run one by one, and a conflict is looked for at each access ([`Touches::unordered`]). Atomic accesses
//! conflict with nothing here.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{Check, Findings, Found};
use crate::isa::At;
use crate::machine::block::Block;
use crate::machine::{Lanes64, Mask, lanes};
use crate::memory::global::Allocation;

/// Bytes that are shadowed together, when the first of them is touched.
const CHUNK: usize = 16384;

/// Who touches: the block's number, the instruction, the warp, the lane, in this order of significance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touch(u64);

const LANE_BITS: u32 = 5;
const WARP_BITS: u32 = 5;
const PC_BITS: u32 = 20;
/// All but the block.
const LOW_BITS: u32 = LANE_BITS + WARP_BITS + PC_BITS;

impl Touch {
    fn new(block: u64, pc: u32, warp: u32, lane: u32) -> Self {
        let low = (pc << WARP_BITS | warp) << LANE_BITS | lane;
        Self(block << LOW_BITS | u64::from(low))
    }

    fn block(self) -> u64 {
        self.0 >> LOW_BITS
    }

    fn pc(self) -> u32 {
        (self.0 >> (LANE_BITS + WARP_BITS)) as u32 & ((1 << PC_BITS) - 1)
    }

    fn warp(self) -> u32 {
        (self.0 >> LANE_BITS) as u32 & ((1 << WARP_BITS) - 1)
    }

    fn lane(self) -> u32 {
        self.0 as u32 & ((1 << LANE_BITS) - 1)
    }
}

/// Cells that are zero, and there, only from their first use on: most words are touched by one block, and most
/// buffers are only read or only written.
#[derive(Default)]
struct Lazy(OnceLock<Box<[AtomicU64]>>);

impl Lazy {
    #[inline(always)]
    fn all(&self, count: usize) -> &[AtomicU64] {
        self.0.get_or_init(|| (0..count).map(|_| AtomicU64::new(0)).collect())
    }

    fn get(&self, cell: usize) -> u64 {
        self.0.get().map_or(0, |cells| cells[cell].load(Relaxed))
    }

    fn is_used(&self) -> bool {
        self.0.get().is_some()
    }
}

/// The touches of one kind of the cells of a chunk; each cell by its lowest block and by another, the highest.
#[derive(Default)]
struct Touched {
    /// The complement of the lowest block's first touch, so that zero means none and the largest is the first.
    lowest: Lazy,
    /// The highest block's first touch, where it is not the lowest block: the low bits complemented, so that
    /// the largest is this too. Zero means none, since block 0 is never above another.
    highest: Lazy,
}

impl Touched {
    /// `lowest`: the cells of the field of that name.
    #[inline(always)]
    fn add(&self, lowest: &[AtomicU64], cells: Range<usize>, touch: Touch, alone: bool) {
        for (index, cell) in cells.clone().zip(&lowest[cells]) {
            // most cells are touched by one block, in the order of its instructions
            let seen = cell.load(Relaxed);
            if seen == 0 && alone {
                cell.store(!touch.0, Relaxed);
            } else if seen < !touch.0 || (seen ^ !touch.0) >> LOW_BITS != 0 {
                self.meet(cell, index, lowest.len(), touch, alone);
            }
        }
    }

    /// The first touch of a cell, or another block's.
    fn meet(&self, lowest: &AtomicU64, index: usize, count: usize, touch: Touch, alone: bool) {
        let seen = raise(lowest, !touch.0, alone);
        let known = Touch(!seen);
        if seen == 0 || known.block() == touch.block() {
            return;
        }
        let key = Touch(known.0.max(touch.0)).0 ^ ((1 << LOW_BITS) - 1);
        raise(&self.highest.all(count)[index], key, alone);
    }

    /// The lowest block's touch and, where there is another block, the highest's.
    fn get(&self, cell: usize) -> Option<(Touch, Touch)> {
        let (lowest, highest) = (self.lowest.get(cell), self.highest.get(cell));
        let first = Touch(!lowest);
        let last = if highest == 0 { first } else { Touch(highest ^ ((1 << LOW_BITS) - 1)) };
        (lowest != 0).then_some((first, last))
    }
}

/// Makes a cell at least as large as a value; returns what it was. `alone`: no other thread is there.
#[inline(always)]
fn raise(cell: &AtomicU64, value: u64, alone: bool) -> u64 {
    let seen = cell.load(Relaxed);
    if seen >= value {
        return seen;
    }
    if alone {
        cell.store(value, Relaxed);
        return seen;
    }
    cell.fetch_max(value, Relaxed)
}

/// The cells of one width of a chunk: who wrote, who read.
#[derive(Default)]
struct Level {
    writers: Touched,
    readers: Touched,
}

/// The shadow of [`CHUNK`] bytes by the width of accesses: so that neighbours in one word do not meet, and that rows of
/// 16 bytes, in which matrices move, are one cell.
type Levels = [Level; WIDTHS.len()];

/// The width of a level's cells in bytes, as a power of two.
const WIDTHS: [usize; 4] = [4, 2, 1, 0];

/// The widest level whose cells these bytes fill.
#[inline(always)]
fn level_of(offset: usize, bytes: u32) -> usize {
    [3, 2, 1, 1, 0][(offset | bytes as usize).trailing_zeros().min(4) as usize]
}

/// The touches of one launch, for each allocation.
pub struct Touches {
    chunks: Vec<Box<[OnceLock<Box<Levels>>]>>,
    /// For each allocation, whether anything wrote to it.
    written: Vec<AtomicBool>,
    /// Whether one thread runs all blocks.
    alone: bool,
}

impl Touches {
    /// None yet. `alone`: one thread runs all blocks.
    pub fn new<'a>(allocations: impl Iterator<Item = &'a Allocation>, alone: bool) -> Self {
        let chunks = |a: &Allocation| (0..a.bytes.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        let chunks: Vec<_> = allocations.map(chunks).collect();
        let written = chunks.iter().map(|_| AtomicBool::new(false)).collect();
        Self { chunks, written, alone }
    }

    /// Whether any block wrote to an allocation.
    pub fn written(&self, allocation: usize) -> bool {
        self.written[allocation].load(Relaxed)
    }

    /// Bytes of an allocation, from `offset`, are read or written by a block.
    #[inline(always)]
    pub fn add(&self, allocation: usize, offset: usize, bytes: u32, writes: bool, by: Toucher) {
        let (level, touch) = (level_of(offset, bytes), Touch::new(by.block, by.pc, by.warp, by.lane));
        if writes {
            self.written[allocation].store(true, Relaxed);
        }
        let width = WIDTHS[level];
        let (mut from, end) = (offset, offset + bytes as usize);
        while from < end {
            let (chunk, start) = (from / CHUNK, from / CHUNK * CHUNK);
            let to = end.min(start + CHUNK);
            let (touched, lowest) = self.touched(allocation, chunk, level, writes);
            touched.add(lowest, (from - start) >> width..(to - start) >> width, touch, self.alone);
            from = to;
        }
    }

    /// The same of `bytes` at the address of each lane, in an allocation that starts at `start`.
    #[inline(always)]
    pub fn add_lanes(
        &self,
        (allocation, start): (usize, u64),
        (addresses, bytes, mask): (&Lanes64, u32, Mask),
        writes: bool,
        by: Toucher,
    ) {
        let level = level_of(0, bytes);
        if writes {
            self.written[allocation].store(true, Relaxed);
        }
        let width = WIDTHS[level];
        let cells = bytes as usize >> width;
        let mut last = None;
        for lane in lanes(mask) {
            let offset = (addresses[lane] - start) as usize;
            let chunk = offset / CHUNK;
            let (touched, lowest) = match last {
                Some((known, touched, lowest)) if known == chunk => (touched, lowest),
                _ => self.touched(allocation, chunk, level, writes),
            };
            last = Some((chunk, touched, lowest));
            // aligned accesses of at most 32 bytes stay inside a chunk
            let cell = (offset % CHUNK) >> width;
            let touch = Touch::new(by.block, by.pc, by.warp, lane as u32);
            touched.add(lowest, cell..cell + cells, touch, self.alone);
        }
    }

    /// The touches of one kind in a chunk, with the cells of the lowest blocks.
    #[inline(always)]
    fn touched(
        &self,
        allocation: usize,
        chunk: usize,
        level: usize,
        writes: bool,
    ) -> (&Touched, &[AtomicU64]) {
        let levels = &self.chunks[allocation][chunk].get_or_init(Box::default)[level];
        let touched = if writes { &levels.writers } else { &levels.readers };
        (touched, touched.lowest.all(CHUNK >> WIDTHS[level]))
    }

    /// A block that touched these bytes before, where one of the two writes, and that `knows` does not order.
    pub fn unordered(
        &self,
        allocation: usize,
        offset: usize,
        bytes: u32,
        writes: bool,
        knows: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let (mut from, end) = (offset, offset + bytes as usize);
        while from < end {
            let start = from / CHUNK * CHUNK;
            let to = end.min(start + CHUNK);
            let Some(levels) = self.chunks[allocation][from / CHUNK].get() else {
                from = to;
                continue;
            };
            for (level, width) in levels.iter().zip(WIDTHS) {
                let cells = (from - start) >> width..(to - start).div_ceil(1 << width);
                let kinds = [Some(&level.writers), writes.then_some(&level.readers)];
                let used = kinds.into_iter().flatten().filter(|touched| touched.lowest.is_used());
                let touches = used.flat_map(|touched| cells.clone().filter_map(|cell| touched.get(cell)));
                let mut blocks = touches.flat_map(|(first, last)| [first.block(), last.block()]);
                if let Some(block) = blocks.find(|&block| !knows(block)) {
                    return Some(block);
                }
            }
            from = to;
        }
        None
    }

    /// Adds the conflicts to the findings, for each instruction that wrote first.
    pub fn conflicts(
        &self,
        allocations: &[impl AsRef<Allocation>],
        grid: [u32; 3],
        findings: &mut Findings,
        at: impl Fn(u32) -> At,
    ) {
        for (allocation, chunks) in allocations.iter().map(AsRef::as_ref).zip(&self.chunks) {
            let touched = chunks.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?)));
            for (index, levels) in touched {
                for (byte, conflict) in conflicts(levels) {
                    let line = at(conflict.other.pc()).place.line;
                    findings.add(Check::GlobalRace, at(conflict.writer.pc()), || Found {
                        block: Block::index_of(conflict.writer.block(), grid),
                        warp: conflict.writer.warp(),
                        lanes: 1 << conflict.writer.lane(),
                        message: format!(
                            "byte {} of {} is written here and {} at line {line} by block {:?}, and nothing orders the two",
                            index * CHUNK + byte,
                            allocation.label,
                            conflict.what,
                            Block::index_of(conflict.other.block(), grid),
                        ),
                        times: 1,
                    });
                }
            }
        }
    }
}

/// Two blocks at the same bytes.
struct Conflict {
    writer: Touch,
    other: Touch,
    /// What the other did.
    what: &'static str,
}

/// The conflicts and the bytes where they are.
fn conflicts(levels: &Levels) -> Vec<(usize, Conflict)> {
    let used =
        |(level, _): &(&Level, usize)| level.writers.lowest.is_used() || level.readers.lowest.is_used();
    let levels: Vec<_> = levels.iter().zip(WIDTHS).filter(used).collect();
    let several = |(level, _): &(&Level, usize)| {
        let Level { writers, readers } = level;
        writers.highest.is_used() || writers.lowest.is_used() && readers.lowest.is_used()
    };
    // the narrowest accesses say which bytes must be looked at one by one
    let width = match levels[..] {
        [] => return Vec::new(),
        [ref only] if !several(only) => return Vec::new(),
        [.., (_, width)] => width,
    };
    let bytes = (0..CHUNK).step_by(1 << width);
    let at = |byte: usize| levels.iter().map(move |&(level, width)| (level, byte >> width));
    bytes.filter_map(|byte| Some((byte, Conflict::of(at(byte))?))).collect()
}

impl Conflict {
    /// Whether two blocks meet in the accesses of these cells.
    fn of<'a>(cells: impl Iterator<Item = (&'a Level, usize)> + Clone) -> Option<Self> {
        let join = |kind: fn(&Level) -> &Touched| {
            let touches = cells.clone().filter_map(|(level, cell)| kind(level).get(cell));
            touches.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
        };
        let (writer, last) = join(|level| &level.writers)?;
        if writer.block() != last.block() {
            return Some(Self { writer, other: last, what: "written" });
        }
        let (earliest, latest) = join(|level| &level.readers)?;
        let other = [earliest, latest].into_iter().find(|reader| reader.block() != writer.block())?;
        Some(Self { writer, other, what: "read" })
    }
}

/// Who touches global memory.
#[derive(Clone, Copy, Debug)]
pub struct Toucher {
    /// The block's number in the grid.
    pub block: u64,
    /// The instruction's index.
    pub pc: u32,
    /// The warp.
    pub warp: u32,
    /// The lane.
    pub lane: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(touches: &Touches, block: u64, offset: usize, bytes: u32, writes: bool) {
        touches.add(0, offset, bytes, writes, Toucher { block, pc: block as u32, warp: 0, lane: 0 });
    }

    fn conflicts(touches: &Touches) -> Vec<(usize, &'static str)> {
        let found = super::conflicts(touches.chunks[0][0].get().unwrap()).into_iter();
        found.map(|(byte, conflict)| (byte, conflict.what)).collect()
    }

    fn fresh() -> Touches {
        let memory = crate::memory::global::Memory::new();
        memory.allocate(64, "x");
        Touches::new(memory.snapshot().iter().map(AsRef::as_ref), true)
    }

    #[test]
    fn two_blocks_meet_where_one_writes() {
        let touches = fresh();
        touch(&touches, 0, 0, 4, true);
        touch(&touches, 1, 4, 8, true);
        touch(&touches, 1, 16, 4, false);
        touch(&touches, 2, 16, 4, false);
        assert_eq!(conflicts(&touches), []);
        touch(&touches, 3, 8, 4, true);
        touch(&touches, 3, 0, 4, false);
        assert_eq!(conflicts(&touches), [(0, "read"), (8, "written")]);
    }

    #[test]
    fn neighbours_in_a_word_do_not_meet_but_wide_and_narrow_accesses_do() {
        let touches = fresh();
        touch(&touches, 0, 0, 2, true);
        touch(&touches, 1, 2, 2, true);
        assert_eq!(conflicts(&touches), []);
        touch(&touches, 2, 0, 16, false);
        assert_eq!(conflicts(&touches), [(0, "read"), (2, "read")]);
        assert_eq!(touches.unordered(0, 3, 1, false, |block| block == 0), Some(1));
        assert_eq!(touches.unordered(0, 1, 1, false, |block| block == 0), None);
    }
}
