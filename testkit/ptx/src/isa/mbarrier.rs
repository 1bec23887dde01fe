//! mbarrier: barriers in shared memory that count arrivals and bytes. State: [`crate::machine::mbarriers`].
//!
//! A cluster has one block here, so the scopes `.cta` and `.cluster` mean the same.
//!
//! Source: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".

use super::decode::{Decoded, Mnemonic, Operands};
use super::shared_address::SharedAddress;
use super::types::Type;
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::check::clock::{Clock, Stamp};
use crate::machine::mbarriers::{BYTES, Coming, MOST, Mbarrier};
use crate::machine::registers::{Pred, Reg32, Reg64};
use crate::machine::{WARP, lanes};
use crate::memory::Access;

/// All of `mbarrier`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    if mnemonic.only_type()? != Type::B64 {
        return Err("needs .b64".into());
    }
    let cta = ["shared", "shared::cta"];
    let places = ["shared", "shared::cta", "shared::cluster", "cta", "cluster"];
    let (operation, rest) = mnemonic.modifiers.split_first().ok_or("needs an operation")?;
    let allow =
        |also: &[&str], places: &[&str]| match rest.iter().find(|m| !also.contains(m) && !places.contains(m))
        {
            Some(unknown) => Err(format!("modifier `.{unknown}` of .{operation}")),
            None => Ok(()),
        };
    match *operation {
        "init" => allow(&[], &cta).and_then(|()| init(mnemonic, operands)),
        "inval" => allow(&[], &cta).and_then(|()| inval(mnemonic, operands)),
        "expect_tx" => allow(&["relaxed"], &places).and_then(|()| transact(mnemonic, operands, 1)),
        "complete_tx" => allow(&["relaxed"], &places).and_then(|()| transact(mnemonic, operands, -1)),
        "arrive" | "arrive_drop" => {
            allow(&["expect_tx", "noComplete", "release", "relaxed"], &places)?;
            arrive(mnemonic, operands, *operation == "arrive_drop")
        }
        "test_wait" | "try_wait" => {
            allow(&["parity", "acquire", "relaxed"], &["shared", "shared::cta", "cta", "cluster"])?;
            wait(mnemonic, operands)
        }
        _ => Err(format!("operation .{operation}")),
    }
}

/// `mbarrier.init.b64 [barrier], count`.
fn init(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    operands.expect(2..=2)?;
    let (address, count) = (SharedAddress::new(mnemonic, operands, 0)?, operands.source32(1)?);
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = address.lanes(&x.warp.registers);
        let counts = *x.warp.registers.get32(count);
        for lane in lanes(mask) {
            let (address, count) = (addresses[lane], counts[lane]);
            if x.block.mbarriers.get(address).is_some() {
                x.finding(Check::Mbarrier, 1 << lane, || {
                    format!("the mbarrier at {address} is live: mbarrier.inval must come before another init")
                });
                x.invalidate(address);
            }
            if !(1..=MOST).contains(&count) {
                x.finding(Check::Mbarrier, 1 << lane, || format!("a count of {count}, needs 1 to {MOST}"));
                continue;
            }
            if x.shared(&[address; WARP], BYTES, 1 << lane, Access::Write) == 0 {
                continue;
            }
            let (warp, tick) = (x.warp.id, x.block.clocks.now(x.warp.id));
            let by = Stamp { tick, warp: warp as u16, lane: lane as u16 };
            x.block.shadow.reserve(address, BYTES, true);
            x.block.mbarriers.init(address, Mbarrier::new(count, by));
            x.block.progress += 1;
        }
        Flow::Next
    }))
}

/// `mbarrier.inval.b64 [barrier]`.
fn inval(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    operands.expect(1..=1)?;
    let address = SharedAddress::new(mnemonic, operands, 0)?;
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = address.lanes(&x.warp.registers);
        for lane in lanes(mask) {
            if x.mbarrier(addresses[lane], lane).is_some() {
                x.invalidate(addresses[lane]);
            }
        }
        Flow::Next
    }))
}

