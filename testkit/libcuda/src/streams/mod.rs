//! Streams as lazy queues, run in the worst legal order.
//!
//! ```text
//! issue ──> queue of a stream ──(only when a wait needs it)──> start_next, the caller executes, finish
//! ```
//!
//! Nothing runs when it is issued. A wait names a point (a [`Clock`]); what lies before it runs, and nothing
//! else. Of the operations that may run next, the one issued last goes first, so an operation that does not
//! wait for an earlier one overtakes it whenever the rules of streams allow. A seed replaces that choice by a
//! random one.
//!
//! The rules are those of the driver's documentation: operations of one stream run in order; an event orders
//! what follows its wait behind what preceded its record; the legacy stream and the blocking streams of its
//! context wait for each other; what a host thread has waited for lies before all that is issued later.

mod clock;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use clock::{Clock, StreamId};

/// How a stream stands to the legacy stream of its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The stream behind the null handle.
    Legacy,
    /// Made without flags, or a thread's default stream.
    Blocking,
    NonBlocking,
}

#[derive(Debug)]
struct Operation<W> {
    /// Over all streams, in the order of issue.
    number: u64,
    clock: Clock,
    work: W,
}

#[derive(Debug)]
struct Stream<W> {
    context: usize,
    kind: Kind,
    /// The point behind everything issued here and everything waited for.
    clock: Clock,
    issued: u64,
    done: u64,
    running: bool,
    /// The program may still name it.
    open: bool,
    pending: VecDeque<Operation<W>>,
}

/// An operation that was taken from its queue and must be executed, then [`Streams::finish`]ed.
#[derive(Debug)]
pub(crate) struct Started<W> {
    pub(crate) stream: StreamId,
    pub(crate) context: usize,
    /// Its own place in the stream is the clock's entry of the stream.
    pub(crate) clock: Clock,
    pub(crate) work: W,
}

/// All streams of the process. `W` is what an operation does; this module does not look into it.
#[derive(Debug)]
pub(crate) struct Streams<W> {
    streams: BTreeMap<StreamId, Stream<W>>,
    /// What the host has waited for. One clock for all threads: how they order each other is not visible
    /// here, and taking them as ordered raises no false alarm.
    host: Clock,
    issued: u64,
    seed: Option<u64>,
    next_id: usize,
}

impl<W> Streams<W> {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self { streams: BTreeMap::new(), host: Clock::default(), issued: 0, seed, next_id: 0x5000_0000 }
    }

    pub(crate) fn create(&mut self, context: usize, kind: Kind) -> StreamId {
        let id = StreamId(self.next_id);
        self.next_id += 16;
        let (clock, pending) = (Clock::default(), VecDeque::new());
        let stream = Stream { context, kind, clock, issued: 0, done: 0, running: false, open: true, pending };
        self.streams.insert(id, stream);
        id
    }

    /// The program destroyed the stream; what is queued still runs when something needs it.
    pub(crate) fn close(&mut self, id: StreamId) {
        self.stream_mut(id).open = false;
    }

    /// The context of a stream that the program may name.
    pub(crate) fn context(&self, id: StreamId) -> Option<usize> {
        self.streams.get(&id).filter(|stream| stream.open).map(|stream| stream.context)
    }

    /// How an existing stream stands to the legacy stream.
    pub(crate) fn kind(&self, id: StreamId) -> Kind {
        self.stream(id).kind
    }

    /// The streams of a context that the program may name.
    pub(crate) fn of_context(&self, context: usize) -> impl Iterator<Item = StreamId> {
        self.streams.iter().filter(move |(_, s)| s.open && s.context == context).map(|(&id, _)| id)
    }

    fn stream(&self, id: StreamId) -> &Stream<W> {
        &self.streams[&id]
    }

    fn stream_mut(&mut self, id: StreamId) -> &mut Stream<W> {
        self.streams.get_mut(&id).expect("streams are never removed")
    }

    /// The point behind everything that a new operation of the stream would wait for.
    pub(crate) fn tail(&self, id: StreamId) -> Clock {
        let stream = self.stream(id);
        let mut clock = stream.clock.clone();
        for other in self.streams.values().filter(|other| other.context == stream.context) {
            match (stream.kind, other.kind) {
                (Kind::Legacy, Kind::Blocking) | (Kind::Blocking, Kind::Legacy) => clock.join(&other.clock),
                _ => {}
            }
        }
        clock
    }

    /// The point behind everything issued to the context.
    pub(crate) fn context_tail(&self, context: usize) -> Clock {
        let mut clock = Clock::default();
        for stream in self.streams.values().filter(|stream| stream.context == context) {
            clock.join(&stream.clock);
        }
        clock
    }

    /// Queues work; returns the point behind it.
    pub(crate) fn issue(&mut self, id: StreamId, work: W) -> Clock {
        let mut clock = self.tail(id);
        clock.join(&self.host);
        self.issued += 1;
        let number = self.issued;
        let stream = self.stream_mut(id);
        stream.issued += 1;
        clock.advance(id, stream.issued);
        stream.clock = clock.clone();
        stream.pending.push_back(Operation { number, clock: clock.clone(), work });
        clock
    }

    /// Makes everything issued to the stream from now on wait for a point.
    pub(crate) fn wait(&mut self, id: StreamId, point: &Clock) {
        self.stream_mut(id).clock.join(point);
    }

    /// Whether everything before the point is done.
    pub(crate) fn reached(&self, point: &Clock) -> bool {
        point.iter().all(|(id, count)| self.stream(id).done >= count)
    }

    /// Takes the operation that runs next on the way to `point`; `None` if all are done, or wait for one that
    /// runs.
    pub(crate) fn start_next(&mut self, point: &Clock) -> Option<Started<W>> {
        let mut ready: Vec<(u64, StreamId)> = point
            .iter()
            .filter(|&(id, count)| self.stream(id).done < count && !self.stream(id).running)
            .filter_map(|(id, _)| {
                let head = self.stream(id).pending.front()?;
                let free =
                    head.clock.iter().all(|(other, count)| other == id || self.stream(other).done >= count);
                free.then_some((head.number, id))
            })
            .collect();
        ready.sort_unstable();
        let choice = match &mut self.seed {
            _ if ready.is_empty() => return None,
            None => ready.len() - 1,
            Some(state) => (splitmix(state) % ready.len() as u64) as usize,
        };
        let id = ready[choice].1;
        let stream = self.stream_mut(id);
        let Operation { clock, work, .. } = stream.pending.pop_front()?;
        stream.running = true;
        Some(Started { stream: id, context: stream.context, clock, work })
    }

    /// The operation that was started in the stream has been executed.
    pub(crate) fn finish(&mut self, id: StreamId) {
        let stream = self.stream_mut(id);
        stream.running = false;
        stream.done += 1;
    }

    /// The host has waited for a point: what is issued later, anywhere, lies behind it.
    pub(crate) fn host_waited(&mut self, point: &Clock) {
        self.host.join(point);
    }

    /// Drops what is queued in a context, as a context that failed does; returns the dropped work.
    pub(crate) fn discard(&mut self, context: usize) -> Vec<W> {
        let mut dropped = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.context == context) {
            stream.done += stream.pending.len() as u64;
            dropped.extend(stream.pending.drain(..).map(|operation| operation.work));
        }
        dropped
    }

    /// Every queued operation, with the point behind it.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (&Clock, &W)> {
        self.streams
            .values()
            .flat_map(|s| s.pending.iter().map(|operation| (&operation.clock, &operation.work)))
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
