//! The shadow of a block's shared memory: who wrote and read each word last, and what is still to land.
//!
//! Words that are always touched together, 16 bytes at a time, share one cell: matrices move in such rows.

mod cells;

use std::ops::Range;

use cells::{ALL, Cell, Cells, Toucher};

use super::clock::{Clocks, Stamp, Tick};
use crate::memory::matrix_descriptor::Places;

/// Bytes that are shadowed together for as long as nothing narrower touches them: what a lane moves at most.
const GROUP: u32 = 16;
/// Bytes of a word, the narrowest thing that is shadowed.
const WORD: u32 = 4;
/// Words of a group.
const WORDS: usize = (GROUP / WORD) as usize;

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

/// The last write of a group that every warp behind it may read whole: its bytes hold values, no copy is about to
/// change them, and its words share their fate. All bits set where one of these fails.
#[derive(Clone, Copy, Debug)]
struct Written(u64);

impl Written {
    const UNKNOWN: Self = Self(!0);

    fn of(cell: &Cell) -> Self {
        if !cell.is_at_rest() {
            return Self::UNKNOWN;
        }
        Self(u64::from(cell.writer.tick) << 16 | u64::from(cell.writer.warp))
    }

    /// Whether it lies before the tick of its warp in `visible`.
    #[inline(always)]
    fn before(self, visible: &[Tick]) -> bool {
        visible.get((self.0 & 0xffff) as usize).is_some_and(|&tick| self.0 >> 16 < u64::from(tick))
    }
}

/// What the asynchronous proxy reads for one product of a warp, from its issue until it is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    warp: u32,
    /// Its number among the warp's.
    number: u32,
}

/// The tick of a reading that has not ended.
const READS: Tick = Tick::MAX;

/// How many of each warp's readings, from the first, are over for an agent; later there can only be more.
#[derive(Clone, Debug, Default)]
struct Over {
    /// The agent's tick when it looked.
    tick: Tick,
    counts: Vec<u32>,
}

/// Warps of the largest block, and the asynchronous agent.
const AGENTS: usize = 33;

/// The shadow of all shared bytes of a block.
#[derive(Clone, Debug)]
pub struct Shadow {
    groups: Cells,
    /// For each group, what readers of all of it look at first.
    written: Vec<Written>,
    /// `proxied[warp * groups + group]`: 1 + the number of the warp's last [`Reading`] of the group; 0 for none. Empty
    /// until the first.
    proxied: Vec<u32>,
    /// For each warp, the ticks in which its readings ended.
    ended: Vec<Vec<Tick>>,
    /// For each agent, what it knew of the readings when it last looked.
    over: Vec<Over>,
    /// Whether a group's words stand for themselves in `words`.
    split: Vec<bool>,
    /// Empty until a group is split.
    words: Cells,
}

impl Shadow {
    /// Nothing written, nothing read.
    pub fn new(bytes: usize, agents: usize) -> Self {
        let groups = bytes.div_ceil(GROUP as usize);
        Self {
            groups: Cells::new(groups, agents),
            written: vec![Written::UNKNOWN; groups],
            proxied: Vec::new(),
            ended: Vec::new(),
            over: vec![Over::default(); agents],
            split: vec![false; groups],
            words: Cells::new(0, agents),
        }
    }

    /// Reads `bytes` at `address`, which are inside.
    #[inline]
    pub fn read(&mut self, address: u32, bytes: u32, warp: u32, lane: u32, clocks: &Clocks) -> Option<Fault> {
        let by = Toucher::new(warp, lane, clocks);
        self.each(address, bytes, |cells, index, part| cells.read(index, part, by))
    }

    /// The asynchronous proxy reads `bytes` at `address`, which are inside, for a warp.
    #[inline]
    pub fn read_async(
        &mut self,
        address: u32,
        bytes: u32,
        warp: u32,
        lane: u32,
        clocks: &Clocks,
    ) -> Option<Fault> {
        let by = Toucher::new(warp, lane, clocks);
        self.each(address, bytes, |cells, index, part| {
            let fault = cells.read(index, part, by);
            let Cell { writer, written, .. } = cells.cells[index];
            let unfenced = written & part != 0 && !clocks.fenced(writer, warp);
            fault.or_else(|| unfenced.then_some(Fault::Unfenced(writer)))
        })
    }

