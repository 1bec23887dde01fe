//! How the kernels by the warpgroup instructions of compute capability 9.0 cut rows and keys: mirrors
//! `kernels/hopper/attention`.

use super::tiles::{self, Pass, Passes, entries};
use crate::device::cuda::Entry;

/// The head widths that there are entries for.
pub(super) const WIDTHS: [usize; 2] = [64, 128];

/// Rows, or keys, of a block, and those of one warpgroup.
const OWN: usize = 128;
const WARPGROUP: usize = 64;
/// Keys of a tile that the forward pass visits; keys, or rows, of one that a backward pass does.
const FORWARD: usize = 128;
const BACKWARD: usize = 64;
/// Stages of the pass that owns keys, and the bytes that come with each visited row.
const KEY_STAGES: usize = 2;
const STATISTICS: usize = 12;
const THREADS: u32 = 384;

pub(super) fn passes(width: usize) -> Passes {
    // A block's own tiles, the stages of the two that it visits, two barriers for each, and room to align them.
    let pass = |entry, own: usize, visited: usize, stages: usize| {
        let tiles = (own * OWN + 2 * stages * visited) * 2 * width;
        let shared = 1024 + tiles + (own + 2 * stages) * 16;
        Pass { entry, own: OWN, share: WARPGROUP, visited, threads: THREADS, shared }
    };
    let forward = entries!(width, "hopper/attention/forward", "attention_wgmma_forward_bf16", [64 128]);
    let queries = entries!(width, "hopper/attention/backward", "attention_wgmma_backward_q_bf16", [64 128]);
    let keys = entries!(width, "hopper/attention/backward", "attention_wgmma_backward_kv_bf16", [64 128]);
    let keys = pass(keys, 2, BACKWARD, KEY_STAGES);
    Passes {
        forward: pass(forward, 1, FORWARD, 2),
        delta: tiles::delta(width),
        queries: pass(queries, 2, BACKWARD, 3),
        keys: Pass { shared: keys.shared + KEY_STAGES * BACKWARD * STATISTICS, ..keys },
    }
}
