//! What an operation does when it runs.

use std::sync::Arc;
use std::time::Instant;

use ptx::Check;

use crate::driver::Driver;
use crate::host::{digest, snapshot};
use crate::launch::KernelLaunch;
use crate::memory::{Access, Actor};
use crate::nccl::{Answer, Call, Failure};
use crate::status::{Outcome, Status};
use crate::streams::Started;
use crate::work::{HostBytes, Work};

/// The findings of a kernel that are faults on hardware, and the error that then sticks to the context.
const FAULTS: [(Check, Status); 4] = [
    (Check::OutOfBounds, Status::ERROR_ILLEGAL_ADDRESS),
    (Check::Misaligned, Status::ERROR_MISALIGNED_ADDRESS),
    (Check::Deadlock, Status::ERROR_LAUNCH_TIMEOUT),
    (Check::Trap, Status::ERROR_LAUNCH_FAILED),
];

impl Driver {
    /// Executes an operation that was taken from its queue. A fault sticks to its context and drops what is
    /// queued.
    pub(crate) fn execute(&mut self, started: &Started<Work>) {
        let name = started.work.name();
        let actor = Actor { stream: started.stream, clock: &started.clock, name: &name };
        if let Err(fault) = self.execute_as(&started.work, &actor) {
            self.fail(started.context, fault);
        }
    }

    /// An error sticks to a context, whose queued work is dropped.
    pub(crate) fn fail(&mut self, context: usize, fault: Status) {
        if let Ok(context) = self.contexts.get_mut(context) {
            context.fault.get_or_insert(fault);
        }
        for work in self.streams.discard(context) {
            if let Work::Free { start } = work {
                self.memory.release(start);
            }
        }
    }