/// `mbarrier.expect_tx`, `mbarrier.complete_tx`: `[barrier], bytes`.
fn transact(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>, sign: i64) -> Result<Decoded, String> {
    operands.expect(2..=2)?;
    let (address, bytes) = (SharedAddress::new(mnemonic, operands, 0)?, operands.source32(1)?);
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = address.lanes(&x.warp.registers);
        let bytes = *x.warp.registers.get32(bytes);
        for lane in lanes(mask) {
            x.change(addresses[lane], lane, |barrier| barrier.transact(sign * i64::from(bytes[lane])));
        }
        Flow::Next
    }))
}

/// `mbarrier.arrive{.expect_tx}{.noComplete} state, [barrier] {, count | bytes}`.
fn arrive(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>, drop: bool) -> Result<Decoded, String> {
    operands.expect(2..=3)?;
    let (expects, keeps) = (mnemonic.has("expect_tx"), mnemonic.has("noComplete"));
    if expects && keeps {
        return Err(".expect_tx with .noComplete".into());
    }
    if (expects || keeps) && operands.count() != 3 {
        return Err("needs three operands".into());
    }
    let state = operands.target64(0)?;
    if state.is_some() && mnemonic.has("shared::cluster") {
        return Err("a state from a barrier in .shared::cluster".into());
    }
    let address = SharedAddress::new(mnemonic, operands, 1)?;
    let number: Option<Reg32> = if operands.count() == 3 { Some(operands.source32(2)?) } else { None };
    let releases = !mnemonic.has("relaxed");
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = address.lanes(&x.warp.registers);
        let numbers = number.map_or([1; WARP], |register| *x.warp.registers.get32(register));
        let clock =
            if releases { x.block.clocks.release(x.warp.id, mask, x.warp.live) } else { Clock::default() };
        let mut states = [0; WARP];
        for lane in lanes(mask) {
            let (count, bytes) = if expects { (1, numbers[lane]) } else { (numbers[lane], 0) };
            let state = &mut states[lane];
            x.change(addresses[lane], lane, |barrier| {
                *state = barrier.phase();
                if count == 0 || count > MOST {
                    return Err(format!("{count} arrivals, needs 1 to {MOST}"));
                }
                barrier.transact(i64::from(bytes))?;
                barrier.arrive(count, &clock, drop)?;
                if keeps && barrier.phase() != *state {
                    return Err("an arrival with .noComplete ends the phase".into());
                }
                Ok(())
            });
        }
        if let Some(target) = state {
            x.warp.registers.set64(target, &states, mask);
        }
        Flow::Next
    }))
}

/// What a test asks for.
#[derive(Clone, Copy)]
enum Phase {
    Parity(Reg32),
    State(Reg64),
}

/// `mbarrier.{test,try}_wait{.parity} done, [barrier], {state | parity} {, time}`.
fn wait(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    let tries = mnemonic.modifiers[0] == "try_wait";
    operands.expect(3..=3 + usize::from(tries))?;
    let done: Option<Pred> = operands.target_pred(0)?;
    let address = SharedAddress::new(mnemonic, operands, 1)?;
    let phase = if mnemonic.has("parity") {
        Phase::Parity(operands.source32(2)?)
    } else {
        Phase::State(operands.source64(2)?)
    };
    let acquires = !mnemonic.has("relaxed");
    Ok(Decoded::execute(Class::Async, move |x, mask| {
        let addresses = address.lanes(&x.warp.registers);
        let (mut passed, mut failed) = (0, None);
        for lane in lanes(mask) {
            if x.test(addresses[lane], lane, phase, acquires) {
                passed |= 1 << lane;
            } else {
                failed = Some(addresses[lane]);
            }
        }
        if let Some(done) = done {
            x.warp.registers.set_pred(done, passed, mask);
        }
        x.block.mbarriers.tested(failed);
        if failed.is_some() { Flow::Yield } else { Flow::Next }
    }))
}

