//! The mbarriers of a block: phases that end when all arrivals and all announced bytes are there.
//!
//! ```text
//! phase p: pending arrivals --arrive--> 0   and   tx-count --complete_tx--> 0   ==>  phase p + 1
//! ```
//!
//! What asynchronous copies bring to a barrier comes as late as is legal: when somebody asks for the end of
//! the phase and these copies alone are missing for it. An arrival releases what its lanes did; who sees the
//! end of a phase acquires it.
//!
//! Source: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".

use std::collections::{BTreeMap, VecDeque};

use super::Mask;
use super::async_copies::Copies;
use super::block::Block;
use super::bulk_copies::Load;
use crate::check::Check;
use crate::check::clock::{Clock, Stamp};

/// The largest count of arrivals, and the largest tx-count either way.
pub const MOST: u32 = (1 << 20) - 1;

/// Bytes of an mbarrier in shared memory.
pub const BYTES: u32 = 8;

/// Something asynchronous that is still to come to a barrier.
#[derive(Debug)]
pub enum Coming {
    /// A bulk copy: lands, then completes its bytes.
    Load(Box<Load>),
    /// cp.async.mbarrier.arrive: copies land, then their lanes arrive.
    Arrivals {
        /// The copies of these lanes that were on their way.
        copies: Copies,
        /// Their warp.
        warp: u32,
        /// The lanes that arrive.
        lanes: Mask,
        /// What they release.
        clock: Clock,
    },
}

impl Coming {
    /// Arrivals and bytes that it brings.
    fn brings(&self) -> (u32, i64) {
        match self {
            Self::Load(load) => (0, i64::from(load.bytes())),
            Self::Arrivals { lanes, .. } => (lanes.count_ones(), 0),
        }
    }
}

/// One mbarrier.
#[derive(Debug)]
pub struct Mbarrier {
    /// Arrivals of each phase.
    expected: u32,
    /// Arrivals that this phase still waits for.
    pending: u32,
    /// Bytes that this phase still waits for.
    tx: i64,
    /// Phases that are over.
    phase: u64,
    /// Who initialised it.
    pub initialised: Stamp,
    /// What the arrivals of this phase released, and those of the last one.
    gathering: Clock,
    released: Clock,
    coming: VecDeque<Coming>,
}

impl Mbarrier {
    /// A barrier in phase 0.
    pub fn new(expected: u32, initialised: Stamp) -> Self {
        Self {
            expected,
            pending: expected,
            tx: 0,
            phase: 0,
            initialised,
            gathering: Clock::default(),
            released: Clock::default(),
            coming: VecDeque::new(),
        }
    }

    /// Phases that are over: the state that an arrival returns.
    pub fn phase(&self) -> u64 {
        self.phase
    }

    /// Whether the last phase of this parity is over.
    pub fn passed_parity(&self, parity: u32) -> bool {
        self.phase & 1 != u64::from(parity & 1)
    }

    /// Whether the phase of a state is over.
    pub fn passed_state(&self, state: u64) -> bool {
        self.phase != state
    }

    /// What who sees the end of the last phase acquires.
    pub fn released(&self) -> &Clock {
        &self.released
    }

    /// Announces bytes (positive) or completes them (negative).
    pub fn transact(&mut self, bytes: i64) -> Result<(), String> {
        let tx = self.tx + bytes;
        if tx.unsigned_abs() > u64::from(MOST) {
            return Err(format!("a tx-count of {tx}, allowed are -{MOST} to {MOST}"));
        }
        self.tx = tx;
        self.turn();
        Ok(())
    }

    /// A copy's bytes are there; who sees the end of the phase sees what `clock` releases.
    pub fn complete(&mut self, bytes: u32, clock: &Clock) -> Result<(), String> {
        self.gathering.join(clock);
        self.transact(-i64::from(bytes))
    }

