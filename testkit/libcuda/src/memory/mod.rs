//! Device memory: who has what, under which label, and what went wrong with it.
//!
//! The bytes are in [`ptx::Memory`], at addresses that are never used twice; here is the table of
//! allocations, which remembers freed ones so that a later use of them is named.

mod accesses;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

pub(crate) use accesses::{Access, Accesses, Actor};

/// Where an allocation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// A free was issued to a stream; the bytes are still there.
    Leaving,
    Freed,
}

/// One allocation of the program.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    pub(crate) start: u64,
    pub(crate) bytes: usize,
    /// For messages: order, size, allocating call.
    pub(crate) label: String,
    pub(crate) context: usize,
    state: State,
    of_graph: bool,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// In or near no allocation.
    Unknown,
    /// In an allocation that was freed, by its label.
    Freed(String),
    /// It starts inside an allocation and leaves it.
    Beyond(String),
}

impl Misuse {
    /// The name of the check that it fails.
    pub(crate) fn check(&self) -> &'static str {
        match self {
            Self::Freed(_) => "use-after-free",
            Self::Unknown | Self::Beyond(_) => "out-of-bounds",
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the address is in no allocation"),
            Self::Freed(label) => write!(f, "{label} was freed before"),
            Self::Beyond(label) => write!(f, "the range leaves {label}"),
        }
    }
}

/// How many freed allocations are remembered.
const REMEMBERED: usize = 4096;

/// All allocations of the process, on all devices.
pub(crate) struct DeviceMemory {
    pub(crate) bytes: Arc<ptx::Memory>,
    pub(crate) accesses: Accesses,
    allocations: BTreeMap<u64, Allocation>,
    /// The freed ones of `allocations`, oldest first.
    freed: VecDeque<u64>,
    /// By label, of those not freed.
    starts: BTreeMap<String, u64>,
    made: u64,
}

impl DeviceMemory {
    pub(crate) fn new() -> Self {
        let bytes = Arc::new(ptx::Memory::new());
        let (accesses, allocations, freed, starts) = Default::default();
        Self { bytes, accesses, allocations, freed, starts, made: 0 }
    }

    /// New memory, filled with ones (floats are NaN). `call` is the driver call that asked for it.
    pub(crate) fn allocate(&mut self, bytes: usize, context: usize, call: &str) -> u64 {
        self.made += 1;
        let label = format!("allocation {} ({bytes} bytes, {call})", self.made);
        let start = self.bytes.allocate(bytes, &label);
        self.starts.insert(label.clone(), start);
        let (state, of_graph) = (State::Live, false);
        self.allocations.insert(start, Allocation { start, bytes, label, context, state, of_graph });
        start
    }

    /// The allocation that holds `bytes` bytes from `address`, freed ones refused.
    pub(crate) fn find(&self, address: u64, bytes: usize) -> Result<&Allocation, Misuse> {
        let found = self.holder(address).ok_or(Misuse::Unknown)?;
        match found.state {
            State::Live if bytes as u64 <= found.start + found.bytes as u64 - address => Ok(found),
            State::Live => Err(Misuse::Beyond(found.label.clone())),
            State::Leaving | State::Freed => Err(Misuse::Freed(found.label.clone())),
        }
    }

    /// The same for an operation that runs now: an allocation that a later operation frees is still there.
    pub(crate) fn find_running(&self, address: u64, bytes: usize) -> Result<&Allocation, Misuse> {
        let found = self.holder(address).ok_or(Misuse::Unknown)?;
        match found.state {
            State::Freed => Err(Misuse::Freed(found.label.clone())),
            _ if bytes as u64 <= found.start + found.bytes as u64 - address => Ok(found),
            _ => Err(Misuse::Beyond(found.label.clone())),
        }
    }

    /// The allocation of a label that is not freed.
    pub(crate) fn labelled(&self, label: &str) -> Option<&Allocation> {
        self.allocations.get(self.starts.get(label)?)
    }

    /// Whether the allocation's bytes are gone.
    pub(crate) fn is_freed(&self, start: u64) -> bool {
        self.allocations.get(&start).is_some_and(|a| a.state == State::Freed)
    }

