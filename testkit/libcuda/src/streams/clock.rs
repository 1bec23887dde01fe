//! Vector clocks: which operations of which streams lie before a point.

use std::collections::BTreeMap;

/// A stream, for as long as the process lives; ids are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) usize);

/// For each stream, how many of its first operations lie before this point (Mattern 1989).
///
/// One clock serves three ends: it is what an event records, what a wait forces to run, and what decides
/// whether two operations are ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock(BTreeMap<StreamId, u64>);

impl Clock {
    /// How many of the stream's operations lie before this point.
    pub(crate) fn of(&self, stream: StreamId) -> u64 {
        self.0.get(&stream).copied().unwrap_or(0)
    }

    /// Moves the point behind the first `count` operations of the stream, too.
    pub(crate) fn advance(&mut self, stream: StreamId, count: u64) {
        let entry = self.0.entry(stream).or_insert(0);
        *entry = count.max(*entry);
    }

    /// Moves the point behind all that lies before `other`, too.
    pub(crate) fn join(&mut self, other: &Self) {
        for (&stream, &count) in &other.0 {
            self.advance(stream, count);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId, u64)> {
        self.0.iter().map(|(&stream, &count)| (stream, count))
    }
}
