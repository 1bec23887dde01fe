//! Named barriers: `bar.sync`, `barrier.arrive`, `barrier.red`.

use super::registers::{Pred, Reg32};
use super::warp::Warp;
use super::{Mask, WARP};
use crate::check::clock::Clocks;

/// Barriers of a block.
pub const BARRIERS: usize = 16;

/// What one barrier instruction asks for.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Which barrier.
    pub id: Reg32,
    /// How many threads take part; all of the block where absent.
    pub count: Option<Reg32>,
    /// Whether a whole warp must execute it together.
    pub aligned: bool,
    /// Whether it waits.
    pub waits: bool,
    /// What it computes over the threads that take part.
    pub reduction: Option<Reduction>,
}

/// `barrier.red`.
#[derive(Clone, Copy, Debug)]
pub struct Reduction {
    /// Its kind and result.
    pub result: ReductionResult,
    /// Each thread's value.
    pub input: Pred,
    /// Whether its negation is meant.
    pub negated: bool,
}

/// What `barrier.red` gives.
#[derive(Clone, Copy, Debug)]
pub enum ReductionResult {
    /// `.popc`: how many.
    Count(Reg32),
    /// `.and`: whether all.
    All(Pred),
    /// `.or`: whether any.
    Any(Pred),
}

/// The state of one barrier.
#[derive(Clone, Debug, Default)]
struct Barrier {
    /// Phases that are over.
    generation: u32,
    /// Lanes of each warp that arrived in this phase, and whether they wait.
    arrived: Vec<(Mask, bool)>,
    /// Threads of this phase, where an instruction says so.
    count: Option<u32>,
    /// Threads whose value was true, and threads that gave one.
    trues: u32,
    /// The result of the last phase: (trues, threads).
    last: (u32, u32),
}

/// All barriers of a block.
#[derive(Clone, Debug)]
pub struct Barriers {
    barriers: Vec<Barrier>,
    /// Lanes of each warp that have not exited.
    live: Vec<Mask>,
    /// Phases that ended, of all barriers.
    pub completed: u64,
}

impl Barriers {
    /// For warps with these lanes.
    pub fn new(live: Vec<Mask>) -> Self {
        let barrier = Barrier { arrived: vec![(0, false); live.len()], ..Barrier::default() };
        Self { barriers: vec![barrier; BARRIERS], live, completed: 0 }
    }

    /// Lanes arrive. Returns the phase that they wait for, or why they may not.
    pub fn arrive(
        &mut self,
        id: u32,
        warp: u32,
        lanes: Mask,
        count: Option<u32>,
        waits: bool,
        trues: u32,
        clocks: &mut Clocks,
    ) -> Result<u32, String> {
        let Some(barrier) = self.barriers.get_mut(id as usize) else {
            return Err(format!("barrier {id}; a block has {BARRIERS}"));
        };
        if let Some(count) = count {
            if count == 0 || !count.is_multiple_of(WARP as u32) {
                return Err(format!("a barrier for {count} threads; it must be a multiple of {WARP}"));
            }
            if barrier.count.is_some_and(|known| known != count) {
                let known = barrier.count.unwrap_or_default();
                return Err(format!("barrier {id} is used for {known} and for {count} threads at once"));
            }
        }
        barrier.count = count;
        let slot = &mut barrier.arrived[warp as usize];
        *slot = (slot.0 | lanes, slot.1 || waits);
        barrier.trues += trues;
        let generation = barrier.generation;
        self.complete(id as usize, clocks);
        Ok(generation)
    }

    /// Lanes exit: barriers for the whole block no longer wait for them.
    pub fn exit(&mut self, warp: u32, lanes: Mask, clocks: &mut Clocks) {
        self.live[warp as usize] &= !lanes;
        for id in 0..BARRIERS {
            if self.barriers[id].arrived.iter().any(|(lanes, _)| *lanes != 0) {
                self.complete(id, clocks);
            }
        }
    }

    /// Whether a phase is over; if so, the reduction's (trues, threads).
    pub fn passed(&self, id: u32, generation: u32) -> Option<(u32, u32)> {
        let barrier = &self.barriers[id as usize];
        (barrier.generation != generation).then_some(barrier.last)
    }

    fn complete(&mut self, id: usize, clocks: &mut Clocks) {
        let barrier = &mut self.barriers[id];
        let done = match barrier.count {
            None => self.live.iter().zip(&barrier.arrived).all(|(live, (arrived, _))| live & !arrived == 0),
            // a warp counts as a whole, as the hardware counts
            Some(count) => {
                let warps = barrier.arrived.iter().filter(|(lanes, _)| *lanes != 0).count();
                warps * WARP >= count as usize
            }
        };
        if !done {
            return;
        }
        let arrived: Vec<(u32, Mask, Mask)> = barrier
            .arrived
            .iter()
            .zip(&self.live)
            .enumerate()
            .filter(|(_, ((lanes, _), _))| *lanes != 0)
            .map(|(warp, ((lanes, _), live))| (warp as u32, *lanes, *live))
            .collect();
        clocks.barrier(&arrived, |warp| barrier.arrived[warp as usize].1);
        barrier.last = (barrier.trues, arrived.iter().map(|(_, lanes, _)| lanes.count_ones()).sum());
        barrier.generation += 1;
        (barrier.trues, barrier.count) = (0, None);
        barrier.arrived.fill((0, false));
        self.completed += 1;
    }
}

impl Use {
    /// Lanes of `mask` whose value is true; 0 without a reduction.
    pub fn trues(&self, warp: &Warp, mask: Mask) -> u32 {
        let Some(reduction) = self.reduction else { return 0 };
        let values = warp.registers.get_pred(reduction.input);
        (mask & if reduction.negated { !values } else { values }).count_ones()
    }

    /// Writes the result of a phase.
    pub fn finish(&self, warp: &mut Warp, mask: Mask, (trues, threads): (u32, u32)) {
        match self.reduction.map(|reduction| reduction.result) {
            None => {}
            Some(ReductionResult::Count(target)) => warp.registers.set32(target, &[trues; WARP], mask),
            Some(ReductionResult::All(target)) => {
                warp.registers.set_pred(target, if trues == threads { !0 } else { 0 }, mask);
            }
            Some(ReductionResult::Any(target)) => {
                warp.registers.set_pred(target, if trues > 0 { !0 } else { 0 }, mask);
            }
        }
    }
}