    /// The allocation that holds the address, in whatever state.
    pub(crate) fn holder(&self, address: u64) -> Option<&Allocation> {
        let (_, found) = self.allocations.range(..=address).next_back()?;
        let offset = address - found.start;
        (offset < found.bytes as u64 || offset == 0).then_some(found)
    }

    /// A free that a stream will execute was issued: from here on the program may not name the allocation.
    pub(crate) fn leave(&mut self, start: u64) -> Result<&Allocation, Misuse> {
        match self.allocations.get_mut(&start) {
            None => Err(Misuse::Unknown),
            Some(found) if found.state != State::Live => Err(Misuse::Freed(found.label.clone())),
            Some(found) => {
                found.state = State::Leaving;
                Ok(found)
            }
        }
    }

    /// The bytes go, unless they are a graph's. Calling it again for the same allocation does nothing.
    pub(crate) fn release(&mut self, start: u64) {
        let Some(found) = self.allocations.get_mut(&start) else { return };
        if found.state != State::Freed && !found.of_graph {
            found.state = State::Freed;
            self.bytes.free(start).expect("the table and the memory agree on what is allocated");
            self.accesses.forget(start);
            self.starts.remove(&found.label);
            self.freed.push_back(start);
        }
        if self.freed.len() > REMEMBERED {
            let oldest = self.freed.pop_front().expect("there are many");
            self.allocations.remove(&oldest);
        }
    }

    /// The allocation belongs to a graph, whose frees leave it for the next launch; it goes with its context.
    pub(crate) fn give_to_graph(&mut self, start: u64) {
        self.allocations.get_mut(&start).expect("just allocated").of_graph = true;
    }

    /// What the program has not freed in a context, or in all, in the order of allocation.
    pub(crate) fn live(&self, context: Option<usize>) -> impl Iterator<Item = &Allocation> {
        self.allocations
            .values()
            .filter(move |a| a.state == State::Live && context.is_none_or(|context| a.context == context))
    }

    /// Frees everything of a context.
    pub(crate) fn release_context(&mut self, context: usize) {
        let all: Vec<u64> =
            self.allocations.values().filter(|a| a.context == context).map(|a| a.start).collect();
        for start in all {
            self.allocations.entry(start).and_modify(|a| a.of_graph = false);
            self.release(start);
        }
    }

    /// Bytes in use in the contexts that `counts` accepts.
    pub(crate) fn used(&self, counts: impl Fn(usize) -> bool) -> u64 {
        self.allocations
            .values()
            .filter(|a| a.state != State::Freed && counts(a.context))
            .map(|a| a.bytes as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_misuse_has_its_name() {
        let mut memory = DeviceMemory::new();
        let start = memory.allocate(100, 1, "cuMemAlloc");
        assert_eq!(memory.find(start + 60, 40).expect("inside").start, start);
        let label = "allocation 1 (100 bytes, cuMemAlloc)".to_owned();
        assert_eq!(memory.find(start + 60, 41).expect_err("leaves"), Misuse::Beyond(label.clone()));
        assert_eq!(memory.find(start + 100, 1).expect_err("behind"), Misuse::Unknown);
        assert_eq!(memory.live(Some(1)).count(), 1);
        memory.leave(start).expect("live");
        assert_eq!(memory.leave(start).expect_err("twice"), Misuse::Freed(label.clone()));
        assert_eq!(memory.find(start, 4).expect_err("freed"), Misuse::Freed(label));
        // Until the stream executes the free, the bytes are there.
        assert!(memory.bytes.read(start, &mut [0; 4]).is_ok());
        memory.release(start);
        assert!(memory.bytes.read(start, &mut [0; 4]).is_err());
        assert_eq!((memory.live(None).count(), memory.used(|_| true)), (0, 0));
    }

    #[test]
    fn an_allocation_of_no_bytes_can_be_named() {
        let mut memory = DeviceMemory::new();
        let start = memory.allocate(0, 1, "cuMemAllocAsync");
        assert!(memory.find(start, 0).is_ok());
        assert!(memory.find(start, 1).is_err());
    }
}
