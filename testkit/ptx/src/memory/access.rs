//! The one door to memory: every access of an instruction is checked and counted here.

use std::ops::Range;

use super::Access;
use super::matrix_descriptor::Matrix;
use crate::check::Check;
use crate::check::global::Toucher;
use crate::check::shared::{Fault, Reading};
use crate::count::{Requests, banks, sectors};
use crate::isa::Execution;
use crate::machine::{Lanes32, Lanes64, Mask, WARP, lanes};

impl Execution<'_, '_> {
    /// Something is wrong with these lanes.
    pub fn finding(&mut self, check: Check, lanes: Mask, message: impl FnOnce() -> String) {
        self.block.finding(check, self.at, self.warp.id, lanes, message);
    }

    /// Lanes touch `bytes` of shared memory each. Returns the lanes whose bytes are there and aligned.
    ///
    /// A write must be made through [`Execution::shared_write`], which compares values.
    #[inline]
    pub fn shared(&mut self, addresses: &Lanes32, bytes: u32, mask: Mask, access: Access) -> Mask {
        let inside = self.shared_bounds(addresses, bytes, mask);
        self.count_banks(addresses, bytes, inside);
        for lane in lanes(inside) {
            self.shadow(addresses[lane], bytes, lane as u32, access, false);
        }
        inside
    }

    /// Lanes write shared memory: `value` gives each lane's little-endian bytes.
    #[inline]
    pub fn shared_write(
        &mut self,
        addresses: &Lanes32,
        bytes: u32,
        mask: Mask,
        value: impl Fn(usize, &mut [u8]),
    ) {
        let inside = self.shared_bounds(addresses, bytes, mask);
        self.count_banks(addresses, bytes, inside);
        let mut buffer = [0; 32];
        let new = &mut buffer[..bytes as usize];
        for lane in lanes(inside) {
            value(lane, new);
            let at = addresses[lane] as usize;
            let same = self.block.shared.bytes()[at..at + bytes as usize] == *new;
            self.shadow(addresses[lane], bytes, lane as u32, Access::Write, same);
            self.block.shared.bytes_mut()[at..at + bytes as usize].copy_from_slice(new);
        }
    }

    /// Rows of 16 bytes, as ldmatrix and stmatrix touch them; row i is lane i's. Returns the good rows.
    ///
    /// For writes the caller stores the bytes; equal bytes are not told apart.
    #[inline]
    pub fn shared_rows(&mut self, addresses: &Lanes32, rows: Mask, access: Access) -> Mask {
        let inside = self.shared_bounds(addresses, 16, rows);
        if inside == (1u64 << rows.count_ones()).wrapping_sub(1) as u32 {
            let counted = banks::count_rows(&addresses[..rows.count_ones() as usize]);
            self.block.counters.shared[self.at.pc as usize].merge(counted);
        }
        let (warp, read) = (self.warp.id, access == Access::Read);
        for lane in lanes(inside) {
            let (address, block) = (addresses[lane], &mut *self.block);
            if !read {
                self.shadow(address, 16, lane as u32, access, false);
            } else if let Some(fault) = block.shadow.read_row(address, warp, lane as u32, &block.clocks) {
                self.fault(fault, address, 16, lane as u32, access);
            }
        }
        inside
    }

    /// Rows of 16 bytes, each a chunk of a line of a matrix, that the asynchronous proxy reads for the warp; no banks
    /// counted. Returns whether all of them are there.
    pub fn shared_matrix(
        &mut self,
        reading: Reading,
        matrix: Matrix,
        lines: Range<u32>,
        chunks: Range<u32>,
    ) -> bool {
        let block = &mut *self.block;
        let size = block.shared.bytes().len() as u32;
        let part = (matrix.places(), lines, chunks);
        let (outside, wrong) = block.shadow.read_matrix(reading, part, size, &block.clocks);
        if let Some((row, fault)) = wrong {
            self.fault(fault, row, 16, 0, Access::Read);
        }
        let Some(row) = outside else { return true };
        self.finding(Check::OutOfBounds, !0, || {
            format!("shared bytes {row}..{}; the block has {size}", u64::from(row) + 16)
        });
        false
    }

