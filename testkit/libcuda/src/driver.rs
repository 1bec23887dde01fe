//! The state of the driver, and what concerns contexts and streams as a whole.

use std::sync::Arc;

use crate::capture::Captures;
use crate::config::Config;
use crate::context::{self, Contexts};
use crate::devices::Device;
use crate::events::Event;
use crate::graphs::{Executable, Graph};
use crate::handles::Handles;
use crate::host::Host;
use crate::memory::{DeviceMemory, Misuse};
use crate::modules::{Function, Module};
use crate::nccl::Rank;
use crate::pinned::Pinned;
use crate::report::Log;
use crate::status::{Outcome, Status};
use crate::streams::{Clock, Kind, StreamId, Streams};
use crate::work::Work;

/// Everything behind the exported functions. One lock guards it.
pub(crate) struct Driver {
    pub(crate) config: Config,
    pub(crate) initialised: bool,
    pub(crate) host: &'static dyn Host,
    pub(crate) contexts: Contexts,
    pub(crate) streams: Streams<Work>,
    pub(crate) events: Handles<Event>,
    pub(crate) memory: DeviceMemory,
    pub(crate) pinned: Pinned,
    pub(crate) modules: Handles<Module>,
    pub(crate) functions: Handles<Function>,
    pub(crate) captures: Captures,
    pub(crate) graphs: Handles<Graph>,
    pub(crate) executables: Handles<Executable>,
    pub(crate) ranks: Handles<Arc<Rank>>,
    pub(crate) log: Log,
}

impl Driver {
    pub(crate) fn new(config: Config, host: &'static dyn Host) -> Self {
        Self {
            config,
            initialised: false,
            host,
            contexts: Contexts::new(),
            streams: Streams::new(config.seed),
            events: Handles::new(0x2000_0000),
            memory: DeviceMemory::new(),
            pinned: Pinned::default(),
            modules: Handles::new(0x3000_0000),
            functions: Handles::new(0x4000_0000),
            captures: Captures::default(),
            graphs: Handles::new(0x6000_0000),
            executables: Handles::new(0x7000_0000),
            ranks: Handles::new(0x9000_0000),
            log: Log::default(),
        }
    }

