//! The program's own memory and functions, as the model sees them: numbers behind one interface.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Access to the host by address. The implementation is the only place that turns numbers into pointers.
pub(crate) trait Host: Sync {
    /// Copies host bytes out.
    fn read(&self, address: usize, out: &mut [u8]);
    /// Copies bytes to the host.
    fn write(&self, address: usize, bytes: &[u8]);
    /// Page-aligned memory; `None` if there is none.
    fn allocate(&self, bytes: usize) -> Option<usize>;
    /// Ends what `allocate` gave, with the same size.
    fn free(&self, address: usize, bytes: usize);
    /// Calls a function of the program with one argument.
    fn call(&self, function: usize, argument: usize);
}

/// Host bytes as they are now.
pub(crate) fn snapshot(host: &dyn Host, address: usize, bytes: usize) -> Vec<u8> {
    let mut copy = vec![0; bytes];
    host.read(address, &mut copy);
    copy
}

/// Tells whether bytes changed.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
