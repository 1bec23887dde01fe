//! Allocation, copies and fills, as they are called; [`crate::execute`] has what they do when they run.

use crate::driver::Driver;
use crate::host::{digest, snapshot};
use crate::pinned::Origin;
use crate::status::{Outcome, Status};
use crate::streams::{Clock, StreamId};
use crate::work::{HostBytes, Work};

/// Whether a call returns before its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Early,
    /// The caller waits for the point that the model returns.
    Done,
}

impl Driver {
    fn room_for(&self, bytes: usize) -> Outcome<usize> {
        let (context, free, _) = self.memory_info()?;
        if bytes as u64 > free { Err(Status::ERROR_OUT_OF_MEMORY) } else { Ok(context) }
    }

    /// The current context, and free and total bytes of its device.
    pub(crate) fn memory_info(&self) -> Outcome<(usize, u64, u64)> {
        let context = self.contexts.healthy()?;
        let ordinal = self.contexts.get(context)?.ordinal;
        let here = |other: usize| self.contexts.get(other).is_ok_and(|other| other.ordinal == ordinal);
        let total = self.device(ordinal)?.memory_bytes;
        Ok((context, total.saturating_sub(self.memory.used(here)), total))
    }

    /// `cuMemAlloc`.
    pub(crate) fn allocate(&mut self, bytes: usize, call: &str) -> Outcome<u64> {
        self.captures.refuse_unsafe_call()?;
        let context = self.room_for(bytes)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(self.memory.allocate(bytes, context, call))
    }

    /// `cuMemAllocAsync`: the address is known at once, the memory is usable behind this point of the stream.
    pub(crate) fn allocate_async(&mut self, bytes: usize, stream: StreamId, call: &str) -> Outcome<u64> {
        let context = self.room_for(bytes)?;
        if bytes == 0 {
            return Ok(0);
        }
        let start = self.memory.allocate(bytes, context, call);
        if self.submit(stream, Work::Allocate { start })?.is_none() {
            self.memory.give_to_graph(start);
        }
        Ok(start)
    }

    /// `cuMemFreeAsync`.
    pub(crate) fn free_async(&mut self, start: u64, stream: StreamId, call: &str) -> Outcome {
        if start == 0 {
            return Ok(());
        }
        self.leave(start, call)?;
        self.submit(stream, Work::Free { start })?;
        Ok(())
    }

    /// The program gives up an allocation; a second time is a finding.
    pub(crate) fn leave(&mut self, start: u64, call: &str) -> Outcome {
        let Err(misuse) = self.memory.leave(start).map(drop) else { return Ok(()) };
        let check = if misuse.check() == "use-after-free" { "double-free" } else { "bad-free" };
        self.log.finding(check, &format!("{call} of {start:#x}: {misuse}"));
        Err(Status::ERROR_INVALID_VALUE)
    }

    /// Refuses a range that is not inside one living allocation.
    fn check_range(&mut self, address: u64, bytes: usize, call: &str) -> Outcome {
        match self.memory.find(address, bytes) {
            Ok(_) => Ok(()),
            Err(misuse) => Err(self.refuse(&format!("{call} at {address:#x}, {bytes} bytes"), &misuse)),
        }
    }

    /// A synchronous copy is a call that a capture cannot hold.
    fn check_capture(&mut self, returns: Returns) -> Outcome {
        if returns == Returns::Done { self.captures.refuse_unsafe_call() } else { Ok(()) }
    }

    /// Host to device. Pageable memory is taken now; page-locked memory is read when the copy runs.
    pub(crate) fn upload(
        &mut self,
        to: u64,
        from: usize,
        bytes: usize,
        stream: StreamId,
        returns: Returns,
        call: &str,
    ) -> Outcome<Option<Clock>> {
        self.check_capture(returns)?;
        if bytes == 0 {
            return Ok(None);
        }
        self.check_range(to, bytes, call)?;
        let captured = self.captures.id(stream).is_some();
        let from = if captured {
            HostBytes::Late { address: from, bytes, digest: None }
        } else {
            let now = snapshot(self.host, from, bytes);
            match self.pinned.holds(from, bytes) {
                true => HostBytes::Late { address: from, bytes, digest: Some(digest(&now)) },
                false => HostBytes::Staged(now.into()),
            }
        };
        let point = self.submit(stream, Work::Upload { to, from })?;
        Ok(point.filter(|_| returns == Returns::Done))
    }

