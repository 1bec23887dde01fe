//! Which blocks of one launch touch each word of global memory.
//!
//! Blocks run in any order and on several threads, so a conflict is looked for when all are done: for each
//! word the first and last block that wrote it and that read it, in the order of blocks. So the findings do
//! not depend on who ran when. Where atomics order blocks, these run one by one, and a conflict is looked for at
//! each access ([`Touches::unordered`]). Atomic accesses conflict with nothing here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Check, Findings, Found};
use crate::isa::At;
use crate::machine::block::Block;
use crate::memory::global::Allocation;

/// Words that are shadowed together, when the first of them is touched.
const CHUNK: usize = 4096;

/// Who touches: the block's number, the instruction, the warp, the lane, in this order of significance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touch(u64);

const LANE_BITS: u32 = 5;
const WARP_BITS: u32 = 5;
const PC_BITS: u32 = 20;

impl Touch {
    fn new(block: u64, pc: u32, warp: u32, lane: u32) -> Self {
        let low = (pc << WARP_BITS | warp) << LANE_BITS | lane;
        Self(block << (LANE_BITS + WARP_BITS + PC_BITS) | u64::from(low))
    }

    fn block(self) -> u64 {
        self.0 >> (LANE_BITS + WARP_BITS + PC_BITS)
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

/// First and last of some touches; stored so that zero means none.
#[derive(Default)]
struct Range {
    /// The complement of the first, so that the largest value is the first.
    first: AtomicU64,
    last: AtomicU64,
}

impl Range {
    #[inline(always)]
    fn add(&self, touch: Touch) {
        // most words are touched by one block: then both loads say that there is nothing to do
        let (first, last) = (!touch.0, touch.0 + 1);
        if self.first.load(Relaxed) < first {
            self.first.fetch_max(first, Relaxed);
        }
        if self.last.load(Relaxed) < last {
            self.last.fetch_max(last, Relaxed);
        }
    }

    fn get(&self) -> Option<(Touch, Touch)> {
        let (first, last) = (self.first.load(Relaxed), self.last.load(Relaxed));
        (last != 0).then(|| (Touch(!first), Touch(last - 1)))
    }
}

#[derive(Default)]
struct Word {
    writers: Range,
    readers: Range,
}

type Chunk = OnceLock<Box<[Word]>>;

/// The touches of one launch, for each allocation.
pub struct Touches {
    chunks: Vec<Box<[Chunk]>>,
}

impl Touches {
    /// None yet.
    pub fn new<'a>(allocations: impl Iterator<Item = &'a Allocation>) -> Self {
        let chunks = |a: &Allocation| (0..a.bytes.div_ceil(4 * CHUNK)).map(|_| Chunk::new()).collect();
        Self { chunks: allocations.map(chunks).collect() }
    }

    /// Bytes of an allocation, from `offset`, are read or written by a block.
    #[inline(always)]
    pub fn add(&self, allocation: usize, offset: usize, bytes: u32, writes: bool, by: Toucher) {
        let touch = Touch::new(by.block, by.pc, by.warp, by.lane);
        for word in offset / 4..(offset + bytes as usize).div_ceil(4) {
            let chunk = self.chunks[allocation][word / CHUNK]
                .get_or_init(|| (0..CHUNK).map(|_| Word::default()).collect());
            let word = &chunk[word % CHUNK];
            if writes { word.writers.add(touch) } else { word.readers.add(touch) }
        }
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
        let words = offset / 4..(offset + bytes as usize).div_ceil(4);
        let touched =
            words.filter_map(|word| Some(&self.chunks[allocation][word / CHUNK].get()?[word % CHUNK]));
        let ranges = touched.flat_map(|word| [Some(&word.writers), writes.then_some(&word.readers)]);
        let ends = ranges.flatten().filter_map(Range::get).flat_map(|(first, last)| [first, last]);
        ends.map(Touch::block).find(|&block| !knows(block))
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
            for (index, chunk) in chunks.iter().enumerate() {
                let words = chunk.get().into_iter().flat_map(|words| words.iter()).enumerate();
                for (word, touched) in words {
                    let Some((writer, other, what)) = touched.conflict() else { continue };
                    let line = at(other.pc()).place.line;
                    findings.add(Check::GlobalRace, at(writer.pc()), || Found {
                        block: Block::index_of(writer.block(), grid),
                        warp: writer.warp(),
                        lanes: 1 << writer.lane(),
                        message: format!(
                            "bytes {}.. of {} are written here and {what} at line {line} by block {:?}, and nothing orders the two",
                            4 * (index * CHUNK + word),
                            allocation.label,
                            Block::index_of(other.block(), grid),
                        ),
                        times: 1,
                    });
                }
            }
        }
    }
}

impl Word {
    fn conflict(&self) -> Option<(Touch, Touch, &'static str)> {
        let (first, last) = self.writers.get()?;
        if first.block() != last.block() {
            return Some((first, last, "written"));
        }
        let (earliest, latest) = self.readers.get()?;
        [earliest, latest].into_iter().find(|r| r.block() != first.block()).map(|r| (first, r, "read"))
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