    /// Reads a row of 16 bytes, inside and aligned.
    #[inline(always)]
    pub fn read_row(&mut self, address: u32, warp: u32, lane: u32, clocks: &Clocks) -> Option<Fault> {
        let group = (address / GROUP) as usize;
        if self.written[group].before(clocks.visible_to(warp)) {
            self.groups.stamp(group, ALL, Toucher::new(warp, lane, clocks));
            return None;
        }
        self.read(address, GROUP, warp, lane, clocks)
    }

    /// The asynchronous proxy begins to read for a product of a warp.
    pub fn begin_reading(&mut self, warp: u32, clocks: &Clocks) -> Reading {
        if self.ended.is_empty() {
            self.proxied = vec![0; self.written.len() * clocks.warps()];
            self.ended = vec![Vec::new(); clocks.warps()];
        }
        let ended = &mut self.ended[warp as usize];
        ended.push(READS);
        Reading { warp, number: ended.len() as u32 - 1 }
    }

    /// The product is done: what it read may change for whoever knows that.
    pub fn end_reading(&mut self, reading: Reading, clocks: &Clocks) {
        self.ended[reading.warp as usize][reading.number as usize] = clocks.now(reading.warp);
    }

    /// The asynchronous proxy reads the rows of 16 bytes of a part of a matrix; whoever changes one of them before
    /// the reading ended is wrong. Gives the first row that is not inside, and the first that must not be read.
    pub fn read_matrix(
        &mut self,
        reading: Reading,
        (places, lines, chunks): (Places, Range<u32>, Range<u32>),
        bytes: u32,
        clocks: &Clocks,
    ) -> (Option<u32>, Option<(u32, Fault)>) {
        // the tick before which each warp's accesses are visible and a proxy fence lies behind them
        let mut visible = [0; AGENTS];
        let known = clocks.visible_to(reading.warp).iter().zip(clocks.fenced_for(reading.warp));
        visible.iter_mut().zip(known).for_each(|(tick, (&seen, &fenced))| *tick = seen.min(fenced));
        let (mut outside, mut other) = (None, Vec::new());
        let groups = self.written.len();
        let proxied = &mut self.proxied[reading.warp as usize * groups..][..groups];
        let whole = (bytes / GROUP) as usize;
        for line in lines {
            let first = places.line(line);
            for chunk in chunks.clone() {
                let row = places.chunk(first, chunk);
                let group = (row / GROUP) as usize;
                if group >= whole {
                    outside = outside.or(Some(row));
                    continue;
                }
                proxied[group] = reading.number + 1;
                if !self.written[group].before(&visible) {
                    other.push(row);
                }
            }
        }
        let wrong = |row| Some((row, self.read_async(row, GROUP, reading.warp, 0, clocks)?));
        (outside, other.into_iter().filter_map(wrong).next())
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
        let by = Toucher::new(warp, lane, clocks);
        self.change(address, bytes, by, |cells, index, part, checked| {
            let fault = if checked { None } else { cells.conflict(index, part, same, by) };
            cells.write(index, part, by.stamp);
            fault
        })
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
        let by = Toucher::new(warp, lane, clocks);
        let fault = self.each(address, bytes, |cells, index, part| {
            let mut fault = (cells.cells[index].ready & part != part).then_some(Fault::Uninitialised);
            if !cells.cells[index].atomic {
                fault = fault.or(cells.conflict(index, part, false, by));
            }
            let cell = &mut cells.cells[index];
            cell.writer = by.stamp;
            (cell.written, cell.atomic) = (part, true);
            cell.ready |= part;
            fault
        });
        self.settle(address, bytes);
        fault.or_else(|| self.proxied_before(address, bytes, by))
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
        let by = Toucher::new(warp, lane, clocks);
        self.change(address, bytes, by, |cells, index, part, checked| {
            let fault = if checked { None } else { cells.conflict(index, part, false, by) };
            cells.cells[index].in_flight |= part;
            fault
        })
    }