    fn execute_as(&mut self, work: &Work, actor: &Actor<'_>) -> Outcome {
        match work {
            Work::Stamp { event, record } => {
                if let Ok(event) = self.events.get_mut(*event)
                    && event.records == *record
                {
                    event.time = Some(Instant::now());
                }
            }
            Work::Upload { to, from } => {
                let bytes = self.host_bytes(from, actor);
                self.touch(actor, *to, bytes.len(), true)?;
                self.memory.bytes.write(*to, &bytes).map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)?;
            }
            Work::Download { to, from, bytes } => {
                let copy = self.device_bytes(*from, *bytes, actor)?;
                self.host.write(*to, &copy);
            }
            Work::Copy { to, from, bytes } => {
                let copy = self.device_bytes(*from, *bytes, actor)?;
                self.touch(actor, *to, *bytes, true)?;
                self.memory.bytes.write(*to, &copy).map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)?;
            }
            Work::Fill { to, pattern, count } => {
                self.touch(actor, *to, pattern.len() * count, true)?;
                let bytes = pattern.repeat(*count);
                self.memory.bytes.write(*to, &bytes).map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)?;
            }
            Work::Launch(launch) => self.run_kernel(launch, actor)?,
            Work::Allocate { start } => self.touch_whole(actor, *start),
            Work::Free { start } => {
                self.touch_whole(actor, *start);
                self.memory.release(*start);
            }
            Work::Post(call) => self.post(call, actor)?,
            Work::HostCall { .. } | Work::Complete(_) => unreachable!("executed with the lock released"),
        }
        Ok(())
    }

    /// The bytes of a copy to the device. Page-locked memory that changed since the copy was issued is a
    /// finding.
    fn host_bytes(&mut self, from: &HostBytes, actor: &Actor<'_>) -> Arc<[u8]> {
        match from {
            HostBytes::Staged(bytes) => Arc::clone(bytes),
            HostBytes::Late { address, bytes, digest: before } => {
                let now = snapshot(self.host, *address, *bytes);
                if before.is_some_and(|before| before != digest(&now)) {
                    let text =
                        format!("page-locked memory changed before a queued {} had read it", actor.name);
                    self.log.finding("host-race", &text);
                }
                now.into()
            }
        }
    }

    fn device_bytes(&mut self, from: u64, bytes: usize, actor: &Actor<'_>) -> Outcome<Vec<u8>> {
        self.touch(actor, from, bytes, false)?;
        let mut copy = vec![0; bytes];
        self.memory.bytes.read(from, &mut copy).map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)?;
        Ok(copy)
    }

    /// Notes an access of a copy or fill; the memory may have been freed since it was issued.
    fn touch(&mut self, actor: &Actor<'_>, address: u64, bytes: usize, writes: bool) -> Outcome {
        match self.memory.find_running(address, bytes) {
            Ok(found) => {
                let start = found.start;
                self.note(actor, start, Access { range: address..address + bytes as u64, writes });
                Ok(())
            }
            Err(misuse) => {
                self.refuse(actor.name, &misuse);
                Err(Status::ERROR_ILLEGAL_ADDRESS)
            }
        }
    }

    /// An allocation or a free concerns every byte.
    fn touch_whole(&mut self, actor: &Actor<'_>, start: u64) {
        if let Ok(found) = self.memory.find_running(start, 0) {
            let range = start..start + found.bytes as u64;
            self.note(actor, start, Access { range, writes: true });
        }
    }

    fn note(&mut self, actor: &Actor<'_>, allocation: u64, access: Access) {
        let Some(rival) = self.memory.accesses.note(allocation, access, actor) else { return };
        let label = self.memory.holder(allocation).map_or("memory", |found| &found.label);
        let text = format!("{label}: nothing orders {} and {rival}, in another stream", actor.name);
        self.log.finding("stream-race", &text);
    }

    /// Reads this rank's part of an NCCL operation and gives it away.
    fn post(&mut self, call: &Call, actor: &Actor<'_>) -> Outcome {
        let bytes = match call.sent_bytes() {
            0 => Vec::new(),
            count => self.device_bytes(call.send, count, actor)?,
        };
        call.post(&bytes).map_err(|error| {
            self.log.finding("nccl", &format!("{}: {error}", actor.name));
            Status::ERROR_LAUNCH_FAILED
        })
    }

    /// Writes what this rank gets of an NCCL operation. A failure is a fault of the context, where hardware
    /// would hang.
    pub(crate) fn complete(&mut self, started: &Started<Work>, call: &Call, answer: Answer) {
        let name = call.name();
        let actor = Actor { stream: started.stream, clock: &started.clock, name: &name };
        let outcome = match answer {
            Ok(bytes) if bytes.is_empty() || call.received_bytes() == 0 => Ok(()),
            Ok(bytes) => self.touch(&actor, call.receive, bytes.len(), true).and_then(|()| {
                self.memory.bytes.write(call.receive, &bytes).map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)
            }),
            Err(failure) => {
                let (check, text, status) = match failure {
                    Failure::Mismatch(text) => ("nccl-mismatch", text, Status::ERROR_LAUNCH_FAILED),
                    Failure::Missing(text) => ("nccl-timeout", text, Status::ERROR_LAUNCH_TIMEOUT),
                };
                self.log.finding(check, &format!("{name}: {text}"));
                Err(status)
            }
        };
        if let Err(fault) = outcome {
            self.fail(started.context, fault);
        }
    }

    fn run_kernel(&mut self, launch: &KernelLaunch, actor: &Actor<'_>) -> Outcome {
        let options = ptx::Options { threads: self.config.threads.unwrap_or(0), seed: self.config.seed };
        let KernelLaunch { module, grid, block, dynamic_shared, parameters, .. } = launch;
        let (grid, block, dynamic_shared) = (*grid, *block, *dynamic_shared);
        let job = ptx::Launch { kernel: launch.kernel(), grid, block, dynamic_shared, parameters };
        let report = ptx::launch(module, &job, &self.memory.bytes, &options);
        self.log.launch(launch, &report);
        self.note_kernel(&report.counters, actor);
        let fault = FAULTS.iter().find(|(check, _)| report.findings.iter().any(|f| f.check == *check));
        let Some(&(check, status)) = fault else { return Ok(()) };
        if check == Check::OutOfBounds {
            self.name_freed_arguments(launch);
        }
        Err(status)
    }

    /// A kernel that got the address of freed memory and went out of bounds most likely used it.
    fn name_freed_arguments(&mut self, launch: &KernelLaunch) {
        let freed = |&pointer: &u64| {
            let holder = self.memory.holder(pointer)?;
            self.memory.is_freed(holder.start).then(|| holder.label.clone())
        };
        let labels: Vec<String> = launch.pointers().filter_map(|pointer| freed(&pointer)).collect();
        for label in labels {
            let text = format!(
                "kernel {} was given the address of {label}, which was freed before",
                launch.kernel().name
            );
            self.log.finding("use-after-free", &text);
        }
    }

    /// Notes the buffers that a kernel used, each as a whole.
    fn note_kernel(&mut self, counters: &ptx::count::Summary, actor: &Actor<'_>) {
        let to_global =
            |mnemonic: &String| mnemonic.contains("async.bulk") && mnemonic.contains(".global.shared");
        let bulk_writes = counters.mnemonics.keys().any(to_global);
        for (label, traffic) in &counters.buffers {
            let Some(found) = self.memory.labelled(label) else { continue };
            let (start, range) = (found.start, found.start..found.start + found.bytes as u64);
            let stores = traffic.stores.requests + traffic.atomics.requests;
            let writes = stores > 0 || (bulk_writes && traffic.bulk.requests > 0);
            self.note(actor, start, Access { range, writes });
        }
    }
}
