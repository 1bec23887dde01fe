//! Which operations touched which bytes, and whether something orders them.
//!
//! Two operations race if they touch the same bytes, one of them writes, and neither lies before the other by
//! stream order, events or the host's waits. That does not depend on the order in which they happened to run.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::streams::{Clock, StreamId};

/// Device bytes that an operation reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) range: Range<u64>,
    pub(crate) writes: bool,
}

/// The operation that accesses.
#[derive(Clone, Debug)]
pub(crate) struct Actor<'a> {
    pub(crate) stream: StreamId,
    /// The point behind the operation; its entry of `stream` is the operation's own place.
    pub(crate) clock: &'a Clock,
    /// For messages.
    pub(crate) name: &'a str,
}

#[derive(Clone, Debug)]
struct Past {
    access: Access,
    stream: StreamId,
    place: u64,
    name: String,
}

impl Past {
    fn is_before(&self, actor: &Actor<'_>) -> bool {
        actor.clock.of(self.stream) >= self.place
    }

    fn conflicts(&self, access: &Access) -> bool {
        let overlap =
            self.access.range.start < access.range.end && access.range.start < self.access.range.end;
        overlap && (self.access.writes || access.writes)
    }

    /// Whether whatever races with this also races with the newer access, so that this may be forgotten.
    fn is_hidden_by(&self, access: &Access) -> bool {
        let inside =
            access.range.start <= self.access.range.start && self.access.range.end <= access.range.end;
        inside && (access.writes || !self.access.writes)
    }
}

/// The accesses that a later one can still race with, by allocation.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    past: BTreeMap<u64, Vec<Past>>,
}

impl Accesses {
    /// Notes an access to the allocation that starts at `allocation`; returns the name of an earlier
    /// operation that races with it, if there is one.
    pub(crate) fn note(&mut self, allocation: u64, access: Access, actor: &Actor<'_>) -> Option<String> {
        let past = self.past.entry(allocation).or_default();
        let rival = past.iter().find(|p| p.conflicts(&access) && !p.is_before(actor)).map(|p| p.name.clone());
        past.retain(|p| !(p.is_before(actor) && p.is_hidden_by(&access)));
        let (stream, place) = (actor.stream, actor.clock.of(actor.stream));
        past.push(Past { access, stream, place, name: actor.name.to_owned() });
        rival
    }

    /// The allocation is gone.
    pub(crate) fn forget(&mut self, allocation: u64) {
        self.past.remove(&allocation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    fn clock(a: u64, b: u64) -> Clock {
        let mut clock = Clock::default();
        clock.advance(A, a);
        clock.advance(B, b);
        clock
    }

    fn note(log: &mut Accesses, range: Range<u64>, writes: bool, stream: StreamId, clock: &Clock) -> bool {
        let actor = Actor { stream, clock, name: "op" };
        log.note(0, Access { range, writes }, &actor).is_some()
    }

    #[test]
    fn only_unordered_overlapping_pairs_with_a_write_race() {
        let mut log = Accesses::default();
        assert!(!note(&mut log, 0..8, true, A, &clock(1, 0)));
        assert!(!note(&mut log, 8..16, true, B, &clock(0, 1))); // other bytes
        assert!(!note(&mut log, 0..8, false, B, &clock(1, 2))); // waited for
        assert!(note(&mut log, 4..6, false, B, &clock(0, 3)) /* did not wait */);
        assert!(!note(&mut log, 20..24, false, A, &clock(2, 0)));
        assert!(!note(&mut log, 20..24, false, B, &clock(0, 4))); // both read
        assert!(note(&mut log, 20..24, true, A, &clock(3, 0))); // write after the other's read
    }

    #[test]
    fn a_race_is_found_through_a_forgotten_access() {
        let mut log = Accesses::default();
        note(&mut log, 0..8, false, A, &clock(1, 0));
        note(&mut log, 0..8, true, A, &clock(2, 0)); // hides the read
        assert_eq!(log.past[&0].len(), 1);
        assert!(note(&mut log, 0..1, true, B, &clock(0, 1)));
    }
}