    /// An asynchronous copy has written these bytes, in the name of a warp's lane or of the agent.
    pub fn land(&mut self, address: u32, bytes: u32, warp: u32, lane: u32, clocks: &Clocks) {
        let stamp = Toucher::new(warp, lane, clocks).stamp;
        let mut land = |cells: &mut Cells, index: usize, part: u8| {
            let cell = &mut cells.cells[index];
            cell.in_flight &= !part;
            cell.ready |= part;
            (cell.written, cell.atomic) = (part, false);
            cell.writer = stamp;
            None
        };
        for (group, from, to) in groups(address, bytes) {
            if to - from == GROUP && !self.split[group] {
                land(&mut self.groups, group, ALL);
            } else {
                self.each(from, to - from, &mut land);
                self.join(from, to - from, stamp);
            }
            self.settle(from, to - from);
        }
    }

    /// These bytes become, or no longer are, an mbarrier: plain accesses are wrong.
    pub fn reserve(&mut self, address: u32, bytes: u32, reserved: bool) {
        self.each(address, bytes, |cells, index, _| {
            cells.cells[index].reserved = reserved;
            None
        });
        self.settle(address, bytes);
    }

    /// These bytes changed: what readers of their groups look at first follows.
    #[inline(always)]
    fn settle(&mut self, address: u32, bytes: u32) {
        for group in (address / GROUP) as usize..(address + bytes).div_ceil(GROUP) as usize {
            let whole = !self.split[group];
            self.written[group] =
                if whole { Written::of(&self.groups.cells[group]) } else { Written::UNKNOWN };
        }
    }

    /// Does the same to every cell that an access changes, given its bytes as bits and whether it is known that
    /// nothing conflicts; then what it wrote whole is shadowed together. The first fault counts.
    #[inline(always)]
    fn change(
        &mut self,
        address: u32,
        bytes: u32,
        by: Toucher<'_>,
        mut touch: impl FnMut(&mut Cells, usize, u8, bool) -> Option<Fault>,
    ) -> Option<Fault> {
        self.look(by);
        let mut fault = None;
        for (group, from, to) in groups(address, bytes) {
            if to - from == GROUP && self.may_change(group, by) {
                touch(&mut self.groups, group, ALL, true);
            } else {
                let found = self.each(from, to - from, |cells, index, part| touch(cells, index, part, false));
                self.join(from, to - from, by.stamp);
                fault = fault.or(found).or_else(|| self.proxied_before(from, to - from, by));
            }
            self.settle(from, to - from);
        }
        fault
    }

    /// Whether everybody who touched this whole group lies behind. `false`: not known so quickly.
    #[inline(always)]
    fn may_change(&self, group: usize, by: Toucher<'_>) -> bool {
        let Cell { writer, written, in_flight, reserved, .. } = self.groups.cells[group];
        let unread = |(&tick, &visible): (&Tick, &Tick)| tick < visible || tick == 0;
        let over = &self.over[by.warp as usize].counts;
        !self.split[group]
            && in_flight == 0
            && !reserved
            && (written == 0 || writer.tick < by.visible[usize::from(writer.warp)])
            && self.groups.reads_of(group).iter().zip(by.visible).fold(true, |all, pair| all & unread(pair))
            && (self.proxied.iter().skip(group).step_by(self.written.len()).zip(over))
                .all(|(number, count)| number <= count)
    }

    /// Sees which readings of the proxy are over.
    #[inline(always)]
    fn look(&mut self, by: Toucher<'_>) {
        let over = &mut self.over[by.warp as usize];
        if over.tick == by.stamp.tick || self.ended.is_empty() {
            return;
        }
        over.tick = by.stamp.tick;
        over.counts.resize(self.ended.len(), 0);
        for (warp, (count, ended)) in over.counts.iter_mut().zip(&self.ended).enumerate() {
            let is_over =
                |&&tick: &&Tick| tick != READS && !by.meets(Stamp { tick, warp: warp as u16, lane: 0 });
            *count += ended[*count as usize..].iter().take_while(is_over).count() as u32;
        }
    }