    /// Bytes that a lane touches for its warp through the asynchronous proxy; no banks counted.
    pub fn shared_bulk(&mut self, address: u32, bytes: u32, lane: u32, access: Access) -> bool {
        let size = self.block.shared.bytes().len() as u64;
        if u64::from(address) + u64::from(bytes) > size {
            self.finding(Check::OutOfBounds, !0, || {
                format!(
                    "shared bytes {address}..{}; the block has {size}",
                    u64::from(address) + u64::from(bytes)
                )
            });
            return false;
        }
        let (warp, block) = (self.warp.id, &mut *self.block);
        if access == Access::Read {
            let fault = block.shadow.read_async(address, bytes, warp, lane, &block.clocks);
            if let Some(fault) = fault {
                self.fault(fault, address, bytes, lane, access);
            }
        } else {
            self.shadow(address, bytes, lane, access, false);
        }
        true
    }

    fn shared_bounds(&mut self, addresses: &Lanes32, bytes: u32, mask: Mask) -> Mask {
        let size = self.block.shared.bytes().len() as u32;
        let mut wrong = 0;
        for lane in lanes(mask) {
            let bad = addresses[lane] & (bytes - 1) != 0
                || addresses[lane] >= size
                || size - addresses[lane] < bytes;
            wrong |= u32::from(bad) << lane;
        }
        if wrong != 0 {
            self.wrong_shared(addresses, bytes, wrong, size);
        }
        mask & !wrong
    }

    #[cold]
    fn wrong_shared(&mut self, addresses: &Lanes32, bytes: u32, wrong: Mask, size: u32) {
        let outside = lanes(wrong)
            .filter(|&lane| u64::from(addresses[lane]) + u64::from(bytes) > u64::from(size))
            .fold(0, |mask: Mask, lane| mask | 1 << lane);
        for (check, mask) in [(Check::OutOfBounds, outside), (Check::Misaligned, wrong & !outside)] {
            let Some(address) = addresses.get(mask.trailing_zeros() as usize) else { continue };
            self.finding(check, mask, || {
                format!("{bytes} bytes at shared address {address}; the block has {size} bytes, and an address must be a multiple of the size")
            });
        }
    }

    fn count_banks(&mut self, addresses: &Lanes32, bytes: u32, mask: Mask) {
        if mask != 0 {
            let counted = banks::count(addresses, bytes, mask);
            self.block.counters.shared[self.at.pc as usize].merge(counted);
        }
    }

    #[inline]
    fn shadow(&mut self, address: u32, bytes: u32, lane: u32, access: Access, same: bool) {
        let (warp, block) = (self.warp.id, &mut *self.block);
        let fault = match access {
            Access::Read => block.shadow.read(address, bytes, warp, lane, &block.clocks),
            Access::Write => block.shadow.write(address, bytes, warp, lane, same, &block.clocks),
            Access::Atomic => block.shadow.update(address, bytes, warp, lane, &block.clocks),
            Access::AsyncWrite => block.shadow.start(address, bytes, warp, lane, &block.clocks),
        };
        if let Some(fault) = fault {
            self.fault(fault, address, bytes, lane, access);
        }
    }

