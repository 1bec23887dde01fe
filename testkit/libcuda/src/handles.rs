//! Numbers that stand for objects: what a program holds as `CUstream`, `CUevent` and so on.
//!
//! A number is never given twice, so a handle of a destroyed object is always recognised.

use std::collections::BTreeMap;

use crate::status::{Outcome, Status};

/// Objects of one kind. Kinds start at different numbers, so a handle of another kind is recognised too.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    next: usize,
    objects: BTreeMap<usize, T>,
}

impl<T> Handles<T> {
    pub(crate) const fn new(first: usize) -> Self {
        Self { next: first, objects: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, object: T) -> usize {
        let handle = self.next;
        self.next += 16;
        self.objects.insert(handle, object);
        handle
    }

    /// An unknown handle is `ERROR_INVALID_HANDLE`, here and below.
    pub(crate) fn get(&self, handle: usize) -> Outcome<&T> {
        self.objects.get(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    pub(crate) fn get_mut(&mut self, handle: usize) -> Outcome<&mut T> {
        self.objects.get_mut(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    pub(crate) fn remove(&mut self, handle: usize) -> Outcome<T> {
        self.objects.remove(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.objects.retain(|_, object| keep(object));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.objects.iter().map(|(&handle, object)| (handle, object))
    }
}
