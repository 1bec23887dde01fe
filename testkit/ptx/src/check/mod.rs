//! What is wrong with a run although its numbers may be right.

pub mod clock;
pub mod global;
pub mod order;
pub mod shared;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::isa::{At, Place};
use crate::machine::Mask;

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// An access outside every allocation, or outside the block's shared memory.
    OutOfBounds,
    /// An address that is no multiple of the access's size.
    Misaligned,
    /// A read of bytes that nothing wrote.
    Uninitialised,
    /// Two lanes or warps touch the same shared bytes, one writes, and nothing orders them.
    SharedRace,
    /// Two blocks touch the same global bytes, one writes, not both atomically.
    GlobalRace,
    /// Shared bytes that an asynchronous copy is still to write are touched.
    InFlight,
    /// A barrier that not all lanes of a warp reach together.
    DivergentBarrier,
    /// A member mask names lanes that never arrive.
    MissingLanes,
    /// A lane executes an instruction whose member mask does not name it.
    NotInMask,
    /// A shuffle reads a lane that does not take part.
    InactiveSource,
    /// Lanes of one warp disagree on an operand that must be the same in all.
    NotUniform,
    /// An mbarrier is used against its rules.
    Mbarrier,
    /// The asynchronous proxy reads what plain stores wrote, with no `fence.proxy.async` between.
    ProxyFence,
    /// An asynchronous copy or matrix product that nothing waits for, or that is used too early.
    AsyncUse,
    /// No warp can go on.
    Deadlock,
    /// The kernel executed `trap`, or an instruction with a wrong operand.
    Trap,
    /// The launch itself is wrong: too many threads, too much shared memory, wrong parameters.
    Launch,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One thing that is wrong, with the first place and lanes where it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub check: Check,
    /// The kernel's entry.
    pub kernel: String,
    /// The source file as `.file` names it; empty where the PTX says none.
    pub file: String,
    /// The line of that file; 0 where the PTX says none.
    pub line: u32,
    /// The PTX instruction.
    pub instruction: String,
    /// The block, x y z.
    pub block: [u32; 3],
    /// The warp in the block.
    pub warp: u32,
    /// The lanes.
    pub lanes: Mask,
    /// What was found and what was needed.
    pub message: String,
    /// How many times the same instruction was found wrong in the same way, in all blocks.
    pub times: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, kernel, file, line, instruction, block: [x, y, z], warp, lanes, message, times } =
            self;
        write!(f, "{check}: {kernel}, {file}:{line} [{instruction}], block ({x}, {y}, {z}), warp {warp}, ")?;
        write!(f, "lanes {lanes:08x}: {message}")?;
        if *times > 1 { write!(f, " ({times} times)") } else { Ok(()) }
    }
}

/// What one block, or a whole launch, found: one entry for each instruction and kind.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    found: BTreeMap<(At, Check), Found>,
}

/// The first occurrence of a finding.
#[derive(Clone, Debug)]
pub struct Found {
    /// The block, x y z.
    pub block: [u32; 3],
    /// The warp in the block.
    pub warp: u32,
    /// The lanes.
    pub lanes: Mask,
    /// What was found and what was needed.
    pub message: String,
    /// How many times.
    pub times: u64,
}

impl Findings {
    /// Adds an occurrence.
    pub fn add(&mut self, check: Check, at: At, found: impl FnOnce() -> Found) {
        self.found.entry((at, check)).and_modify(|f| f.times += 1).or_insert_with(found);
    }

    /// Adds what a later block found.
    pub fn merge(&mut self, later: Self) {
        for (key, found) in later.found {
            match self.found.entry(key) {
                std::collections::btree_map::Entry::Occupied(mut known) => {
                    known.get_mut().times += found.times;
                }
                std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(found)),
            }
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings in the order of the kernel's instructions.
    pub fn into_list(self, kernel: &str, mnemonics: &[String], files: &[String]) -> Vec<Finding> {
        let name = |names: &[String], index: u32| names.get(index as usize).cloned().unwrap_or_default();
        let list = self.found.into_iter().map(|((at, check), found)| Finding {
            check,
            kernel: kernel.to_owned(),
            file: name(files, at.place.file),
            line: at.place.line,
            instruction: name(mnemonics, at.mnemonic),
            block: found.block,
            warp: found.warp,
            lanes: found.lanes,
            message: found.message,
            times: found.times,
        });
        list.collect()
    }
}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.pc.cmp(&other.pc)
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.pc == other.pc
    }
}

impl Eq for At {}

/// The place of a finding that belongs to no instruction.
pub const NOWHERE: At = At { pc: u32::MAX, place: Place { file: u32::MAX, line: 0 }, mnemonic: u32::MAX };