    #[cold]
    fn fault(&mut self, fault: Fault, address: u32, bytes: u32, lane: u32, access: Access) {
        let doing = match access {
            Access::Read => "read",
            Access::Write => "written",
            Access::Atomic => "updated",
            Access::AsyncWrite => "written by an asynchronous copy",
        };
        let agent = self.block.clocks.agent();
        let who = move |stamp: crate::check::clock::Stamp| {
            if u32::from(stamp.warp) == agent {
                "a bulk copy".to_owned()
            } else {
                format!("warp {}, lane {}", stamp.warp, stamp.lane)
            }
        };
        let (check, what) = match fault {
            Fault::Uninitialised => (Check::Uninitialised, "was never written".to_owned()),
            Fault::InFlight => {
                (Check::InFlight, "is the target of an asynchronous copy that was not waited for".to_owned())
            }
            Fault::Unfenced(by) => {
                let by = who(by);
                let what = format!("was written by {by}, and no fence.proxy.async lies between");
                (Check::ProxyFence, what)
            }
            Fault::Reserved => (Check::Mbarrier, "is a live mbarrier".to_owned()),
            Fault::AfterWrite(by) => {
                (Check::SharedRace, format!("was written by {}, and nothing orders the two", who(by)))
            }
            Fault::AfterRead(by) => {
                (Check::SharedRace, format!("was read by {}, and nothing orders the two", who(by)))
            }
        };
        self.finding(check, 1 << lane, || {
            format!("{bytes} shared bytes at {address} are {doing}; part of them {what}")
        });
    }

    /// Lanes touch `bytes` of global memory each. Returns the lanes whose bytes are there and aligned.
    #[inline]
    pub fn global(&mut self, addresses: &Lanes64, bytes: u32, mask: Mask, access: Access) -> Mask {
        if mask == 0 {
            return 0;
        }
        let first = addresses[mask.trailing_zeros() as usize];
        let Some(index) = self.block.global.find(first) else {
            return self.global_one_by_one(addresses, bytes, mask, access);
        };
        let allocation = self.block.global.get(index);
        let alignment = u64::from(bytes.min(16)) - 1;
        if !lanes(mask)
            .all(|lane| allocation.holds(addresses[lane], bytes) && addresses[lane] & alignment == 0)
        {
            return self.global_one_by_one(addresses, bytes, mask, access);
        }
        self.touch(index, addresses, bytes, mask, access);
        mask
    }

    /// The slow way: lanes in several allocations, or wrong ones.
    #[cold]
    fn global_one_by_one(&mut self, addresses: &Lanes64, bytes: u32, mask: Mask, access: Access) -> Mask {
        let mut good: Mask = 0;
        let mut by_allocation = std::collections::BTreeMap::<usize, Mask>::new();
        let (mut outside, mut misaligned): (Mask, Mask) = (0, 0);
        for lane in lanes(mask) {
            let found = self.block.global.find(addresses[lane]);
            match found.filter(|&index| self.block.global.get(index).holds(addresses[lane], bytes)) {
                None => outside |= 1 << lane,
                Some(_) if addresses[lane] & (u64::from(bytes.min(16)) - 1) != 0 => misaligned |= 1 << lane,
                Some(index) => {
                    *by_allocation.entry(index).or_default() |= 1 << lane;
                    good |= 1 << lane;
                }
            }
        }
        for (index, mask) in by_allocation {
            self.touch(index, addresses, bytes, mask, access);
        }
        for (check, wrong) in [(Check::OutOfBounds, outside), (Check::Misaligned, misaligned)] {
            let Some(&address) = addresses.get(wrong.trailing_zeros() as usize) else { continue };
            let near = self.block.global.describe(address);
            self.finding(check, wrong, || format!("{bytes} bytes at {address:#x}, {near}"));
        }
        good
    }

