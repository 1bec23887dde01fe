//! Which blocks of one launch touch each word of global memory.
//!
//! Blocks run in any order and on several threads, so a conflict is looked for when all are done: for each
//! word (and byte, where accesses are narrower) the first and last block that wrote it and that read it, in the order of blocks. So the findings do
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

/// Who wrote and who read a word or a byte.
#[derive(Default)]
struct Cell {
    writers: Range,
    readers: Range,
}

/// The cells of [`CHUNK`] words.
struct Cells {
    /// By word: accesses of 4 bytes and more.
    words: Box<[Cell]>,
    /// By byte: narrower accesses, so that neighbours in one word do not meet.
    bytes: OnceLock<Box<[Cell]>>,
}

type Chunk = OnceLock<Cells>;

/// The touches of one launch, for each allocation.
pub struct Touches {
    chunks: Vec<Box<[Chunk]>>,
}

fn cells(count: usize) -> Box<[Cell]> {
    (0..count).map(|_| Cell::default()).collect()
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
        let add = |cell: &Cell| if writes { cell.writers.add(touch) } else { cell.readers.add(touch) };
        let chunk = |word: usize| {
            self.chunks[allocation][word / CHUNK]
                .get_or_init(|| Cells { words: cells(CHUNK), bytes: OnceLock::new() })
        };
        if bytes >= 4 {
            for word in offset / 4..(offset + bytes as usize) / 4 {
                add(&chunk(word).words[word % CHUNK]);
            }
        } else {
            let narrow = chunk(offset / 4).bytes.get_or_init(|| cells(4 * CHUNK));
            let first = offset % (4 * CHUNK);
            narrow[first..first + bytes as usize].iter().for_each(add);
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
        let touched = (offset..offset + bytes as usize).filter_map(|byte| {
            let cells = self.chunks[allocation][byte / (4 * CHUNK)].get()?;
            let narrow = cells.bytes.get().map(|bytes| &bytes[byte % (4 * CHUNK)]);
            Some([Some(&cells.words[byte / 4 % CHUNK]), narrow])
        });
        let ranges = touched
            .flatten()
            .flatten()
            .flat_map(|cell| [Some(&cell.writers), writes.then_some(&cell.readers)])
            .flatten();
        let ends = ranges.filter_map(Range::get).flat_map(|(first, last)| [first, last]);
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
            let touched = chunks.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?)));
            for (index, cells) in touched {
                for (byte, conflict) in cells.conflicts() {
                    let line = at(conflict.other.pc()).place.line;
                    findings.add(Check::GlobalRace, at(conflict.writer.pc()), || Found {
                        block: Block::index_of(conflict.writer.block(), grid),
                        warp: conflict.writer.warp(),
                        lanes: 1 << conflict.writer.lane(),
                        message: format!(
                            "byte {} of {} is written here and {} at line {line} by block {:?}, and nothing orders the two",
                            4 * index * CHUNK + byte,
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

impl Cells {
    /// The conflicts and the bytes where they are.
    fn conflicts(&self) -> impl Iterator<Item = (usize, Conflict)> {
        let narrow = self.bytes.get();
        self.words.iter().enumerate().flat_map(move |(word, cell)| {
            let wide = Cell::conflict([Some(cell), None]).map(|conflict| (4 * word, conflict));
            let narrow = narrow.into_iter().flat_map(move |bytes| {
                let bytes = bytes[4 * word..4 * word + 4].iter().enumerate();
                bytes.filter_map(move |(byte, narrow)| {
                    Some((4 * word + byte, Cell::conflict([Some(cell), Some(narrow)])?))
                })
            });
            wide.into_iter().chain(narrow)
        })
    }
}

impl Cell {
    /// Whether two blocks meet in the accesses of these cells.
    fn conflict(cells: [Option<&Self>; 2]) -> Option<Conflict> {
        let join = |range: fn(&Self) -> &Range| {
            let ranges = cells.into_iter().flatten().filter_map(|cell| range(cell).get());
            ranges.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
        };
        let (writer, last) = join(|cell| &cell.writers)?;
        if writer.block() != last.block() {
            return Some(Conflict { writer, other: last, what: "written" });
        }
        let (earliest, latest) = join(|cell| &cell.readers)?;
        let other = [earliest, latest].into_iter().find(|reader| reader.block() != writer.block())?;
        Some(Conflict { writer, other, what: "read" })
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
        let cells = touches.chunks[0][0].get().unwrap();
        cells.conflicts().map(|(byte, conflict)| (byte, conflict.what)).collect()
    }

    fn fresh() -> Touches {
        let memory = crate::memory::global::Memory::new();
        memory.allocate(64, "x");
        Touches::new(memory.snapshot().iter().map(AsRef::as_ref))
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
        assert_eq!(conflicts(&touches).len(), 4);
        assert_eq!(touches.unordered(0, 3, 1, false, |block| block == 0), Some(1));
        assert_eq!(touches.unordered(0, 1, 1, false, |block| block == 0), None);
    }
}
