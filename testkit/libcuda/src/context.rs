//! Contexts: one primary a device, others on request; a stack of current ones per thread; the error that
//! sticks.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::thread::ThreadId;

use crate::handles::Handles;
use crate::status::{Outcome, Status};
use crate::streams::StreamId;

/// A context. Streams, memory and modules belong to one.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) ordinal: i32,
    pub(crate) legacy: StreamId,
    /// The default streams of threads (`CU_STREAM_PER_THREAD`).
    pub(crate) per_thread: HashMap<ThreadId, StreamId>,
    /// What a kernel's fault left behind: every later call returns it.
    pub(crate) fault: Option<Status>,
    pub(crate) flags: u32,
    primary: bool,
}

/// All contexts of the process.
#[derive(Debug)]
pub(crate) struct Contexts {
    all: Handles<Context>,
    /// Of each device with an active primary context: its handle and how often it is retained.
    primaries: BTreeMap<i32, (usize, u32)>,
}

thread_local! {
    /// The top is current. Handles of destroyed contexts may stay here.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The handle that is current in this thread; it may be of a destroyed context.
pub(crate) fn current() -> Option<usize> {
    STACK.with_borrow(|stack| stack.last().copied())
}

/// Replaces the top of this thread's stack; `None` removes it.
pub(crate) fn set_current(context: Option<usize>) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        stack.extend(context);
    });
}

/// Makes a context current above the one that is.
pub(crate) fn push(context: usize) {
    STACK.with_borrow_mut(|stack| stack.push(context));
}

/// Makes the one below current again.
pub(crate) fn pop() -> Outcome<usize> {
    STACK.with_borrow_mut(Vec::pop).ok_or(Status::ERROR_INVALID_CONTEXT)
}

impl Contexts {
    pub(crate) fn new() -> Self {
        Self { all: Handles::new(0x1000_0000), primaries: BTreeMap::new() }
    }

    pub(crate) fn get(&self, handle: usize) -> Outcome<&Context> {
        self.all.get(handle).map_err(|_| Status::ERROR_INVALID_CONTEXT)
    }

    pub(crate) fn get_mut(&mut self, handle: usize) -> Outcome<&mut Context> {
        self.all.get_mut(handle).map_err(|_| Status::ERROR_INVALID_CONTEXT)
    }

    /// The current one, whatever its state.
    pub(crate) fn current(&self) -> Outcome<(usize, &Context)> {
        let handle = current().ok_or(Status::ERROR_INVALID_CONTEXT)?;
        let context = self.all.get(handle).map_err(|_| Status::ERROR_CONTEXT_IS_DESTROYED)?;
        Ok((handle, context))
    }

    /// The current one, unless a fault sticks to it.
    pub(crate) fn healthy(&self) -> Outcome<usize> {
        let (handle, context) = self.current()?;
        context.fault.map_or(Ok(handle), Err)
    }

    /// Adds a context; `legacy` makes its default stream from its handle.
    pub(crate) fn create(
        &mut self,
        ordinal: i32,
        primary: bool,
        legacy: impl FnOnce(usize) -> StreamId,
    ) -> usize {
        let (per_thread, fault) = Default::default();
        let placeholder = Context { ordinal, legacy: StreamId(0), per_thread, fault, flags: 0, primary };
        let handle = self.all.insert(placeholder);
        self.all.get_mut(handle).expect("just added").legacy = legacy(handle);
        handle
    }

    /// The active primary context of a device.
    pub(crate) fn primary(&self, ordinal: i32) -> Option<usize> {
        self.primaries.get(&ordinal).map(|&(handle, _)| handle)
    }

    /// Counts a retain of the device's primary context, which `handle` is.
    pub(crate) fn retain_primary(&mut self, ordinal: i32, handle: usize) {
        self.primaries.entry(ordinal).or_insert((handle, 0)).1 += 1;
    }

    /// Counts a release; `Some` if it was the last and the context is to be destroyed.
    pub(crate) fn release_primary(&mut self, ordinal: i32) -> Outcome<Option<usize>> {
        let (handle, count) = self.primaries.get_mut(&ordinal).ok_or(Status::ERROR_INVALID_CONTEXT)?;
        *count -= 1;
        let (handle, last) = (*handle, *count == 0);
        if last {
            self.primaries.remove(&ordinal);
        }
        Ok(last.then_some(handle))
    }

    /// Forgets a context, primary or not, with all retains of it.
    pub(crate) fn remove(&mut self, handle: usize) -> Outcome<Context> {
        self.primaries.retain(|_, &mut (primary, _)| primary != handle);
        self.all.remove(handle).map_err(|_| Status::ERROR_INVALID_CONTEXT)
    }

    pub(crate) fn is_primary(&self, handle: usize) -> bool {
        self.all.get(handle).is_ok_and(|context| context.primary)
    }

    /// Handles and contexts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Context)> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_context_lives_until_its_last_release() {
        let mut contexts = Contexts::new();
        let handle = contexts.create(0, true, StreamId);
        contexts.retain_primary(0, handle);
        contexts.retain_primary(0, handle);
        assert_eq!(contexts.release_primary(0), Ok(None));
        assert_eq!(contexts.primary(0), Some(handle));
        assert_eq!(contexts.release_primary(0), Ok(Some(handle)));
        assert_eq!(contexts.release_primary(0), Err(Status::ERROR_INVALID_CONTEXT));
    }

    #[test]
    fn the_stack_belongs_to_the_thread() {
        let mut contexts = Contexts::new();
        let (a, b) = (contexts.create(0, true, StreamId), contexts.create(0, false, StreamId));
        set_current(Some(a));
        push(b);
        assert_eq!(contexts.healthy(), Ok(b));
        std::thread::spawn(|| assert_eq!(current(), None)).join().expect("no panic");
        contexts.remove(b).expect("exists");
        assert_eq!(contexts.healthy(), Err(Status::ERROR_CONTEXT_IS_DESTROYED));
        assert_eq!(pop(), Ok(b));
        contexts.get_mut(a).expect("exists").fault = Some(Status::ERROR_ILLEGAL_ADDRESS);
        assert_eq!(contexts.healthy(), Err(Status::ERROR_ILLEGAL_ADDRESS));
        set_current(None);
        assert_eq!(contexts.healthy(), Err(Status::ERROR_INVALID_CONTEXT));
    }
}
