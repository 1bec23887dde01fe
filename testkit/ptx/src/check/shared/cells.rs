//! Cells of the shadow: what is known of a word or a group, and whether an access conflicts with it.

use super::Fault;
use crate::check::clock::{Clocks, Stamp, Tick};
use crate::machine::Mask;

/// The shadow of one word, or of a group whose words share their fate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// The last write.
    pub(super) writer: Stamp,
    /// Tick and warp of the last read, and the lanes that took part in it.
    pub(super) reader: Stamp,
    pub(super) reader_lanes: Mask,
    /// Bytes of a word, one bit each: written by `writer`, read by `reader`, holding a value, in flight.
    pub(super) written: u8,
    pub(super) read: u8,
    pub(super) ready: u8,
    pub(super) in_flight: u8,
    /// Whether the last write was an atomic update.
    pub(super) atomic: bool,
    /// Whether it is part of a live mbarrier.
    pub(super) reserved: bool,
}

impl Cell {
    /// Whether all its bytes hold values that no copy is about to change.
    #[inline(always)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.ready == ALL && self.in_flight == 0 && !self.reserved
    }
}

/// All bytes of a word, or of each word of a group.
pub(super) const ALL: u8 = 15;

/// Some cells, and when each agent last read them.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    pub(super) cells: Vec<Cell>,
    /// `reads[cell * agents + warp]`: the tick of that warp's last read.
    pub(super) reads: Vec<Tick>,
    pub(super) agents: usize,
}

/// Who touches shared memory now.
#[derive(Clone, Copy)]
pub(super) struct Toucher<'a> {
    pub(super) warp: u32,
    pub(super) lane: u32,
    pub(super) clocks: &'a Clocks,
    /// For each warp, the tick before which all its accesses are visible.
    pub(super) visible: &'a [Tick],
    pub(super) stamp: Stamp,
}

impl<'a> Toucher<'a> {
    #[inline(always)]
    pub(super) fn new(warp: u32, lane: u32, clocks: &'a Clocks) -> Self {
        let stamp = Stamp { tick: clocks.now(warp), warp: warp as u16, lane: lane as u16 };
        Self { warp, lane, clocks, visible: clocks.visible_to(warp), stamp }
    }

    /// Whether nothing orders an access before this one.
    #[inline(always)]
    pub(super) fn meets(&self, earlier: Stamp) -> bool {
        earlier.tick >= self.visible[usize::from(earlier.warp)]
            && !self.clocks.ordered(earlier, self.warp, self.lane)
    }
}

impl Cells {
    pub(super) fn new(count: usize, agents: usize) -> Self {
        Self { cells: vec![Cell::default(); count], reads: vec![0; count * agents], agents }
    }

    pub(super) fn reads_of(&self, index: usize) -> &[Tick] {
        &self.reads[index * self.agents..(index + 1) * self.agents]
    }

    pub(super) fn reads_of_mut(&mut self, index: usize) -> &mut [Tick] {
        &mut self.reads[index * self.agents..(index + 1) * self.agents]
    }

    #[inline(always)]
    pub(super) fn read(&mut self, index: usize, part: u8, by: Toucher<'_>) -> Option<Fault> {
        let cell = &mut self.cells[index];
        let mut fault = None;
        if cell.reserved {
            fault = Some(Fault::Reserved);
        } else if cell.in_flight & part != 0 {
            fault = Some(Fault::InFlight);
        } else if cell.ready & part != part {
            fault = Some(Fault::Uninitialised);
        }
        let writer = cell.writer;
        if cell.written & part != 0 && by.meets(writer) {
            fault = fault.or(Some(Fault::AfterWrite(writer)));
        }
        self.stamp(index, part, by);
        fault
    }

    /// Remembers a read.
    #[inline(always)]
    pub(super) fn stamp(&mut self, index: usize, part: u8, by: Toucher<'_>) {
        let cell = &mut self.cells[index];
        if (cell.reader.tick, cell.reader.warp) != (by.stamp.tick, by.stamp.warp) {
            cell.reader = by.stamp;
            (cell.reader_lanes, cell.read) = (0, 0);
        }
        cell.reader_lanes |= 1 << by.lane;
        cell.read |= part;
        self.reads[index * self.agents + by.warp as usize] = by.stamp.tick;
    }

    #[inline(always)]
    pub(super) fn write(&mut self, index: usize, part: u8, stamp: Stamp) {
        let cell = &mut self.cells[index];
        cell.atomic = false;
        cell.written = if cell.writer == stamp { cell.written | part } else { part };
        cell.writer = stamp;
        cell.ready |= part;
    }

    #[inline]
    pub(super) fn conflict(&self, index: usize, part: u8, same: bool, by: Toucher<'_>) -> Option<Fault> {
        let cell = &self.cells[index];
        if cell.reserved {
            return Some(Fault::Reserved);
        }
        if cell.in_flight & part != 0 {
            return Some(Fault::InFlight);
        }
        if cell.written & part != 0 && by.meets(cell.writer) {
            return if same { None } else { Some(Fault::AfterWrite(cell.writer)) };
        }
        let reader = cell.reader;
        let own = u32::from(reader.warp) == by.warp;
        if own && reader.tick >= by.visible[by.warp as usize] && cell.read & part != 0 {
            let others = cell.reader_lanes & !(1 << by.lane);
            let unordered = crate::machine::lanes(others)
                .map(|lane| Stamp { lane: lane as u16, ..reader })
                .find(|&read| !by.clocks.ordered(read, by.warp, by.lane));
            if let Some(read) = unordered {
                return Some(Fault::AfterRead(read));
            }
        }
        for (other, (&tick, &visible)) in self.reads_of(index).iter().zip(by.visible).enumerate() {
            if tick < visible || tick == 0 || other == by.warp as usize {
                continue;
            }
            let last = usize::from(reader.warp) == other && reader.tick == tick;
            if last && cell.read & part == 0 {
                continue;
            }
            let lane = if last { cell.reader_lanes.trailing_zeros() as u16 } else { 0 };
            let read = Stamp { tick, warp: other as u16, lane };
            if !by.clocks.ordered(read, by.warp, by.lane) {
                return Some(Fault::AfterRead(read));
            }
        }
        None
    }
}
