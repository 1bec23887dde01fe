//! The backward pass, from q, k, v, o and lse: probabilities are computed again, tile by tile.

use std::ops::Range;

use rayon::prelude::*;

use super::block::{KEYS, LANES, ROWS, Turned};
use super::layout::{KeyTile, QueryTile, cut};
use super::seen::Seen;
use super::shares::{put, shares};
use super::{Heads, Layout};
use crate::device::cpu::simd::{self, widest};
use crate::device::cpu::{Mat, exp, thin};
use crate::device::{Buffer, Device};

/// What the forward pass read and wrote.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Q, Nq x (H E).
    pub q: &'a Buffer,
    /// K, N x (K E).
    pub k: &'a Buffer,
    /// V, N x (K E).
    pub v: &'a Buffer,
    /// O, Nq x (H E).
    pub o: &'a Buffer,
    /// Log-sum-exp of the scores, Nq x H.
    pub lse: &'a Buffer,
}

/// dQ, dK and dV from dO; all three are overwritten.
pub fn backward(
    device: &Device,
    heads: &Heads,
    layout: &Layout,
    saved: Saved<'_>,
    d_o: &Buffer,
    dq: &mut Buffer,
    dk: &mut Buffer,
    dv: &mut Buffer,
) {
    let _span = device.span("attention.backward", || layout.cost(heads, 5, 4, 4));
    let Device::Cpu(cpu) = device;
    let mut delta = device.buffer(d_o.rows(), heads.query);
    cpu.for_rows(delta.values_mut(), heads.query, |row, out| {
        let (d_o, o) = (d_o.row(row).chunks(heads.width), saved.o.row(row).chunks(heads.width));
        for (out, (d_o, o)) in out.iter_mut().zip(d_o.zip(o)) {
            *out = dot(d_o, o);
        }
    });
    if !cpu.computes() {
        return;
    }
    let pass = Pass { heads, layout, saved, d_o, delta: &delta };

    let tiles = layout.query_tiles.iter().map(|tile| &tile.rows);
    let dq = shares(dq.values_mut(), heads.key_value, heads.group() * heads.width, tiles);
    let tasks: Vec<_> = layout.tasks(&layout.query_tiles, heads).zip(dq).collect();
    cpu.run(|| {
        tasks.into_par_iter().with_max_len(1).for_each(|((tile, kv), dq)| {
            put(dq, &pass.query_gradient(tile, kv), heads.width);
        });
    });

    // A key that no query sees keeps a zero gradient.
    dk.values_mut().fill(0.0);
    dv.values_mut().fill(0.0);
    let tiles = || layout.key_tiles.iter().map(|tile| &tile.tokens);
    let dk = shares(dk.values_mut(), heads.key_value, heads.width, tiles());
    let dv = shares(dv.values_mut(), heads.key_value, heads.width, tiles());
    let tasks: Vec<_> = layout.tasks(&layout.key_tiles, heads).zip(dk.into_iter().zip(dv)).collect();
    cpu.run(|| {
        tasks.into_par_iter().with_max_len(1).for_each(|((tile, kv), (dk, dv))| {
            let [of_k, of_v] = pass.key_gradients(tile, kv);
            put(dk, &of_k, heads.width);
            put(dv, &of_v, heads.width);
        });
    });
}

struct Pass<'a> {
    heads: &'a Heads,
    layout: &'a Layout,
    saved: Saved<'a>,
    d_o: &'a Buffer,
    delta: &'a Buffer,
}

/// K^T and V^T of some keys of one head.
struct Turns {
    k: Turned,
    v: Turned,
}

