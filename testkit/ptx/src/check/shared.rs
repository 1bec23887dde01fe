//! The shadow of a block's shared memory: who wrote and read each word last, and what is still to land.

use super::clock::{Clocks, Stamp, Tick};
use crate::machine::Mask;

/// Bytes that one cell shadows.
pub const CELL: u32 = 4;

/// The shadow of one word.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// The last write.
    writer: Stamp,
    /// Tick and warp of the last read, and the lanes that took part in it.
    reader: Stamp,
    reader_lanes: Mask,
    /// Bytes of the word, one bit each: written by `writer`, read by `reader`, holding a value, in flight.
    written: u8,
    read: u8,
    ready: u8,
    in_flight: u8,
    /// Whether the last write was an atomic update.
    atomic: bool,
    /// Whether it is part of a live mbarrier.
    reserved: bool,
}

/// What is wrong with one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing wrote these bytes.
    Uninitialised,
    /// An asynchronous copy to them has not been waited for.
    InFlight,
    /// They are a live mbarrier.
    Reserved,
    /// The asynchronous proxy reads them, and no proxy fence lies behind this write.
    Unfenced(Stamp),
    /// Somebody wrote them, and nothing orders that write before this access.
    AfterWrite(Stamp),
    /// Somebody read them, and nothing orders that read before this write.
    AfterRead(Stamp),
}

/// The shadow of all shared bytes of a block.
#[derive(Clone, Debug)]
pub struct Shadow {
    cells: Vec<Cell>,
    /// `reads[cell * agents + warp]`: the tick of that warp's last read.
    reads: Vec<Tick>,
    agents: usize,
}

impl Shadow {
    /// Nothing written, nothing read.
    pub fn new(bytes: usize, agents: usize) -> Self {
        let cells = bytes.div_ceil(CELL as usize);
        Self { cells: vec![Cell::default(); cells], reads: vec![0; cells * agents], agents }
    }

    /// Reads `bytes` at `address`, which are inside.
    #[inline]
    pub fn read(&mut self, address: u32, bytes: u32, warp: u32, lane: u32, clocks: &Clocks) -> Option<Fault> {
        let now = clocks.now(warp);
        let visible = clocks.visible_to(warp);
        let mut fault = None;
        for (index, part) in cells(address, bytes) {
            let cell = &mut self.cells[index];
            if cell.reserved {
                fault = fault.or(Some(Fault::Reserved));
            } else if cell.in_flight & part != 0 {
                fault = fault.or(Some(Fault::InFlight));
            } else if cell.ready & part != part {
                fault = fault.or(Some(Fault::Uninitialised));
            }
            let writer = cell.writer;
            if writer.tick >= visible[usize::from(writer.warp)]
                && cell.written & part != 0
                && !clocks.ordered(writer, warp, lane)
            {
                fault = fault.or(Some(Fault::AfterWrite(writer)));
            }
            if (cell.reader.tick, u32::from(cell.reader.warp)) != (now, warp) {
                cell.reader = Stamp { tick: now, warp: warp as u16, lane: lane as u16 };
                (cell.reader_lanes, cell.read) = (0, 0);
            }
            cell.reader_lanes |= 1 << lane;
            cell.read |= part;
            self.reads[index * self.agents + warp as usize] = now;
        }
        fault
    }

    /// The asynchronous proxy reads `bytes` at `address`, which are inside, for a warp.
    pub fn read_async(
        &mut self,
        address: u32,
        bytes: u32,
        warp: u32,
        lane: u32,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let fault = self.read(address, bytes, warp, lane, clocks);
        let unfenced = |(index, part): (usize, u8)| {
            let Cell { writer, written, .. } = self.cells[index];
            (written & part != 0 && !clocks.fenced(writer, warp)).then_some(Fault::Unfenced(writer))
        };
        fault.or_else(|| cells(address, bytes).find_map(unfenced))
    }

    /// Writes `bytes` at `address`, which are inside. `same`: the bytes already have these values.
    ///
    /// Several writers of one value with nothing between them are no race: compilers let all lanes that
    /// hold a copy of a value store it.
    #[inline]
    pub fn write(
        &mut self,
        address: u32,
        bytes: u32,
        warp: u32,
        lane: u32,
        same: bool,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let mut fault = None;
        for (index, part) in cells(address, bytes) {
            let found = self.conflict(index, part, warp, lane, same, clocks);
            fault = fault.or(found);
            let cell = &mut self.cells[index];
            cell.atomic = false;
            let stamp = Stamp { tick: clocks.now(warp), warp: warp as u16, lane: lane as u16 };
            // neighbours in one word that different lanes write are remembered together
            let together = cell.writer.tick == stamp.tick && cell.writer.warp == stamp.warp;
            cell.written =
                if together && cell.writer.lane == stamp.lane { cell.written | part } else { part };
            cell.writer = stamp;
            cell.ready |= part;
        }
        fault
    }

