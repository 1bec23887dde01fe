//! Capture: a stream whose work becomes the nodes of a graph instead of running.
//!
//! An event recorded in a capturing stream names a place in the graph; a stream that waits for it joins the
//! capture. The first stream ends it, when all others have been joined back. An illegal call invalidates the
//! capture, which then can only be ended.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::ThreadId;

use crate::status::{Outcome, Status};
use crate::streams::StreamId;
use crate::work::Work;

/// `CUstreamCaptureMode`: whose unsafe calls invalidate the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Those of every thread.
    Global,
    /// Those of the capturing thread.
    ThreadLocal,
    /// Nobody's.
    Relaxed,
}

/// An operation of a graph and the operations that it runs after, by index.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) work: Work,
    pub(crate) after: BTreeSet<usize>,
}

/// A place in a graph under capture: behind these nodes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    capture: u64,
    behind: BTreeSet<usize>,
}

#[derive(Debug)]
struct Capture {
    origin: StreamId,
    mode: Mode,
    thread: ThreadId,
    nodes: Vec<Node>,
    invalid: bool,
}

/// A stream in a capture: the nodes that its next one runs after.
#[derive(Clone, Debug)]
struct Member {
    capture: u64,
    behind: BTreeSet<usize>,
}

/// All captures under way.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    captures: BTreeMap<u64, Capture>,
    members: BTreeMap<StreamId, Member>,
    begun: u64,
}

/// `CUstreamCaptureStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    None = 0,
    Active = 1,
    Invalidated = 2,
}

impl Captures {
    pub(crate) fn begin(&mut self, origin: StreamId, mode: Mode) -> Outcome {
        if self.members.contains_key(&origin) {
            return Err(Status::ERROR_ILLEGAL_STATE);
        }
        self.begun += 1;
        let capture = self.begun;
        let thread = std::thread::current().id();
        self.captures.insert(capture, Capture { origin, mode, thread, nodes: Vec::new(), invalid: false });
        self.members.insert(origin, Member { capture, behind: BTreeSet::new() });
        Ok(())
    }

