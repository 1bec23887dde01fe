//! How the kernels cut rows and keys: what a launch must know of the constants in `kernels/attention`.

use super::hopper;
use crate::device::cuda::{Entry, Kernel};

/// One kernel at one head width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) entry: Entry,
    /// Rows, or keys, of a block.
    pub(super) own: usize,
    /// Those of them that are of one warp (or of the warps that share them, or of a warpgroup): their sights are told
    /// apart.
    pub(super) share: usize,
    /// Keys, or rows, of a visited tile.
    pub(super) visited: usize,
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(super) shared: usize,
}

/// The kernels of one head width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passes {
    pub(super) forward: Pass,
    pub(super) delta: Entry,
    /// dQ.
    pub(super) queries: Pass,
    /// dK and dV.
    pub(super) keys: Pass,
}

/// The name of each entry ends in the head width.
macro_rules! entries {
    ($width:expr, $file:literal, $name:literal, [$($known:literal)+]) => {
        match $width {
            $($known => Entry::new($file, concat!($name, "_e", $known)),)+
            width => panic!("attention: head width {width}, needed one of {WIDTHS:?}"),
        }
    };
    ($width:expr, $file:literal, $name:literal) => { entries!($width, $file, $name, [32 64 96 128 256]) };
}

pub(super) use entries;

/// The head widths that there are entries for.
pub const WIDTHS: [usize; 5] = [32, 64, 96, 128, 256];

/// Rows of query rows' lists, and of keys' lists, are filled up to a multiple of this.
pub(super) const PADDING: usize = 128;

/// The kernels for head width `width`.
pub(super) fn passes(kernel: Kernel, width: usize) -> Passes {
    match kernel {
        Kernel::Portable => portable(width),
        Kernel::Hopper => hopper::passes(width),
    }
}

/// The kernel that makes delta, for all others of a width.
pub(super) fn delta(width: usize) -> Entry {
    entries!(width, "attention/backward", "attention_delta_bf16")
}

/// Mirrors `Forward`, `RowPass` and `KeyPass` of `kernels/attention`.
fn portable(width: usize) -> Passes {
    let row_bytes = 2 * width + 16;
    let (narrow, wide) = (width <= 64, width > 128);
    let pass =
        |entry, pieces: usize, warps: usize, sharers: usize, visited: usize, beside: usize, held: bool| {
            let (share, shares) = (16 * pieces, warps / sharers);
            let own = share * shares;
            let kept = if held { 0 } else { own * row_bytes };
            let shared = 2 * visited * (2 * row_bytes + beside) + kept;
            Pass { entry, own, share, visited, threads: 32 * warps as u32, shared }
        };
    let mut forward = pass(
        entries!(width, "attention/forward", "attention_forward_bf16"),
        if wide { 1 } else { 2 },
        4,
        1,
        if narrow { 64 } else { 32 },
        4,
        narrow || wide,
    );
    let mut queries = pass(
        entries!(width, "attention/backward", "attention_backward_q_bf16"),
        if narrow { 2 } else { 1 },
        if narrow || wide { 4 } else { 8 },
        1,
        if wide { 16 } else { 64 },
        4,
        !wide,
    );
    let keys = pass(
        entries!(width, "attention/backward", "attention_backward_kv_bf16"),
        if narrow { 2 } else { 1 },
        if narrow { 4 } else { 8 },
        if wide { 2 } else { 1 },
        if wide { 16 } else { 32 },
        20,
        false,
    );
    // the limits of a block's own rows
    forward.shared += forward.own * 8;
    queries.shared += queries.own * 8;
    Passes { forward, delta: delta(width), queries, keys }
}
