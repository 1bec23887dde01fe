//! One warp: its lanes stand in groups, each at one instruction.
//!
//! The group that stands lowest runs, and takes in every group that it meets. So lanes that parted at a
//! branch come together again at the first instruction that they share, without any analysis of the code.

use super::block::Block;
use super::registers::{Register, Registers, Special};
use super::{Mask, WARP, lanes};
use crate::check::Check;
use crate::isa::uses::Missing;
use crate::isa::{At, Execution, Flow, Instruction, Step};
use crate::parse::module::Kernel;

/// A warp's registers, lanes and where they stand.
pub struct Warp {
    /// Its number in the block.
    pub id: u32,
    /// Lanes that have not exited.
    pub live: Mask,
    /// Its registers.
    pub registers: Registers,
    /// Its copies from global to shared memory that are on their way.
    pub copies: super::async_copies::AsyncCopies,
    /// Its bulk copies from shared to global memory that are on their way.
    pub stores: super::bulk_copies::BulkStores,
    /// Its wgmma products that are on their way.
    pub products: super::products::Products,
    /// Local memory, lane after lane.
    pub local: Vec<u8>,
    groups: Vec<Group>,
}

/// Lanes at one instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    lanes: Mask,
    wait: Wait,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// Other lanes of the warp at the same instruction.
    Lanes,
    /// The end of a barrier's phase; `pc` is still at the barrier.
    Barrier {
        id: u32,
        generation: u32,
    },
}

/// How a turn of a warp ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It did something and can go on.
    Ran,
    /// All its lanes have exited.
    Done,
    /// Nothing in it can run before something else happens.
    Waits,
}

impl Warp {
    /// A warp at the kernel's first instruction.
    pub fn new(kernel: &Kernel, id: u32, live: Mask, block: &Block<'_>) -> Self {
        let mut registers = Registers::new(&kernel.layout);
        for &(register, special) in &kernel.layout.specials {
            let values = std::array::from_fn(|lane| special_value(special, id, lane as u32, block));
            registers.set32(register, &values, !0);
        }
        Self {
            id,
            live,
            registers,
            copies: super::async_copies::AsyncCopies::default(),
            stores: super::bulk_copies::BulkStores::default(),
            products: super::products::Products::default(),
            local: vec![0xff; kernel.local_bytes as usize * WARP],
            groups: vec![Group { pc: 0, lanes: live, wait: Wait::Nothing }],
        }
    }

    /// Runs until something must be waited for or `quantum` instructions are over. `last_resort`: lanes that
    /// an instruction waits for will never come, so it reports them and goes on.
    pub fn run(&mut self, block: &mut Block<'_>, quantum: u32, last_resort: bool) -> Turn {
        let mut left = quantum;
        let mut ran = false;
        while left > 0 {
            if self.live == 0 {
                return Turn::Done;
            }
            let Some(group) = self.next_group(block, last_resort && !ran) else {
                return if ran { Turn::Ran } else { Turn::Waits };
            };
            ran = true;
            self.run_group(group, block, &mut left, last_resort);
        }
        Turn::Ran
    }

    /// Takes the lowest group that can run out of the list, with all groups at the same instruction.
    fn next_group(&mut self, block: &Block<'_>, last_resort: bool) -> Option<Group> {
        self.pass_barriers(block);
        let runs = |group: &Group| group.wait == Wait::Nothing || (last_resort && group.wait == Wait::Lanes);
        let pc = self.groups.iter().filter(|group| runs(group)).map(|group| group.pc).min()?;
        let mut all = 0;
        self.groups.retain(|group| {
            let here = group.pc == pc && !matches!(group.wait, Wait::Barrier { .. });
            all |= if here { group.lanes } else { 0 };
            !here
        });
        Some(Group { pc, lanes: all, wait: Wait::Nothing })
    }

    fn pass_barriers(&mut self, block: &Block<'_>) {
        for index in 0..self.groups.len() {
            let group = self.groups[index];
            let Wait::Barrier { id, generation } = group.wait else { continue };
            let Some(result) = block.barriers.passed(id, generation) else { continue };
            if let Step::Barrier(barrier) = &block.kernel.code[group.pc as usize].step {
                barrier.finish(self, group.lanes, result);
            }
            self.groups[index] = Group { pc: group.pc + 1, wait: Wait::Nothing, ..group };
        }
    }

