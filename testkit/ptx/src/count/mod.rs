//! What a launch asks of the machine: instructions, requests, sectors, wavefronts.
//!
//! A request is one warp's access by one instruction. Global memory moves sectors of 32 bytes; the ideal is
//! the active lanes' bytes / 32. Shared memory moves wavefronts of 32 banks x 4 bytes; the least is the
//! distinct bytes / 128.

pub mod banks;
pub mod sectors;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::isa::Class;

/// Counts of one instruction of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executed {
    /// Warps that executed it.
    pub warps: u64,
    /// Lanes that executed it.
    pub lanes: u64,
}

/// Requests of one kind to one buffer of global memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Warp-wide accesses.
    pub requests: u64,
    /// Sectors of 32 bytes that they touch.
    pub sectors: u64,
    /// Sectors that the lanes' bytes would fill.
    pub ideal_sectors: u64,
    /// Bytes that the lanes ask for.
    pub bytes: u64,
}

/// Requests to one buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Reads.
    pub loads: Requests,
    /// Writes.
    pub stores: Requests,
    /// Atomic updates.
    pub atomics: Requests,
    /// Bulk copies, either way.
    pub bulk: Requests,
}

/// Requests to shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wavefronts {
    /// Warp-wide accesses.
    pub requests: u64,
    /// Passes over the banks that they take.
    pub wavefronts: u64,
    /// The fewest that their bytes need.
    pub least: u64,
}

/// Everything that is counted while blocks run.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By instruction.
    pub executed: Vec<Executed>,
    /// By instruction: requests to shared memory.
    pub shared: Vec<Wavefronts>,
    /// By allocation, in the order of the launch's snapshot.
    pub global: Vec<Traffic>,
    /// Phases of barriers that ended.
    pub barriers: u64,
    /// Multiply-accumulate tiles m16n8k16, larger and smaller shapes in proportion, in 1/16 of a tile.
    pub mma_sixteenths: u64,
    /// The same, each times the groups of asynchronous copies that were in flight in its warp.
    pub mma_groups: u64,
}

impl Counters {
    /// Zero, for a kernel and a number of allocations.
    pub fn new(instructions: usize, allocations: usize) -> Self {
        Self {
            executed: vec![Executed::default(); instructions],
            shared: vec![Wavefronts::default(); instructions],
            global: vec![Traffic::default(); allocations],
            ..Self::default()
        }
    }

    /// A warp executes an instruction with these lanes.
    #[inline(always)]
    pub fn instruction(&mut self, pc: u32, mask: u32) {
        let executed = &mut self.executed[pc as usize];
        executed.warps += 1;
        executed.lanes += u64::from(mask.count_ones());
    }

    /// A warp issues products while so many groups of its asynchronous copies are in flight.
    #[inline(always)]
    pub fn products(&mut self, sixteenths: u64, groups: u32) {
        self.mma_sixteenths += sixteenths;
        self.mma_groups += sixteenths * u64::from(groups);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.executed.iter_mut().zip(&other.executed) {
            mine.warps += theirs.warps;
            mine.lanes += theirs.lanes;
        }
        for (mine, theirs) in self.shared.iter_mut().zip(&other.shared) {
            mine.merge(*theirs);
        }
        for (mine, theirs) in self.global.iter_mut().zip(&other.global) {
            mine.loads.merge(theirs.loads);
            mine.stores.merge(theirs.stores);
            mine.atomics.merge(theirs.atomics);
            mine.bulk.merge(theirs.bulk);
        }
        self.barriers += other.barriers;
        self.mma_sixteenths += other.mma_sixteenths;
        self.mma_groups += other.mma_groups;
    }
}

impl Requests {
    /// Adds further requests.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.ideal_sectors += other.ideal_sectors;
        self.bytes += other.bytes;
    }
}

impl Wavefronts {
    /// Adds further requests.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.wavefronts += other.wavefronts;
        self.least += other.least;
    }
}

/// What a launch counted, with names instead of numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Instructions executed by warps.
    pub warp_instructions: u64,
    /// Instructions executed by lanes.
    pub lane_instructions: u64,
    /// Lane-instructions by class.
    pub classes: BTreeMap<Class, u64>,
    /// Lane-instructions by mnemonic.
    pub mnemonics: BTreeMap<String, u64>,
    /// m16n8k16 tiles per warp, or their equivalent.
    pub mma: f64,
    /// Groups of cp.async copies that are in flight in a warp while it issues a product, on average.
    pub in_flight: f64,
    /// Phases of barriers that ended.
    pub barriers: u64,
    /// Requests to global memory, of all buffers.
    pub global: Traffic,
    /// The same by buffer.
    pub buffers: BTreeMap<String, Traffic>,
    /// Requests to shared memory.
    pub shared: Wavefronts,
    /// The same by mnemonic.
    pub shared_by_mnemonic: BTreeMap<String, Wavefronts>,
}

impl Summary {
    /// Names the counters: `instructions` gives class and mnemonic of each, `labels` the buffers.
    pub fn new<'a>(
        counters: &Counters,
        instructions: impl Iterator<Item = (Class, &'a str)>,
        labels: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut summary = Self {
            barriers: counters.barriers,
            mma: counters.mma_sixteenths as f64 / 16.0,
            in_flight: counters.mma_groups as f64 / counters.mma_sixteenths.max(1) as f64,
            ..Self::default()
        };
        let counted = counters.executed.iter().zip(&counters.shared);
        for ((executed, &wavefronts), (class, mnemonic)) in counted.zip(instructions) {
            summary.warp_instructions += executed.warps;
            summary.lane_instructions += executed.lanes;
            if executed.lanes > 0 {
                *summary.classes.entry(class).or_default() += executed.lanes;
                *summary.mnemonics.entry(mnemonic.to_owned()).or_default() += executed.lanes;
            }
            if wavefronts.requests > 0 {
                summary.shared.merge(wavefronts);
                summary.shared_by_mnemonic.entry(mnemonic.to_owned()).or_default().merge(wavefronts);
            }
        }
        for (traffic, label) in counters.global.iter().zip(labels).filter(|(t, _)| **t != Traffic::default())
        {
            for all in [&mut summary.global, summary.buffers.entry(label.to_owned()).or_default()] {
                all.loads.merge(traffic.loads);
                all.stores.merge(traffic.stores);
                all.atomics.merge(traffic.atomics);
                all.bulk.merge(traffic.bulk);
            }
        }
        summary
    }
}
