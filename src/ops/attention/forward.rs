//! The forward pass: one task a (query tile, key-value head).

use std::ops::Range;

use rayon::prelude::*;

use super::layout::QueryTile;
use super::{Heads, Layout};
use crate::device::cpu::simd::{self, widest};
use crate::device::cpu::{Mat, exp, gemm_serial};
use crate::device::{Buffer, Device};

/// What one task computes: its rows of each query head of the group.
struct Tile {
    output: Vec<f32>, // group x rows x E
    lse: Vec<f32>,    // group x rows
}

/// O and lse from Q, K, V.
pub fn forward(
    device: &Device,
    heads: &Heads,
    layout: &Layout,
    q: &Buffer,
    k: &Buffer,
    v: &Buffer,
    o: &mut Buffer,
    lse: &mut Buffer,
) {
    let _span = device.span("attention.forward", || layout.cost(heads, 2, 2, 2));
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let tasks: Vec<(&QueryTile, usize)> =
        layout.query_tiles.iter().flat_map(|t| (0..heads.key_value).map(move |kv| (t, kv))).collect();
    let tiles: Vec<Tile> =
        cpu.run(|| tasks.par_iter().map(|&(tile, kv)| compute(heads, layout, tile, kv, q, k, v)).collect());
    for (&(tile, kv), computed) in tasks.iter().zip(&tiles) {
        put_heads(
            o,
            heads.query * heads.width,
            heads.width,
            heads.queries_of(kv),
            &tile.rows,
            &computed.output,
        );
        put_heads(lse, heads.query, 1, heads.queries_of(kv), &tile.rows, &computed.lse);
    }
}

fn compute(
    heads: &Heads,
    layout: &Layout,
    tile: &QueryTile,
    kv: usize,
    q: &Buffer,
    k: &Buffer,
    v: &Buffer,
) -> Tile {
    let keys = layout.keys_of(tile, heads);
    let (rows, seen) = (tile.rows.len(), keys.iter().map(Range::len).sum::<usize>());
    let mut scores = vec![0.0; rows * seen];
    let mut output = vec![0.0; heads.group() * rows * heads.width];
    let mut lse = Vec::with_capacity(heads.group() * rows);
    for (i, head) in heads.queries_of(kv).enumerate() {
        scores_of(heads, layout, tile, &keys, q, k, kv, head, &mut scores);
        for scores in scores.chunks_mut(seen) {
            lse.push(softmax(scores));
        }
        let output = &mut output[i * rows * heads.width..(i + 1) * rows * heads.width];
        let mut column = 0;
        for range in &keys {
            let p = Mat::strided(&scores[column..], rows, range.len(), seen);
            gemm_serial(output, heads.width, p, heads.keys(v, kv, range.clone()), 1.0, column > 0);
            column += range.len();
        }
    }
    Tile { output, lse }
}

/// Scaled scores of one head, rows x seen keys; -inf where a row does not see a key.
pub(super) fn scores_of(
    heads: &Heads,
    layout: &Layout,
    tile: &QueryTile,
    keys: &[Range<usize>],
    q: &Buffer,
    k: &Buffer,
    kv: usize,
    head: usize,
    scores: &mut [f32],
) {
    let seen = keys.iter().map(Range::len).sum::<usize>();
    let queries = heads.queries(q, head, tile.rows.clone());
    let mut column = 0;
    for range in keys {
        let k = heads.keys(k, kv, range.clone());
        gemm_serial(&mut scores[column..], seen, queries, k.t(), heads.scale, false);
        column += range.len();
    }
    for (scores, row) in scores.chunks_mut(seen).zip(tile.rows.clone()) {
        let mut rest = scores;
        for range in keys {
            let (scores, others) = rest.split_at_mut(range.len());
            hide(scores, &layout.seen(row, range, heads));
            rest = others;
        }
    }
}

/// Scores outside of what the row sees become -inf.
pub(super) fn hide(scores: &mut [f32], seen: &Range<usize>) {
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
}

widest! {
    /// Turns scores into probabilities; returns their log-sum-exp. A row always sees its own token.
    fn softmax(scores: &mut [f32]) -> f32 {
        let max = simd::max(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - max);
        }
        let sum = simd::sum([scores], |[p]| f64::from(p));
        let scale = (1.0 / sum) as f32;
        for score in scores {
            *score *= scale;
        }
        (f64::from(max) + sum.ln()) as f32
    }
}

/// Writes `computed` (heads x rows x width) to its places in `out`, rows of `stride` values.
pub(super) fn put_heads(
    out: &mut Buffer,
    stride: usize,
    width: usize,
    heads: Range<usize>,
    rows: &Range<usize>,
    computed: &[f32],
) {
    let out = out.values_mut();
    for (head, computed) in heads.zip(computed.chunks_exact(rows.len() * width)) {
        for (row, values) in rows.clone().zip(computed.chunks_exact(width)) {
            let at = row * stride + head * width;
            out[at..at + width].copy_from_slice(values);
        }
    }
}