impl Execution<'_, '_> {
    /// The mbarrier at an address, for one lane; a finding where there is none or nothing orders its init.
    pub fn mbarrier(&mut self, address: u32, lane: usize) -> Option<&mut Mbarrier> {
        let by = self.block.mbarriers.get(address).map(|barrier| barrier.initialised);
        let Some(by) = by else {
            self.finding(Check::Mbarrier, 1 << lane, || {
                format!("there is no initialised mbarrier at shared address {address}")
            });
            return None;
        };
        if !self.block.clocks.ordered(by, self.warp.id, lane as u32) {
            self.finding(Check::SharedRace, 1 << lane, || {
                let Stamp { warp, lane, .. } = by;
                format!(
                    "warp {warp}, lane {lane} initialised the mbarrier at {address}; nothing orders the two"
                )
            });
        }
        self.block.mbarriers.get(address)
    }

    /// Changes an mbarrier; what it refuses is a finding.
    fn change(
        &mut self,
        address: u32,
        lane: usize,
        change: impl FnOnce(&mut Mbarrier) -> Result<(), String>,
    ) {
        let Some(barrier) = self.mbarrier(address, lane) else { return };
        let result = change(barrier);
        self.block.progress += 1;
        if let Err(message) = result {
            self.finding(Check::Mbarrier, 1 << lane, || format!("the mbarrier at {address}: {message}"));
        }
    }

    /// Ends an mbarrier; copies that were to arrive at it are a finding.
    fn invalidate(&mut self, address: u32) {
        self.block.shadow.reserve(address, BYTES, false);
        let barrier = self.block.mbarriers.inval(address);
        if barrier.is_some_and(|mut barrier| !barrier.take_all().is_empty()) {
            self.finding(Check::AsyncUse, 0, || {
                format!("copies for the mbarrier at {address} are on their way")
            });
        }
    }

    /// Whether a phase is over; if copies alone are missing for that, they land now.
    fn test(&mut self, address: u32, lane: usize, phase: Phase, acquires: bool) -> bool {
        let (parity, state) = match phase {
            Phase::Parity(register) => (Some(self.warp.registers.get32(register)[lane]), 0),
            Phase::State(register) => (None, self.warp.registers.get64(register)[lane]),
        };
        let over = |barrier: &Mbarrier| match parity {
            Some(parity) => barrier.passed_parity(parity),
            None => barrier.passed_state(state),
        };
        // without a barrier there is nothing to wait for
        let Some(barrier) = self.mbarrier(address, lane) else { return true };
        if !over(barrier) {
            let coming = barrier.take_missing();
            self.bring(address, coming);
        }
        let Some(barrier) = self.block.mbarriers.get(address).filter(|barrier| over(barrier)) else {
            return false;
        };
        if acquires {
            let released = barrier.released().clone();
            self.block.clocks.acquire(self.warp.id, &released);
        }
        true
    }

    /// Lands copies and lets them arrive.
    fn bring(&mut self, address: u32, coming: Vec<Coming>) {
        for coming in coming {
            let block = &mut *self.block;
            let result = match coming {
                Coming::Load(load) => {
                    let clock = load.land(block);
                    block.mbarriers.get(address).map(|barrier| barrier.complete(load.bytes(), &clock))
                }
                Coming::Arrivals { copies, warp, lanes, mut clock } => {
                    copies.land(warp, block);
                    clock.join(&block.clocks.release(warp, lanes, !0));
                    let count = lanes.count_ones();
                    block.mbarriers.get(address).map(|barrier| barrier.arrive(count, &clock, false))
                }
            };
            block.progress += 1;
            if let Some(Err(message)) = result {
                self.finding(Check::Mbarrier, 0, || format!("the mbarrier at {address}: {message}"));
            }
        }
    }
}