    /// `count` arrivals that release `clock`. `drop`: later phases expect as many fewer.
    pub fn arrive(&mut self, count: u32, clock: &Clock, drop: bool) -> Result<(), String> {
        if count > self.pending {
            let Self { expected, pending, phase, .. } = *self;
            return Err(format!(
                "{count} arrivals in phase {phase}, which waits for {pending} of {expected}"
            ));
        }
        self.pending -= count;
        if drop {
            self.expected -= count;
        }
        self.gathering.join(clock);
        self.turn();
        Ok(())
    }

    /// One more arrival is expected in this phase: cp.async.mbarrier.arrive without `.noinc`.
    pub fn expect_more(&mut self, count: u32) -> Result<(), String> {
        if self.pending + count > MOST {
            return Err(format!("{} pending arrivals, allowed are {MOST}", self.pending + count));
        }
        self.pending += count;
        Ok(())
    }

    /// Something asynchronous will come.
    pub fn announce(&mut self, coming: Coming) {
        self.coming.push_back(coming);
    }

    /// What must come, in the order of issue, so that this phase ends; nothing where more is missing.
    pub fn take_missing(&mut self) -> Vec<Coming> {
        let (mut pending, mut tx) = (i64::from(self.pending), self.tx);
        for index in 0..self.coming.len() {
            let (arrivals, bytes) = self.coming[index].brings();
            pending -= i64::from(arrivals);
            tx -= bytes;
            if pending == 0 && tx == 0 {
                return self.coming.drain(..=index).collect();
            }
        }
        Vec::new()
    }

    /// Everything that is still to come.
    pub fn take_all(&mut self) -> VecDeque<Coming> {
        std::mem::take(&mut self.coming)
    }

    /// Copies of a warp that will arrive here, for its own wait_group.
    pub fn copies_of(&mut self, warp: u32) -> impl Iterator<Item = &mut Copies> {
        self.coming.iter_mut().filter_map(move |coming| match coming {
            Coming::Arrivals { copies, warp: of, .. } if *of == warp => Some(copies),
            _ => None,
        })
    }

    /// What the phase waits for, in words.
    pub fn describe(&self) -> String {
        let Self { expected, pending, tx, phase, .. } = self;
        let (arrivals, bytes) =
            self.coming.iter().map(Coming::brings).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        format!(
            "phase {phase} waits for {pending} of {expected} arrivals and {tx} bytes; \
             copies on their way bring {arrivals} arrivals and {bytes} bytes"
        )
    }

    fn turn(&mut self) {
        if self.pending == 0 && self.tx == 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.released = std::mem::take(&mut self.gathering);
        }
    }
}

/// All mbarriers of a block, by their shared address.
#[derive(Debug, Default)]
pub struct Mbarriers {
    barriers: BTreeMap<u32, Mbarrier>,
    /// The barrier whose last test failed, since any passed.
    waited_for: Option<u32>,
}

impl Mbarriers {
    /// Adds one.
    pub fn init(&mut self, address: u32, barrier: Mbarrier) {
        self.barriers.insert(address, barrier);
    }

    /// Removes one.
    pub fn inval(&mut self, address: u32) -> Option<Mbarrier> {
        self.barriers.remove(&address)
    }