    /// Ends the capture that began in the stream and returns its nodes, in an order that respects their
    /// dependencies.
    pub(crate) fn end(&mut self, stream: StreamId) -> Outcome<Vec<Node>> {
        let id = self.members.get(&stream).ok_or(Status::ERROR_ILLEGAL_STATE)?.capture;
        let capture = &self.captures[&id];
        if capture.origin != stream {
            return Err(Status::ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            return Err(Status::ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.remove(&id).expect("its member says so");
        let joined = ancestors(&capture.nodes, &self.members[&stream].behind);
        self.members.retain(|_, member| member.capture != id);
        if capture.invalid {
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        if joined.len() < capture.nodes.len() {
            return Err(Status::ERROR_STREAM_CAPTURE_UNJOINED);
        }
        Ok(capture.nodes)
    }

    pub(crate) fn progress(&self, stream: StreamId) -> Progress {
        match self.members.get(&stream) {
            None => Progress::None,
            Some(member) if self.captures[&member.capture].invalid => Progress::Invalidated,
            Some(_) => Progress::Active,
        }
    }

    /// The number of the capture that the stream is in.
    pub(crate) fn id(&self, stream: StreamId) -> Option<u64> {
        self.members.get(&stream).map(|member| member.capture)
    }

    /// Where the stream stands, if it is capturing.
    pub(crate) fn place(&self, stream: StreamId) -> Outcome<Option<Place>> {
        let Some(Member { capture, behind }) = self.members.get(&stream).cloned() else { return Ok(None) };
        if self.captures[&capture].invalid {
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        Ok(Some(Place { capture, behind }))
    }

    /// Adds work behind everything captured in the stream; gives it back if the stream does not capture.
    pub(crate) fn add(&mut self, stream: StreamId, work: Work) -> Outcome<Option<Work>> {
        let Some(place) = self.place(stream)? else { return Ok(Some(work)) };
        let nodes = &mut self.captures.get_mut(&place.capture).expect("its member says so").nodes;
        nodes.push(Node { work, after: place.behind });
        let last = nodes.len() - 1;
        self.members.get_mut(&stream).expect("it has a place").behind = BTreeSet::from([last]);
        Ok(None)
    }

    /// The stream waits for a captured event: it joins the capture, or adds to what it waits for.
    pub(crate) fn join(&mut self, stream: StreamId, place: &Place) -> Outcome {
        match self.captures.get(&place.capture) {
            None => return Err(Status::ERROR_INVALID_HANDLE),
            Some(capture) if capture.invalid => return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED),
            Some(_) => {}
        }
        let fresh = Member { capture: place.capture, behind: BTreeSet::new() };
        let member = self.members.entry(stream).or_insert(fresh);
        if member.capture != place.capture {
            let other = member.capture;
            self.invalidate(place.capture);
            self.invalidate(other);
            return Err(Status::ERROR_STREAM_CAPTURE_MERGE);
        }
        member.behind.extend(&place.behind);
        Ok(())
    }

    /// A capturing stream may not wait for work outside its capture.
    pub(crate) fn refuse_outside_work(&mut self, stream: StreamId) -> Outcome {
        let Some(place) = self.place(stream)? else { return Ok(()) };
        self.invalidate(place.capture);
        Err(Status::ERROR_STREAM_CAPTURE_ISOLATION)
    }

    /// The host may not wait for, or ask about, a capturing stream.
    pub(crate) fn refuse_wait(&mut self, stream: StreamId) -> Outcome {
        let Some(place) = self.place(stream)? else { return Ok(()) };
        self.invalidate(place.capture);
        Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED)
    }

    /// Calls that a capture cannot record and that may depend on work (`cuMemAlloc`, synchronous copies,
    /// queries).
    pub(crate) fn refuse_unsafe_call(&mut self) -> Outcome {
        let here = std::thread::current().id();
        let mut refused = false;
        for capture in self.captures.values_mut() {
            let concerned = match capture.mode {
                Mode::Global => true,
                Mode::ThreadLocal => capture.thread == here,
                Mode::Relaxed => false,
            };
            capture.invalid |= concerned;
            refused |= concerned;
        }
        if refused { Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }

    /// A call that would wait for every one of these streams: illegal if one of them captures.
    pub(crate) fn refuse_any(&mut self, streams: impl Iterator<Item = StreamId>, status: Status) -> Outcome {
        let captures: Vec<u64> = streams.filter_map(|stream| self.id(stream)).collect();
        for &capture in &captures {
            self.invalidate(capture);
        }
        if captures.is_empty() { Ok(()) } else { Err(status) }
    }

    fn invalidate(&mut self, capture: u64) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.invalid = true;
        }
    }
}

/// These nodes and all that they run after, directly or not.
fn ancestors(nodes: &[Node], of: &BTreeSet<usize>) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), of.iter().copied().collect::<Vec<_>>());
    while let Some(node) = open.pop() {
        if found.insert(node) {
            open.extend(&nodes[node].after);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    fn work() -> Work {
        Work::Fill { to: 0, pattern: vec![0], count: 1 }
    }

    #[test]
    fn a_fork_and_a_join_become_dependencies() {
        let mut captures = Captures::default();
        captures.begin(A, Mode::Global).expect("idle");
        captures.add(A, work()).expect("captured");
        captures.join(B, &captures.place(A).expect("valid").expect("captures")).expect("joins");
        captures.add(B, work()).expect("captured");
        captures.add(A, work()).expect("captured");
        captures.join(A, &captures.place(B).expect("valid").expect("captures")).expect("joins back");
        captures.add(A, work()).expect("captured");
        let nodes = captures.end(A).expect("complete");
        let after: Vec<Vec<usize>> = nodes.iter().map(|node| node.after.iter().copied().collect()).collect();
        assert_eq!(after, [vec![], vec![0], vec![0], vec![1, 2]]);
        assert_eq!(captures.progress(B), Progress::None);
    }

    #[test]
    fn an_unjoined_fork_is_refused() {
        let mut captures = Captures::default();
        captures.begin(A, Mode::Global).expect("idle");
        captures.join(B, &captures.place(A).expect("valid").expect("captures")).expect("joins");
        captures.add(B, work()).expect("captured");
        assert_eq!(captures.end(B).err(), Some(Status::ERROR_STREAM_CAPTURE_UNMATCHED));
        assert_eq!(captures.end(A).err(), Some(Status::ERROR_STREAM_CAPTURE_UNJOINED));
        assert_eq!(captures.end(A).err(), Some(Status::ERROR_ILLEGAL_STATE));
    }

    #[test]
    fn illegal_calls_invalidate() {
        let mut captures = Captures::default();
        captures.begin(A, Mode::Global).expect("idle");
        assert_eq!(captures.refuse_wait(A), Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED));
        assert_eq!(captures.progress(A), Progress::Invalidated);
        assert_eq!(captures.add(A, work()).err(), Some(Status::ERROR_STREAM_CAPTURE_INVALIDATED));
        assert_eq!(captures.end(A).err(), Some(Status::ERROR_STREAM_CAPTURE_INVALIDATED));
        captures.begin(A, Mode::Relaxed).expect("idle again");
        assert_eq!(captures.refuse_unsafe_call(), Ok(()));
        assert_eq!(captures.refuse_outside_work(A), Err(Status::ERROR_STREAM_CAPTURE_ISOLATION));
        captures.begin(B, Mode::ThreadLocal).expect("idle");
        assert_eq!(captures.refuse_unsafe_call(), Err(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED));
        assert_eq!(captures.end(A).err(), Some(Status::ERROR_STREAM_CAPTURE_INVALIDATED));
    }
}