    /// Device to host. A copy to pageable memory is done when the call returns, also an asynchronous one.
    pub(crate) fn download(
        &mut self,
        to: usize,
        from: u64,
        bytes: usize,
        stream: StreamId,
        returns: Returns,
        call: &str,
    ) -> Outcome<Option<Clock>> {
        self.check_capture(returns)?;
        if bytes == 0 {
            return Ok(None);
        }
        self.check_range(from, bytes, call)?;
        let waits = returns == Returns::Done || !self.pinned.holds(to, bytes);
        let point = self.submit(stream, Work::Download { to, from, bytes })?;
        Ok(point.filter(|_| waits))
    }

    /// Device to device, also between devices. Like the driver's, it returns early.
    pub(crate) fn copy(
        &mut self,
        to: u64,
        from: u64,
        bytes: usize,
        stream: StreamId,
        returns: Returns,
        call: &str,
    ) -> Outcome {
        self.check_capture(returns)?;
        if bytes > 0 {
            self.check_range(to, bytes, call)?;
            self.check_range(from, bytes, call)?;
            self.submit(stream, Work::Copy { to, from, bytes })?;
        }
        Ok(())
    }

    /// Fills with a pattern of 1, 2 or 4 bytes, to whose size the address is aligned. It returns early.
    pub(crate) fn fill(
        &mut self,
        to: u64,
        pattern: &[u8],
        count: usize,
        stream: StreamId,
        returns: Returns,
        call: &str,
    ) -> Outcome {
        self.check_capture(returns)?;
        if !to.is_multiple_of(pattern.len() as u64) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let bytes = pattern.len().checked_mul(count).ok_or(Status::ERROR_INVALID_VALUE)?;
        if bytes > 0 {
            self.check_range(to, bytes, call)?;
            self.submit(stream, Work::Fill { to, pattern: pattern.to_vec(), count })?;
        }
        Ok(())
    }

    /// Page-locked memory of the driver, filled with ones.
    pub(crate) fn host_allocate(&mut self, bytes: usize) -> Outcome<usize> {
        self.captures.refuse_unsafe_call()?;
        let context = self.contexts.healthy()?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let address = self.host.allocate(bytes).ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        self.pinned.insert(address, bytes, context, Origin::Allocated)?;
        Ok(address)
    }

    /// Page-locks memory of the program.
    pub(crate) fn host_register(&mut self, address: usize, bytes: usize) -> Outcome {
        let context = self.contexts.healthy()?;
        if bytes == 0 || address == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.pinned.insert(address, bytes, context, Origin::Registered)
    }

    /// Queued copies still use page-locked memory that the program gives up: a finding. Returns the point
    /// behind them, which the caller must wait for before the memory goes.
    pub(crate) fn host_leave(&mut self, address: usize, origin: Origin, call: &str) -> Outcome<Clock> {
        let range = self.pinned.remove(address, origin)?;
        let mut point = Clock::default();
        let mut users = Vec::new();
        for (clock, work) in self.streams.pending() {
            if work.uses_host(address, range.bytes) {
                point.join(clock);
                users.push(work.name());
            }
        }
        for user in users {
            let text =
                format!("{call} of {} bytes of page-locked memory that a queued {user} uses", range.bytes);
            self.log.finding("pinned-free", &text);
        }
        self.pinned.insert(address, range.bytes, range.context, origin)?;
        Ok(point)
    }

    /// Ends page-locked memory of the driver that no queued copy uses.
    pub(crate) fn host_release(&mut self, address: usize) -> Outcome {
        let range = self.pinned.remove(address, Origin::Allocated)?;
        self.host.free(address, range.bytes);
        Ok(())
    }
}