impl Pass<'_> {
    fn turn(&self, turns: &mut Turns, kv: usize, keys: &Range<usize>) {
        turns.k.fill(self.heads.keys(self.saved.k, kv, keys.clone()));
        turns.v.fill(self.heads.keys(self.saved.v, kv, keys.clone()));
    }

    fn turns(&self) -> Turns {
        Turns { k: Turned::new(self.heads.width), v: Turned::new(self.heads.width) }
    }

    /// dQ of one tile, group x rows x E.
    fn query_gradient(&self, tile: &QueryTile, kv: usize) -> Vec<f32> {
        let heads = self.heads;
        let (rows, width) = (tile.rows.len(), heads.width);
        let mut dq = vec![0.0; heads.group() * rows * width];
        let (mut turns, mut p, mut ds) = (self.turns(), [0.0; ROWS * KEYS], [0.0; ROWS * KEYS]);
        for keys in self.layout.keys_of(tile, heads).into_iter().flat_map(|range| cut(range, KEYS)) {
            self.turn(&mut turns, kv, &keys);
            let seen = Seen::new(self.layout, heads, tile.rows.clone(), &keys);
            for block in cut(0..rows, ROWS) {
                let columns = seen.columns_of(block.clone());
                if columns.is_empty() {
                    continue;
                }
                let real = columns.start..columns.end.min(keys.len());
                let k = heads.keys(self.saved.k, kv, keys.start + real.start..keys.start + real.end);
                let len = block.len() * columns.len();
                for (i, head) in heads.queries_of(kv).enumerate() {
                    let (p, ds) = (&mut p[..len], &mut ds[..len]);
                    self.gradients(&turns, &seen, &block, &columns, head, p, ds, columns.len());
                    let dq = &mut dq[(i * rows + block.start) * width..][..block.len() * width];
                    let ds = Mat::strided(ds, block.len(), real.len(), columns.len());
                    thin(dq, width, ds, k, heads.scale, true);
                }
            }
        }
        dq
    }

    /// dK and dV of one tile, tokens x E each.
    fn key_gradients(&self, tile: &KeyTile, kv: usize) -> [Vec<f32>; 2] {
        let (heads, tokens, width) = (self.heads, tile.tokens.len(), self.heads.width);
        let (mut dk, mut dv) = (vec![0.0; tokens * width], vec![0.0; tokens * width]);
        let (mut turns, mut p, mut ds) = (self.turns(), Vec::new(), Vec::new());
        self.turn(&mut turns, kv, &tile.tokens);
        let stride = tokens.next_multiple_of(LANES);
        for rows in self.layout.rows_of(tile, heads) {
            let seen = Seen::new(self.layout, heads, rows.clone(), &tile.tokens);
            // zero wherever no head's block will write
            for x in [&mut p, &mut ds] {
                x.clear();
                x.resize(rows.len() * stride, 0.0);
            }
            for head in heads.queries_of(kv) {
                for block in cut(0..rows.len(), ROWS) {
                    let columns = seen.columns_of(block.clone());
                    if columns.is_empty() {
                        continue;
                    }
                    let at = block.start * stride + columns.start;
                    let (p, ds) = (&mut p[at..], &mut ds[at..]);
                    self.gradients(&turns, &seen, &block, &columns, head, p, ds, stride);
                }
                for keys in cut(0..tokens, ROWS) {
                    let block = seen.rows_of(&keys);
                    let queries = seen.queries(&block);
                    let turned = |x: &[f32], out: &mut [f32], of: &Buffer, scale: f32| {
                        let x = &x[block.start * stride + keys.start..];
                        let x = Mat::strided(x, block.len(), keys.len(), stride);
                        let of = heads.queries(of, head, queries.clone());
                        thin(&mut out[keys.start * width..], width, x.t(), of, scale, true);
                    };
                    turned(&p, &mut dv, self.d_o, 1.0);
                    turned(&ds, &mut dk, self.saved.q, heads.scale);
                }
            }
        }
        [dk, dv]
    }

    /// p and dS of the rows `block` over `columns` of the turned keys; 0 where a row does not see a key. Rows of `p`
    /// and `ds` are `stride` values apart.
    fn gradients(
        &self,
        turns: &Turns,
        seen: &Seen,
        block: &Range<usize>,
        columns: &Range<usize>,
        head: usize,
        p: &mut [f32],
        ds: &mut [f32],
        stride: usize,
    ) {
        let heads = self.heads;
        let rows = seen.queries(block);
        let (q, d_o) =
            (heads.queries(self.saved.q, head, rows.clone()), heads.queries(self.d_o, head, rows.clone()));
        thin(p, stride, q, turns.k.columns(columns), heads.scale, false);
        thin(ds, stride, d_o, turns.v.columns(columns), 1.0, false);
        let by_row = p.chunks_mut(stride).zip(ds.chunks_mut(stride));
        for ((i, row), (p, ds)) in block.clone().zip(rows).zip(by_row) {
            let (p, ds) = (&mut p[..columns.len()], &mut ds[..columns.len()]);
            seen.hide(i, columns, p);
            let (lse, delta) = (self.saved.lse.row(row)[head], self.delta.row(row)[head]);
            into_gradient(p, ds, lse, delta);
        }
    }
}

widest! {
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        simd::sum([x, y], |[x, y]| f64::from(x * y)) as f32
    }

    fn into_gradient(scores: &mut [f32], ds: &mut [f32], lse: f32, delta: f32) {
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        let (ds, _) = ds.as_chunks_mut::<LANES>();
        for (scores, ds) in scores.iter_mut().zip(ds) {
            for (score, ds) in scores.iter_mut().zip(ds) {
                *score = exp(*score - lse);
                *ds = *score * (*ds - delta);
            }
        }
    }
}