    fn run_group(&mut self, group: Group, block: &mut Block<'_>, left: &mut u32, last_resort: bool) {
        let kernel = block.kernel;
        let Group { mut pc, lanes: active, .. } = group;
        // where another group stands, this one stops and takes it in
        let meets =
            self.groups.iter().map(|group| group.pc).filter(|&other| other > pc).min().unwrap_or(u32::MAX);
        loop {
            *left = left.saturating_sub(1);
            let instruction = &kernel.code[pc as usize];
            let mask = match instruction.guard {
                None => active,
                Some(guard) => {
                    let holds = self.registers.get_pred(guard.pred);
                    let missing = self.registers.missing_pred(guard.pred) & active;
                    if missing != 0 {
                        self.unguarded(pc, missing, block);
                    }
                    active & if guard.negated { !holds } else { holds }
                }
            };
            block.counters.instruction(pc, mask);
            match &instruction.step {
                Step::Execute(execute) => {
                    if mask != 0 {
                        let at = At { pc, place: instruction.place, mnemonic: instruction.mnemonic };
                        let mut missing = self.registers.missing(&instruction.uses.reads) & mask;
                        if missing != 0 {
                            missing = self.missing(instruction, at, missing, block);
                        }
                        let flow = execute(&mut Execution { warp: self, block, at, last_resort }, mask);
                        match flow {
                            Flow::Next => {}
                            Flow::Yield => *left = 0,
                            Flow::Wait(_) => {
                                // the guarded-off lanes stay too: they pass this instruction with the others
                                self.groups.push(Group { pc, lanes: active, wait: Wait::Lanes });
                                return;
                            }
                        }
                        self.registers.written(&instruction.uses.writes, mask, missing);
                    }
                    pc += 1;
                }
                Step::Branch(target) => {
                    if mask == active {
                        let forward = *target > pc;
                        pc = *target;
                        if !forward && !self.groups.is_empty() {
                            self.push(pc, active);
                            return;
                        }
                    } else {
                        if mask != 0 {
                            self.push(*target, mask);
                            self.push(pc + 1, active & !mask);
                            return;
                        }
                        pc += 1;
                    }
                }
                Step::Exit => {
                    self.exit(mask, block);
                    if mask == active {
                        return;
                    }
                    self.push(pc + 1, active & !mask);
                    return;
                }
                Step::Barrier(_) => {
                    let rest = active & !mask;
                    if rest != 0 {
                        self.push(pc + 1, rest);
                    }
                    if mask != 0 {
                        let at = At { pc, place: instruction.place, mnemonic: instruction.mnemonic };
                        let missing = self.registers.missing(&instruction.uses.reads) & mask;
                        if missing != 0 {
                            self.missing(instruction, at, missing, block);
                        }
                        self.registers.written(&instruction.uses.writes, mask, 0);
                        self.arrive(pc, mask, block);
                    }
                    return;
                }
            }
            if pc >= meets || *left == 0 {
                self.push(pc, active);
                return;
            }
        }
    }

    /// Sources hold no value in these lanes. Returns the lanes in which the results hold none then.
    #[cold]
    fn missing(&self, instruction: &Instruction, at: At, lanes: Mask, block: &mut Block<'_>) -> Mask {
        let uses = &instruction.uses;
        match uses.missing {
            Missing::Passes => lanes,
            Missing::Chosen(pred, negated) => {
                let [first, second] =
                    [0, 1].map(|source| self.registers.missing(&uses.reads[source..=source]));
                let chosen = self.registers.get_pred(pred) ^ if negated { !0 } else { 0 };
                lanes & (first & chosen | second & !chosen | self.registers.missing_pred(pred))
            }
            Missing::Wrong => {
                let absent = |place: &&u32| self.registers.missing(std::slice::from_ref(place)) & lanes != 0;
                if let Some(place) = uses.reads.iter().find(absent) {
                    let lanes = self.registers.missing(std::slice::from_ref(place)) & lanes;
                    block.without_value(*place, at, self.id, lanes);
                }
                0
            }
        }
    }