    #[inline]
    fn touch(&mut self, index: usize, addresses: &Lanes64, bytes: u32, mask: Mask, access: Access) {
        let counted = sectors::count(addresses, bytes, mask);
        let traffic = &mut self.block.counters.global[index];
        match access {
            Access::Read => traffic.loads.merge(counted),
            Access::Write | Access::AsyncWrite => traffic.stores.merge(counted),
            Access::Atomic => traffic.atomics.merge(counted),
        }
        let (number, pc, warp) = (self.block.number, self.at.pc, self.warp.id);
        let view = self.block.global;
        let allocation = view.get(index);
        if view.order.is_some() {
            self.order_blocks(index, addresses, bytes, mask, access);
        }
        if access != Access::Atomic {
            let by = Toucher { block: number, pc, warp, lane: 0 };
            let place = (index, allocation.start);
            view.touches.add_lanes(place, (addresses, bytes, mask), access != Access::Read, by);
        }
        if matches!(access, Access::Read | Access::Atomic) {
            let unready = allocation.unready(addresses, bytes, mask);
            if unready != 0 {
                let address = addresses[unready.trailing_zeros() as usize];
                let near = view.describe(address);
                self.finding(Check::Uninitialised, unready, || {
                    format!("{bytes} bytes at {address:#x}, {near}: nothing ever wrote all of them")
                });
            }
        }
    }

    /// Pieces of global memory, (address, bytes), that one bulk copy of a lane touches. Returns whether they
    /// are there.
    pub fn global_bulk(&mut self, pieces: &[(u64, u32)], lane: u32, access: Access) -> bool {
        let view = self.block.global;
        let found = |&&(address, bytes): &&(u64, u32)| bytes != 0 && view.holder(address, bytes).is_none();
        if let Some(&(address, bytes)) = pieces.iter().find(found) {
            let near = view.describe(address);
            self.finding(Check::OutOfBounds, 1 << lane, || format!("{bytes} bytes at {address:#x}, {near}"));
            return false;
        }
        let by = Toucher { block: self.block.number, pc: self.at.pc, warp: self.warp.id, lane };
        let mut first = 1;
        for &(address, bytes) in pieces.iter().filter(|(_, bytes)| *bytes != 0) {
            let index = view.find(address).expect("the piece has a holder");
            let (allocation, offset) = (view.get(index), (address - view.get(index).start) as usize);
            if view.order.is_some() {
                self.order_blocks(index, &[address; WARP], bytes, 1 << lane, access);
            }
            if access != Access::Atomic {
                view.touches.add(index, offset, bytes, access != Access::Read, by);
            }
            // one request, in the name of the first piece's buffer
            let counted =
                Requests { requests: std::mem::take(&mut first), ..sectors::count_bulk(address, bytes) };
            self.block.counters.global[index].bulk.merge(counted);
            let reads = matches!(access, Access::Read | Access::Atomic);
            let ready = || {
                if address.is_multiple_of(4) && bytes.is_multiple_of(4) {
                    return allocation.is_ready(address, bytes);
                }
                (address..address + u64::from(bytes)).all(|byte| allocation.is_ready(byte, 1))
            };
            if reads && !ready() {
                let near = view.describe(address);
                self.finding(Check::Uninitialised, 1 << lane, || {
                    format!("{bytes} bytes at {address:#x}, {near}: nothing ever wrote all of them")
                });
            }
        }
        true
    }

    /// Blocks run one by one, and atomics order them.
    fn order_blocks(&mut self, index: usize, addresses: &Lanes64, bytes: u32, mask: Mask, access: Access) {
        let (view, number) = (self.block.global, self.block.number);
        let Some(order) = &view.order else { return };
        let mut order = order.lock().expect("blocks run one by one");
        for lane in lanes(mask) {
            if access == Access::Atomic {
                order.atomic(number, addresses[lane]);
                continue;
            }
            let offset = (addresses[lane] - view.get(index).start) as usize;
            let writes = access != Access::Read;
            if !writes && !view.touches.written(index) {
                break; // nobody wrote any of it
            }
            let other =
                view.touches.unordered(index, offset, bytes, writes, |other| order.knows(number, other));
            if let Some(other) = other {
                let place = view.describe(addresses[lane]);
                self.finding(Check::GlobalRace, 1 << lane, || {
                    format!("{bytes} bytes, {place}: block number {other} touched them, and nothing orders the two")
                });
            }
        }
    }
}
