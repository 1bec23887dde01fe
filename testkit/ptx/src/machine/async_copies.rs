//! cp.async: copies of 4, 8 or 16 bytes from global to shared memory that land as late as is legal.
//!
//! Each thread gathers its copies in groups. `commit_group` closes the open group; `wait_group N` lands all
//! but the newest N closed ones. Until then the target is in flight, and the source is not yet read: a
//! kernel that reads the target or overwrites the source too early shows in findings or in numbers.
//!
//! Source: PTX ISA, "Data Movement and Conversion Instructions: Non-bulk copy".

use super::block::Block;
use super::warp::Warp;
use super::{Lanes32, Lanes64, Mask, WARP, lanes};
use crate::check::Check;
use crate::isa::At;

/// The copies that one instruction of a warp started.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The instruction.
    pub at: At,
    /// Lanes whose copy has not landed.
    pub lanes: Mask,
    /// Where the bytes go in shared memory.
    pub target: Lanes32,
    /// Where they come from.
    pub source: Lanes64,
    /// Bytes written.
    pub bytes: u32,
    /// Bytes read; the others are written as zeros.
    pub source_bytes: Lanes32,
    /// The group of each lane that it belongs to, counted from the lane's first.
    pub group: Lanes32,
}

/// Copies in the order of their issue.
#[derive(Clone, Debug, Default)]
pub struct Copies(Vec<Copy>);

impl Copies {
    /// Takes the copies of `lanes` out for which `ready(lane, group)` holds.
    pub fn take(&mut self, lanes_taken: Mask, ready: impl Fn(usize, u32) -> bool) -> Self {
        let mut taken = Vec::new();
        self.0.retain_mut(|copy| {
            let now = lanes(copy.lanes & lanes_taken)
                .filter(|&lane| ready(lane, copy.group[lane]))
                .fold(0, |mask: Mask, lane| mask | 1 << lane);
            copy.lanes &= !now;
            if now != 0 {
                taken.push(Copy { lanes: now, ..copy.clone() });
            }
            copy.lanes != 0
        });
        Self(taken)
    }

    /// The instructions that started them, with the lanes.
    pub fn places(&self) -> impl Iterator<Item = (At, Mask)> {
        self.0.iter().map(|copy| (copy.at, copy.lanes))
    }

    /// Writes the bytes into shared memory, in the name of the lanes that started them.
    pub fn land(self, warp: u32, block: &mut Block<'_>) {
        for copy in self.0 {
            let usual = lanes(copy.lanes).next().and_then(|lane| block.global.holder(copy.source[lane], 1));
            for lane in lanes(copy.lanes) {
                let (target, source, length) =
                    (copy.target[lane], copy.source[lane], copy.source_bytes[lane]);
                match usual.filter(|holder| holder.holds(source, length)) {
                    Some(holder) if length == 16 => block.shared.store(target, holder.load_row(source)),
                    holder => {
                        let mut bytes = [0; 16];
                        let read = &mut bytes[..length as usize];
                        match holder {
                            _ if length == 0 => {}
                            Some(holder) => holder.read(source, read),
                            // the bounds were checked at issue; memory freed since then reads as NaN
                            None if !block.global.load_bytes(source, read) => read.fill(0xff),
                            None => {}
                        }
                        let (at, size) = (target as usize, copy.bytes as usize);
                        block.shared.bytes_mut()[at..at + size].copy_from_slice(&bytes[..size]);
                    }
                }
                block.shadow.land(target, copy.bytes, warp, lane as u32, &block.clocks);
            }
        }
    }
}

/// The copies of one warp, and the groups of its lanes.
#[derive(Clone, Debug)]
pub struct AsyncCopies {
    copies: Copies,
    /// Groups that each lane has closed.
    closed: Lanes32,
}

impl Default for AsyncCopies {
    fn default() -> Self {
        Self { copies: Copies::default(), closed: [0; WARP] }
    }
}

impl AsyncCopies {
    /// Starts copies; they join the open group of each lane.
    pub fn start(&mut self, mut copy: Copy) {
        copy.group = self.closed;
        self.copies.0.push(copy);
    }

    /// Groups that are in flight, from the oldest copy's to the newest's.
    #[inline(always)]
    pub fn groups(&self) -> u32 {
        let group = |copy: Option<&Copy>| {
            copy.map_or(0, |copy| copy.group[copy.lanes.trailing_zeros() as usize % WARP])
        };
        let (oldest, newest) = (self.copies.0.first(), self.copies.0.last());
        if oldest.is_none() { 0 } else { group(newest) - group(oldest).min(group(newest)) + 1 }
    }

    /// Closes the open groups of these lanes.
    pub fn commit(&mut self, mask: Mask) {
        for lane in lanes(mask) {
            self.closed[lane] += 1;
        }
    }

    /// The copies of these lanes that are on their way, so that they may arrive at an mbarrier.
    pub fn hand_over(&mut self, mask: Mask) -> Copies {
        self.copies.take(mask, |_, _| true)
    }
}

/// Lands all groups of these lanes but the newest `keep`.
pub fn wait(warp: &mut Warp, block: &mut Block<'_>, mask: Mask, keep: u32) {
    let closed = warp.copies.closed;
    let ready = |lane: usize, group: u32| group.saturating_add(keep) < closed[lane];
    let id = warp.id;
    let mut due = vec![warp.copies.copies.take(mask, ready)];
    for (_, barrier) in block.mbarriers.all() {
        due.extend(barrier.copies_of(id).map(|copies| copies.take(mask, ready)));
    }
    for copies in due {
        copies.land(id, block);
    }
}

/// A warp's end: copies that nothing waited for are a finding.
pub fn finish(warp: &mut Warp, block: &mut Block<'_>) {
    for (at, lanes) in warp.copies.copies.places() {
        block.finding(Check::AsyncUse, at, warp.id, lanes, || {
            "nothing waits until this copy has landed".into()
        });
    }
}