    /// A guard holds no value in these lanes.
    #[cold]
    fn unguarded(&self, pc: u32, lanes: Mask, block: &mut Block<'_>) {
        let instruction = &block.kernel.code[pc as usize];
        let Some(guard) = instruction.guard else { return };
        let at = At { pc, place: instruction.place, mnemonic: instruction.mnemonic };
        block.without_value(block.kernel.layout.place(Register::Pred(guard.pred)), at, self.id, lanes);
    }

    fn push(&mut self, pc: u32, lanes: Mask) {
        self.groups.push(Group { pc, lanes, wait: Wait::Nothing });
    }

    fn exit(&mut self, lanes: Mask, block: &mut Block<'_>) {
        self.live &= !lanes;
        block.barriers.exit(self.id, lanes, &mut block.clocks);
        block.progress += 1;
    }

    fn arrive(&mut self, pc: u32, mask: Mask, block: &mut Block<'_>) {
        let instruction = &block.kernel.code[pc as usize];
        let Step::Barrier(barrier) = &instruction.step else { return };
        let at = At { pc, place: instruction.place, mnemonic: instruction.mnemonic };
        if barrier.aligned && mask != self.live {
            let missing = self.live & !mask;
            block.finding(Check::DivergentBarrier, at, self.id, mask, || {
                format!("lanes {missing:08x} of the warp are not here; all of them must execute it together")
            });
        }
        let first = mask.trailing_zeros() as usize;
        let uniform = |register| {
            let values = self.registers.get32(register);
            (values[first], lanes(mask).all(|lane| values[lane] == values[first]))
        };
        let (id, same) = uniform(barrier.id);
        let (count, same_count) = barrier.count.map_or((None, true), |register| {
            let (count, same) = uniform(register);
            (Some(count), same)
        });
        if !(same && same_count) {
            block
                .finding(Check::NotUniform, at, self.id, mask, || "the lanes name different barriers".into());
        }
        let trues = barrier.trues(self, mask);
        block.progress += 1;
        match block.barriers.arrive(id, self.id, mask, count, barrier.waits, trues, &mut block.clocks) {
            Ok(generation) if barrier.waits => {
                self.groups.push(Group { pc, lanes: mask, wait: Wait::Barrier { id, generation } });
            }
            Ok(_) => self.push(pc + 1, mask),
            Err(message) => {
                block.finding(Check::Trap, at, self.id, mask, || message);
                self.push(pc + 1, mask);
            }
        }
    }

    /// Where a warp that cannot go on stands: its lowest waiting instruction and lanes.
    pub fn stands_at(&self) -> Option<(u32, Mask)> {
        self.groups.iter().min_by_key(|group| group.pc).map(|group| (group.pc, group.lanes))
    }
}

fn special_value(special: Special, warp: u32, lane: u32, block: &Block<'_>) -> u32 {
    let [x, y, _] = block.launch.block;
    let thread = warp * WARP as u32 + lane;
    match special {
        Special::Tid(0) => thread % x,
        Special::Tid(1) => thread / x % y,
        Special::Tid(_) => thread / x / y,
        Special::Ntid(axis) => block.launch.block[usize::from(axis)],
        Special::Ctaid(axis) => block.index[usize::from(axis)],
        Special::Nctaid(axis) => block.launch.grid[usize::from(axis)],
        Special::Laneid => lane,
        Special::Warpid => warp,
        Special::Nwarpid => block.clocks.warps() as u32,
        Special::LanemaskEq => 1 << lane,
        Special::LanemaskLt => (1 << lane) - 1,
        Special::LanemaskLe => (1 << lane) | ((1 << lane) - 1),
        Special::LanemaskGt => !((1 << lane) | ((1 << lane) - 1)),
        Special::LanemaskGe => !((1 << lane) - 1),
        Special::DynamicShared => block.launch.dynamic_shared,
        Special::Zero => 0,
        Special::One => 1,
    }
}
