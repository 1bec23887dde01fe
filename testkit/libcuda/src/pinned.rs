//! Page-locked host memory: which host addresses a copy may use late.

use std::collections::BTreeMap;

use crate::status::{Outcome, Status};

/// How host memory became page-locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// By `cuMemHostAlloc` or `cuMemAllocHost`: the driver owns it.
    Allocated,
    /// By `cuMemHostRegister`: the program owns it.
    Registered,
}

/// One page-locked range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) bytes: usize,
    pub(crate) context: usize,
    origin: Origin,
}

/// All page-locked ranges, by host address.
#[derive(Debug, Default)]
pub(crate) struct Pinned(BTreeMap<usize, Range>);

impl Pinned {
    pub(crate) fn insert(&mut self, address: usize, bytes: usize, context: usize, origin: Origin) -> Outcome {
        let overlaps =
            self.0.range(..address + bytes).next_back().is_some_and(|(&a, r)| a + r.bytes > address);
        if overlaps {
            return Err(Status::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.0.insert(address, Range { bytes, context, origin });
        Ok(())
    }

    /// Ends a range; the address must be its first and the origin its own.
    pub(crate) fn remove(&mut self, address: usize, origin: Origin) -> Outcome<Range> {
        match self.0.get(&address) {
            Some(range) if range.origin == origin => Ok(self.0.remove(&address).expect("was found")),
            _ if origin == Origin::Registered => Err(Status::ERROR_HOST_MEMORY_NOT_REGISTERED),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// Whether all these bytes are page-locked.
    pub(crate) fn holds(&self, address: usize, bytes: usize) -> bool {
        self.0.range(..=address).next_back().is_some_and(|(&a, r)| address + bytes <= a + r.bytes)
    }

    /// What the driver still owns in a context, or in all: address and range.
    pub(crate) fn allocated(&self, context: Option<usize>) -> impl Iterator<Item = (usize, Range)> {
        let wanted = move |r: &Range| r.origin == Origin::Allocated && context.is_none_or(|c| r.context == c);
        self.0.iter().filter(move |(_, r)| wanted(r)).map(|(&a, &r)| (a, r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_end_as_they_began() {
        let mut pinned = Pinned::default();
        pinned.insert(1000, 100, 1, Origin::Allocated).expect("free");
        assert_eq!(
            pinned.insert(1099, 1, 1, Origin::Registered),
            Err(Status::ERROR_HOST_MEMORY_ALREADY_REGISTERED)
        );
        pinned.insert(1100, 50, 1, Origin::Registered).expect("free");
        assert!(pinned.holds(1000, 100) && pinned.holds(1120, 30));
        assert!(!pinned.holds(1050, 60) && !pinned.holds(999, 1));
        assert_eq!(
            pinned.remove(1000, Origin::Registered).err(),
            Some(Status::ERROR_HOST_MEMORY_NOT_REGISTERED)
        );
        assert_eq!(pinned.remove(1000, Origin::Allocated).expect("allocated").bytes, 100);
        assert_eq!(pinned.allocated(None).count(), 0);
    }
}