    /// The device of an ordinal.
    pub(crate) fn device(&self, ordinal: i32) -> Outcome<&'static Device> {
        if !self.initialised {
            return Err(Status::ERROR_NOT_INITIALIZED);
        }
        let exists = u32::try_from(ordinal).is_ok_and(|ordinal| ordinal < self.config.count);
        if exists { Ok(self.config.device) } else { Err(Status::ERROR_INVALID_DEVICE) }
    }

    pub(crate) fn context_create(&mut self, ordinal: i32, primary: bool) -> Outcome<usize> {
        self.device(ordinal)?;
        let streams = &mut self.streams;
        Ok(self.contexts.create(ordinal, primary, |context| streams.create(context, Kind::Legacy)))
    }

    pub(crate) fn primary_retain(&mut self, ordinal: i32) -> Outcome<usize> {
        let handle = match self.contexts.primary(ordinal) {
            Some(handle) => handle,
            None => self.context_create(ordinal, true)?,
        };
        self.contexts.retain_primary(ordinal, handle);
        Ok(handle)
    }

    /// Ends a context whose work is done: reports what it leaks, frees what it has, closes its streams.
    pub(crate) fn context_destroy(&mut self, handle: usize) -> Outcome {
        self.report_leaks(Some(handle));
        self.contexts.remove(handle)?;
        self.streams.discard(handle);
        let streams: Vec<StreamId> = self.streams.of_context(handle).collect();
        for stream in streams {
            self.streams.close(stream);
        }
        self.memory.release_context(handle);
        let pinned: Vec<_> = self.pinned.allocated(Some(handle)).collect();
        for (address, _) in pinned {
            self.host_release(address)?;
        }
        self.events.retain(|event| event.context != handle);
        self.modules.retain(|module| module.context != handle);
        self.functions.retain(|function| function.context != handle);
        self.executables.retain(|executable| executable.context != handle);
        if context::current() == Some(handle) {
            context::set_current(None);
        }
        Ok(())
    }

    /// Notes what the program did not free in a context, or in all. A context with a fault could not free
    /// anything.
    pub(crate) fn report_leaks(&mut self, context: Option<usize>) {
        let faulty = |handle: usize| self.contexts.get(handle).is_ok_and(|context| context.fault.is_some());
        let device = self.memory.live(context).filter(|a| !faulty(a.context));
        let device = device.map(|a| format!("{} was never freed", a.label));
        let host = self.pinned.allocated(context).filter(|(_, range)| !faulty(range.context));
        let host =
            host.map(|(_, range)| format!("page-locked memory of {} bytes was never freed", range.bytes));
        let leaks: Vec<String> = device.chain(host).collect();
        for leak in leaks {
            self.log.finding("leak", &leak);
        }
    }

    /// The stream of a handle: null and 1 are the legacy stream, 2 the thread's default stream.
    pub(crate) fn stream(&mut self, handle: usize) -> Outcome<StreamId> {
        match handle {
            0 | 1 => {
                let context = self.contexts.healthy()?;
                Ok(self.contexts.get(context)?.legacy)
            }
            2 => {
                let context = self.contexts.healthy()?;
                let streams = &mut self.streams;
                let per_thread = &mut self.contexts.get_mut(context)?.per_thread;
                let made = per_thread.entry(std::thread::current().id());
                Ok(*made.or_insert_with(|| streams.create(context, Kind::Blocking)))
            }
            _ => {
                let stream = StreamId(handle);
                let context = self.streams.context(stream).ok_or(Status::ERROR_INVALID_HANDLE)?;
                self.contexts.get(context)?.fault.map_or(Ok(stream), Err)
            }
        }
    }

    pub(crate) fn stream_create(&mut self, flags: u32) -> Outcome<StreamId> {
        let kind = match flags {
            0 => Kind::Blocking,
            1 => Kind::NonBlocking,
            _ => return Err(Status::ERROR_INVALID_VALUE),
        };
        let context = self.contexts.healthy()?;
        Ok(self.streams.create(context, kind))
    }

    /// Queues work, or adds it to the graph that the stream captures (then there is no point to wait for).
    pub(crate) fn submit(&mut self, stream: StreamId, work: Work) -> Outcome<Option<Clock>> {
        let Some(work) = self.captures.add(stream, work)? else { return Ok(None) };
        if self.streams.kind(stream) == Kind::Legacy {
            self.refuse_implicit_wait(stream)?;
        }
        Ok(Some(self.streams.issue(stream, work)))
    }

    /// The legacy stream would wait for the blocking streams of its context; a capturing one cannot be waited
    /// for.
    fn refuse_implicit_wait(&mut self, legacy: StreamId) -> Outcome {
        let context = self.streams.context(legacy).ok_or(Status::ERROR_INVALID_HANDLE)?;
        let streams = &self.streams;
        let blocking = streams.of_context(context).filter(|&id| streams.kind(id) == Kind::Blocking);
        self.captures.refuse_any(blocking, Status::ERROR_STREAM_CAPTURE_IMPLICIT)
    }

    /// The point behind all work of the current context, for a wait of the host.
    pub(crate) fn context_point(&mut self) -> Outcome<(usize, Clock)> {
        let context = self.contexts.healthy()?;
        let all = self.streams.of_context(context);
        self.captures.refuse_any(all, Status::ERROR_STREAM_CAPTURE_UNSUPPORTED)?;
        Ok((context, self.streams.context_tail(context)))
    }

    /// The point behind all work of a stream, for a wait or a query of the host.
    pub(crate) fn stream_point(&mut self, stream: StreamId) -> Outcome<Clock> {
        self.captures.refuse_wait(stream)?;
        if self.streams.kind(stream) == Kind::Legacy {
            self.refuse_implicit_wait(stream)?;
        }
        Ok(self.streams.tail(stream))
    }

    /// A wrong address in a call: noted, then refused as the driver refuses it.
    pub(crate) fn refuse(&mut self, what: &str, misuse: &Misuse) -> Status {
        self.log.finding(misuse.check(), &format!("{what}: {misuse}"));
        Status::ERROR_INVALID_VALUE
    }
}
