//! What an operation of a stream does.

use std::sync::Arc;

use crate::launch::KernelLaunch;
use crate::nccl::Call;

/// Host bytes that a copy reads.
#[derive(Clone, Debug)]
pub(crate) enum HostBytes {
    /// Taken when the copy was issued, as the driver stages pageable memory.
    Staged(Arc<[u8]>),
    /// Read when the copy runs: page-locked memory, or a graph's node.
    Late {
        address: usize,
        bytes: usize,
        /// Of the bytes when the copy was issued; a graph's bytes may change between launches.
        digest: Option<u64>,
    },
}

impl HostBytes {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Staged(bytes) => bytes.len(),
            Self::Late { bytes, .. } => *bytes,
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The time of an event that keeps times; `record` tells its records apart.
    Stamp { event: usize, record: u64 },
    /// Host to device.
    Upload { to: u64, from: HostBytes },
    /// Device to host.
    Download { to: usize, from: u64, bytes: usize },
    /// Device to device.
    Copy { to: u64, from: u64, bytes: usize },
    /// `count` times `pattern`, which has 1, 2 or 4 bytes.
    Fill { to: u64, pattern: Vec<u8>, count: usize },
    /// A kernel.
    Launch(Arc<KernelLaunch>),
    /// The allocation becomes usable here.
    Allocate { start: u64 },
    /// The allocation ends here.
    Free { start: u64 },
    /// A function of the program, called with the lock released.
    HostCall { function: usize, argument: usize },
    /// This rank's part of an NCCL operation is given away.
    Post(Arc<Call>),
    /// What this rank gets of an NCCL operation is written; waits for the other ranks with the lock released.
    Complete(Arc<Call>),
}

impl Work {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stamp { .. } => "record of an event".to_owned(),
            Self::Upload { from, .. } => format!("copy of {} bytes to the device", from.len()),
            Self::Download { bytes, .. } => format!("copy of {bytes} bytes to the host"),
            Self::Copy { bytes, .. } => format!("copy of {bytes} bytes on the device"),
            Self::Fill { pattern, count, .. } => format!("memset of {} bytes", pattern.len() * count),
            Self::Launch(launch) => format!("kernel {}", launch.kernel().name),
            Self::Allocate { .. } => "its asynchronous allocation".to_owned(),
            Self::Free { .. } => "its asynchronous free".to_owned(),
            Self::HostCall { .. } => "host function".to_owned(),
            Self::Post(call) | Self::Complete(call) => call.name(),
        }
    }

    /// Whether the operation, when it runs, uses host memory inside this range.
    pub(crate) fn uses_host(&self, address: usize, bytes: usize) -> bool {
        let (start, size) = match *self {
            Self::Upload { from: HostBytes::Late { address, bytes, .. }, .. } => (address, bytes),
            Self::Download { to, bytes, .. } => (to, bytes),
            _ => return false,
        };
        start < address + bytes && address < start + size
    }
}