    /// Updates `bytes` at `address` in one step; such updates race with plain accesses only.
    pub fn update(
        &mut self,
        address: u32,
        bytes: u32,
        warp: u32,
        lane: u32,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let mut fault = None;
        for (index, part) in cells(address, bytes) {
            if self.cells[index].ready & part != part {
                fault = fault.or(Some(Fault::Uninitialised));
            }
            if !self.cells[index].atomic {
                let found = self.conflict(index, part, warp, lane, false, clocks);
                fault = fault.or(found);
            }
            let cell = &mut self.cells[index];
            cell.writer = Stamp { tick: clocks.now(warp), warp: warp as u16, lane: lane as u16 };
            (cell.written, cell.atomic) = (part, true);
            cell.ready |= part;
        }
        fault
    }

    /// An asynchronous copy will write these bytes.
    pub fn start(
        &mut self,
        address: u32,
        bytes: u32,
        warp: u32,
        lane: u32,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let mut fault = None;
        for (index, part) in cells(address, bytes) {
            let found = self.conflict(index, part, warp, lane, false, clocks);
            fault = fault.or(found);
            self.cells[index].in_flight |= part;
        }
        fault
    }

    /// An asynchronous copy has written these bytes, in the name of a warp's lane or of the agent.
    pub fn land(&mut self, address: u32, bytes: u32, warp: u32, lane: u32, clocks: &Clocks) {
        for (index, part) in cells(address, bytes) {
            let cell = &mut self.cells[index];
            cell.in_flight &= !part;
            cell.ready |= part;
            (cell.written, cell.atomic) = (part, false);
            cell.writer = Stamp { tick: clocks.now(warp), warp: warp as u16, lane: lane as u16 };
        }
    }

    /// These bytes become, or no longer are, an mbarrier: plain accesses are wrong.
    pub fn reserve(&mut self, address: u32, bytes: u32, reserved: bool) {
        for (index, _) in cells(address, bytes) {
            self.cells[index].reserved = reserved;
        }
    }

    fn conflict(
        &self,
        index: usize,
        part: u8,
        warp: u32,
        lane: u32,
        same: bool,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let cell = &self.cells[index];
        if cell.reserved {
            return Some(Fault::Reserved);
        }
        if cell.in_flight & part != 0 {
            return Some(Fault::InFlight);
        }
        let visible = clocks.visible_to(warp);
        let writer = cell.writer;
        if writer.tick >= visible[usize::from(writer.warp)]
            && cell.written & part != 0
            && !clocks.ordered(writer, warp, lane)
        {
            return if same { None } else { Some(Fault::AfterWrite(writer)) };
        }
        let reader = cell.reader;
        let own = u32::from(reader.warp) == warp;
        if own && reader.tick >= visible[warp as usize] && cell.read & part != 0 {
            let others = cell.reader_lanes & !(1 << lane);
            let unordered = crate::machine::lanes(others)
                .map(|lane| Stamp { lane: lane as u16, ..reader })
                .find(|&read| !clocks.ordered(read, warp, lane));
            if let Some(read) = unordered {
                return Some(Fault::AfterRead(read));
            }
        }
        let reads = &self.reads[index * self.agents..(index + 1) * self.agents];
        for (other, (&tick, &visible)) in reads.iter().zip(visible).enumerate() {
            if other == warp as usize || tick < visible || tick == 0 {
                continue;
            }
            let last = usize::from(reader.warp) == other && reader.tick == tick;
            if last && cell.read & part == 0 {
                continue;
            }
            let lane_of_reader = if last { cell.reader_lanes.trailing_zeros() as u16 } else { 0 };
            let read = Stamp { tick, warp: other as u16, lane: lane_of_reader };
            if !clocks.ordered(read, warp, lane) {
                return Some(Fault::AfterRead(read));
            }
        }
        None
    }
}

