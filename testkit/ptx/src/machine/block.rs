//! One block: its shared memory, its warps in turns.

use super::barrier::Barriers;
use super::grid::Launch;
use super::warp::{Turn, Warp};
use super::{Mask, WARP};
use crate::check::clock::Clocks;
use crate::check::shared::Shadow;
use crate::check::{Check, Findings, Found, NOWHERE};
use crate::count::Counters;
use crate::isa::At;
use crate::memory::shared::Shared;
use crate::memory::view::View;
use crate::parse::module::Kernel;

/// Instructions of a warp's turn.
const QUANTUM: u32 = 4096;

/// Turns of all warps without progress after which nothing can change any more.
const IDLE_ROUNDS: u32 = 64;

/// A block while it runs.
pub struct Block<'g> {
    /// The launch.
    pub launch: &'g Launch<'g>,
    /// The kernel.
    pub kernel: &'g Kernel,
    /// The kernel's parameters.
    pub parameters: &'g [u8],
    /// Global memory.
    pub global: &'g View,
    /// x y z.
    pub index: [u32; 3],
    /// The number of the block in the grid, x fastest.
    pub number: u64,
    /// Its shared memory.
    pub shared: Shared,
    /// The shadow of its shared memory.
    pub shadow: Shadow,
    /// What its warps know of each other.
    pub clocks: Clocks,
    /// Its named barriers.
    pub barriers: Barriers,
    /// Its mbarriers.
    pub mbarriers: super::mbarriers::Mbarriers,
    /// What was counted.
    pub counters: Counters,
    /// What was found.
    pub findings: Findings,
    /// Seed of the mode that perturbs approximate instructions.
    pub seed: Option<u64>,
    /// Grows with everything that others may wait for.
    pub progress: u64,
}

impl<'g> Block<'g> {
    /// A block that has not started; it counts on top of `counters`.
    pub fn new(
        launch: &'g Launch<'g>,
        global: &'g View,
        number: u64,
        seed: Option<u64>,
        counters: Counters,
    ) -> Self {
        let kernel = launch.kernel;
        let shared = kernel.static_shared as usize + launch.dynamic_shared as usize;
        let live = live_lanes(launch.threads());
        let clocks = Clocks::new(live.len());
        Self {
            launch,
            kernel,
            parameters: launch.parameters,
            global,
            index: Self::index_of(number, launch.grid),
            number,
            shared: Shared::new(shared),
            shadow: Shadow::new(shared, live.len() + 1),
            clocks,
            barriers: Barriers::new(live),
            mbarriers: super::mbarriers::Mbarriers::default(),
            counters,
            findings: Findings::default(),
            seed,
            progress: 0,
        }
    }

    /// x y z of a block's number.
    pub fn index_of(number: u64, [x, y, _]: [u32; 3]) -> [u32; 3] {
        let (x, y) = (u64::from(x), u64::from(y));
        [(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32]
    }

    /// Something is wrong.
    pub fn finding(
        &mut self,
        check: Check,
        at: At,
        warp: u32,
        lanes: Mask,
        message: impl FnOnce() -> String,
    ) {
        let block = self.index;
        self.findings.add(check, at, || Found { block, warp, lanes, message: message(), times: 1 });
    }

    /// A register, by its place, is used in lanes in which it holds no value.
    pub fn without_value(&mut self, place: u32, at: At, warp: u32, lanes: Mask) {
        let name = self.kernel.register_names.get(&place).cloned().unwrap_or_default();
        self.finding(Check::Uninitialised, at, warp, lanes, || {
            format!(
                "register {name} holds no value: nothing wrote it, or something that it was computed from"
            )
        });
    }

    /// Runs all warps to their end.
    pub fn run(&mut self) {
        let mut warps: Vec<Warp> = live_lanes(self.launch.threads())
            .into_iter()
            .enumerate()
            .map(|(id, live)| Warp::new(self.kernel, id as u32, live, self))
            .collect();
        let (mut idle, mut last_resort) = (0, false);
        loop {
            let before = (self.progress, self.barriers.completed);
            let (mut ran, mut done) = (false, true);
            for warp in &mut warps {
                let turn = warp.run(self, QUANTUM, last_resort);
                ran |= turn == Turn::Ran;
                done &= turn == Turn::Done || warp.live == 0;
            }
            if done {
                break;
            }
            // warps that only ask again and again whether an mbarrier's phase is over run, but do nothing
            idle = if before == (self.progress, self.barriers.completed) { idle + 1 } else { 0 };
            let hopeless = if ran { idle > IDLE_ROUNDS && self.mbarriers.waited_for() } else { last_resort };
            if hopeless {
                self.deadlock(&warps);
                break;
            }
            last_resort = !ran;
        }
        for warp in &mut warps {
            super::async_copies::finish(warp, self);
            super::bulk_copies::finish(warp, self);
            super::products::finish(warp, self);
        }
        super::mbarriers::finish(self);
        self.counters.barriers += self.barriers.completed;
    }

    fn deadlock(&mut self, warps: &[Warp]) {
        let missing = self.mbarriers.missing().map(|missing| format!("; {missing}")).unwrap_or_default();
        for warp in warps {
            let Some((pc, lanes)) = warp.stands_at() else { continue };
            let instruction = &self.kernel.code[pc as usize];
            let at = At { pc, place: instruction.place, mnemonic: instruction.mnemonic };
            self.finding(Check::Deadlock, at, warp.id, lanes, || {
                format!("the lanes wait here, and nothing that runs can release them{missing}")
            });
        }
        if self.findings.is_empty() {
            self.finding(Check::Deadlock, NOWHERE, 0, 0, || "no warp can go on".into());
        }
    }
}

/// The lanes of each warp of a block.
fn live_lanes(threads: u32) -> Vec<Mask> {
    (0..threads.div_ceil(WARP as u32))
        .map(|warp| match threads - warp * WARP as u32 {
            rest if rest >= WARP as u32 => !0,
            rest => (1 << rest) - 1,
        })
        .collect()
}