    /// A reading of the proxy that nothing orders before an access that changes these bytes.
    #[inline(always)]
    fn proxied_before(&self, address: u32, bytes: u32, by: Toucher<'_>) -> Option<Fault> {
        for group in (address / GROUP) as usize..(address + bytes).div_ceil(GROUP) as usize {
            for (warp, ended) in self.ended.iter().enumerate() {
                let number = self.proxied[warp * self.written.len() + group];
                if number == 0 {
                    continue;
                }
                let tick = ended[number as usize - 1];
                let read = Stamp { tick, warp: warp as u16, lane: 0 };
                if tick == READS || by.meets(read) {
                    return Some(Fault::AfterRead(read));
                }
            }
        }
        None
    }

    /// Does the same to every cell that an access touches, given its bytes as bits; the first fault counts.
    #[inline(always)]
    fn each(
        &mut self,
        address: u32,
        bytes: u32,
        mut touch: impl FnMut(&mut Cells, usize, u8) -> Option<Fault>,
    ) -> Option<Fault> {
        let (end, mut fault) = (address + bytes, None);
        for group in address / GROUP..end.div_ceil(GROUP) {
            let (start, index) = (group * GROUP, group as usize);
            if address <= start && end >= start + GROUP && !self.split[index] {
                fault = fault.or(touch(&mut self.groups, index, ALL));
                continue;
            }
            if !self.split[index] {
                self.split(index);
            }
            let (from, to) = (address.max(start), end.min(start + GROUP));
            for (word, part) in words(from, to - from) {
                fault = fault.or(touch(&mut self.words, word, part));
            }
        }
        fault
    }

    /// A group's words stand for themselves from now on.
    #[cold]
    fn split(&mut self, group: usize) {
        if self.words.cells.is_empty() {
            self.words = Cells::new(WORDS * self.split.len(), self.words.agents);
        }
        self.split[group] = true;
        self.written[group] = Written::UNKNOWN;
        let reads = self.groups.reads_of(group);
        for word in WORDS * group..WORDS * (group + 1) {
            self.words.cells[word] = self.groups.cells[group];
            self.words.reads_of_mut(word).copy_from_slice(reads);
        }
    }

    /// Groups that one write covered whole are shadowed together again. What read them before lies behind that
    /// write, or was found.
    #[inline(always)]
    fn join(&mut self, address: u32, bytes: u32, writer: Stamp) {
        for group in address.div_ceil(GROUP) as usize..((address + bytes) / GROUP) as usize {
            let words = WORDS * group..WORDS * (group + 1);
            if !self.split[group] || self.words.cells[words].iter().any(|c| c.reserved || c.in_flight != 0) {
                continue;
            }
            self.split[group] = false;
            self.groups.cells[group] = Cell { writer, written: ALL, ready: ALL, ..Cell::default() };
            self.groups.reads_of_mut(group).fill(0);
        }
    }
}

/// The groups that an access touches, each with the bytes of it.
#[inline(always)]
fn groups(address: u32, bytes: u32) -> impl Iterator<Item = (usize, u32, u32)> {
    let end = address + bytes;
    (address / GROUP..end.div_ceil(GROUP))
        .map(move |group| (group as usize, address.max(group * GROUP), end.min((group + 1) * GROUP)))
}

/// The words that an access touches, each with the bytes of it as bits.
#[inline(always)]
fn words(address: u32, bytes: u32) -> impl Iterator<Item = (usize, u8)> {
    let end = address + bytes;
    (address / WORD..end.div_ceil(WORD)).map(move |index| {
        let (from, to) = (address.max(index * WORD) % WORD, (end - index * WORD).min(WORD));
        (index as usize, (((1u32 << to) - 1) & !((1 << from) - 1)) as u8)
    })
}

#[cfg(test)]
mod tests;