/// The cells that an access touches, each with the bytes of it as bits.
#[inline(always)]
fn cells(address: u32, bytes: u32) -> impl Iterator<Item = (usize, u8)> {
    let end = address + bytes;
    (address / CELL..end.div_ceil(CELL)).map(move |index| {
        let (from, to) = (address.max(index * CELL) % CELL, (end - index * CELL).min(CELL));
        (index as usize, (((1u32 << to) - 1) & !((1 << from) - 1)) as u8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Mask = !0;

    fn fresh() -> (Shadow, Clocks) {
        (Shadow::new(64, 3), Clocks::new(2))
    }

    #[test]
    fn cells_cover_exactly_the_bytes() {
        let all: Vec<_> = cells(0, 16).collect();
        assert_eq!(all, [(0, 15), (1, 15), (2, 15), (3, 15)]);
        assert_eq!(cells(6, 2).collect::<Vec<_>>(), [(1, 0b1100)]);
        assert_eq!(cells(5, 1).collect::<Vec<_>>(), [(1, 0b0010)]);
    }

    #[test]
    fn unwritten_bytes_show_and_written_halves_do_not_hide_them() {
        let (mut shadow, clocks) = fresh();
        assert_eq!(shadow.read(0, 4, 0, 0, &clocks), Some(Fault::Uninitialised));
        assert_eq!(shadow.write(8, 2, 0, 0, false, &clocks), None);
        assert_eq!(shadow.read(8, 2, 0, 0, &clocks), None);
        assert_eq!(shadow.read(8, 4, 0, 0, &clocks), Some(Fault::Uninitialised));
    }

    #[test]
    fn a_read_of_another_lane_needs_a_warp_barrier_and_of_another_warp_a_block_barrier() {
        let (mut shadow, mut clocks) = fresh();
        assert_eq!(shadow.write(0, 4, 0, 1, false, &clocks), None);
        assert_eq!(shadow.read(0, 4, 0, 1, &clocks), None);
        assert!(matches!(shadow.read(0, 4, 0, 2, &clocks), Some(Fault::AfterWrite(s)) if s.lane == 1));
        clocks.sync_lanes(0, LIVE, LIVE);
        assert_eq!(shadow.read(0, 4, 0, 2, &clocks), None);
        assert!(matches!(shadow.read(0, 4, 1, 0, &clocks), Some(Fault::AfterWrite(_))));
        clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
        assert_eq!(shadow.read(0, 4, 1, 0, &clocks), None);
    }

    #[test]
    fn a_write_after_a_read_needs_order_whoever_read_in_between() {
        let (mut shadow, mut clocks) = fresh();
        shadow.write(0, 4, 0, 0, false, &clocks);
        clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
        assert_eq!(shadow.read(0, 4, 1, 5, &clocks), None);
        assert_eq!(shadow.read(0, 4, 0, 0, &clocks), None);
        assert!(matches!(shadow.write(0, 4, 0, 0, false, &clocks), Some(Fault::AfterRead(s)) if s.warp == 1));
        clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
        assert_eq!(shadow.write(0, 4, 0, 0, false, &clocks), None);
    }

    #[test]
    fn lanes_may_write_the_halves_of_a_word_and_copies_of_one_value() {
        let (mut shadow, clocks) = fresh();
        assert_eq!(shadow.write(0, 2, 0, 0, false, &clocks), None);
        assert_eq!(shadow.write(2, 2, 0, 1, false, &clocks), None);
        assert_eq!(shadow.write(4, 4, 0, 0, false, &clocks), None);
        assert_eq!(shadow.write(4, 4, 1, 0, true, &clocks), None);
        assert!(matches!(shadow.write(4, 4, 0, 0, false, &clocks), Some(Fault::AfterWrite(_))));
    }

    #[test]
    fn bytes_in_flight_belong_to_nobody() {
        let (mut shadow, clocks) = fresh();
        assert_eq!(shadow.start(0, 16, 0, 0, &clocks), None);
        assert_eq!(shadow.read(4, 4, 0, 0, &clocks), Some(Fault::InFlight));
        assert_eq!(shadow.write(8, 4, 0, 0, false, &clocks), Some(Fault::InFlight));
        shadow.land(0, 16, 0, 0, &clocks);
        assert_eq!(shadow.read(4, 4, 0, 0, &clocks), None);
        assert!(matches!(shadow.read(4, 4, 0, 1, &clocks), Some(Fault::AfterWrite(_))));
    }
}