    /// The one at an address.
    pub fn get(&mut self, address: u32) -> Option<&mut Mbarrier> {
        self.barriers.get_mut(&address)
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = (u32, &mut Mbarrier)> {
        self.barriers.iter_mut().map(|(&address, barrier)| (address, barrier))
    }

    /// Notes how a test ended: the barrier that it failed at.
    pub fn tested(&mut self, failed: Option<u32>) {
        self.waited_for = failed;
    }

    /// Whether somebody asks for the end of a phase in vain.
    pub fn waited_for(&self) -> bool {
        self.waited_for.is_some()
    }

    /// What is missing where a test failed last, in words.
    pub fn missing(&self) -> Option<String> {
        let address = self.waited_for?;
        let barrier = self.barriers.get(&address)?;
        Some(format!("the mbarrier at {address}: {}", barrier.describe()))
    }
}

/// A block's end: copies whose arrival nothing waited for are a finding.
pub fn finish(block: &mut Block<'_>) {
    let forgotten: Vec<Coming> = block.mbarriers.all().flat_map(|(_, barrier)| barrier.take_all()).collect();
    for coming in forgotten {
        let copies = match coming {
            Coming::Load(load) => vec![(load.at, load.warp, 1 << load.lane)],
            Coming::Arrivals { copies, warp, .. } => {
                copies.places().map(|(at, lanes)| (at, warp, lanes)).collect()
            }
        };
        for (at, warp, lanes) in copies {
            block.finding(Check::AsyncUse, at, warp, lanes, || {
                "nothing waits until this copy has landed".into()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(expected: u32) -> Mbarrier {
        Mbarrier::new(expected, Stamp::default())
    }

    fn arrive(barrier: &mut Mbarrier, count: u32) -> Result<(), String> {
        barrier.arrive(count, &Clock::default(), false)
    }

    #[test]
    fn a_phase_ends_with_its_last_arrival_and_the_next_expects_as_many() {
        let mut barrier = barrier(3);
        assert!(!barrier.passed_parity(0) && barrier.passed_parity(1), "phase -1 counts as over");
        arrive(&mut barrier, 2).unwrap();
        assert!(!barrier.passed_parity(0) && !barrier.passed_state(0));
        arrive(&mut barrier, 1).unwrap();
        assert!(barrier.passed_parity(0) && !barrier.passed_parity(1) && barrier.passed_state(0));
        arrive(&mut barrier, 3).unwrap();
        assert!(barrier.passed_parity(1) && !barrier.passed_parity(0));
    }

    #[test]
    fn too_many_arrivals_are_refused() {
        let mut barrier = barrier(2);
        barrier.transact(64).unwrap();
        arrive(&mut barrier, 2).unwrap();
        assert!(!barrier.passed_state(0), "64 bytes are missing");
        let message = arrive(&mut barrier, 1).unwrap_err();
        assert!(message.contains("waits for 0 of 2"), "{message}");
        barrier.transact(-64).unwrap();
        assert!(barrier.passed_state(0));
    }

    #[test]
    fn bytes_may_be_completed_before_they_are_announced() {
        let mut barrier = barrier(1);
        barrier.transact(-16).unwrap();
        barrier.transact(16).unwrap();
        assert!(!barrier.passed_state(0));
        arrive(&mut barrier, 1).unwrap();
        assert!(barrier.passed_state(0));
        assert!(barrier.transact(i64::from(MOST) + 1).is_err());
        assert!(barrier.transact(-i64::from(MOST) - 1).is_err());
    }

    #[test]
    fn dropped_arrivals_are_not_expected_again() {
        let mut barrier = barrier(2);
        barrier.arrive(1, &Clock::default(), true).unwrap();
        arrive(&mut barrier, 1).unwrap();
        arrive(&mut barrier, 1).unwrap();
        assert_eq!(barrier.phase(), 2);
    }

    fn arrivals(count: u32) -> Coming {
        Coming::Arrivals {
            copies: Copies::default(),
            warp: 0,
            lanes: (1 << count) - 1,
            clock: Clock::default(),
        }
    }

    #[test]
    fn what_is_on_its_way_comes_only_when_it_ends_the_phase() {
        let mut barrier = barrier(3);
        barrier.announce(arrivals(1));
        barrier.announce(arrivals(1));
        assert!(barrier.take_missing().is_empty(), "one arrival is missing");
        arrive(&mut barrier, 1).unwrap();
        assert_eq!(barrier.take_missing().len(), 2);
    }

    #[test]
    fn what_belongs_to_the_next_phase_stays() {
        let mut barrier = barrier(1);
        barrier.announce(arrivals(1));
        barrier.announce(arrivals(1));
        assert_eq!(barrier.take_missing().len(), 1);
        assert!(barrier.describe().contains("bring 1 arrivals"), "{}", barrier.describe());
    }
}
