//! The backward pass, from q, k, v, o and lse: probabilities are computed again, tile by tile.

use std::ops::Range;

use rayon::prelude::*;

use super::forward::{hide, put_heads, scores_of};
use super::layout::{KeyTile, QueryTile};
use super::{Heads, Layout};
use crate::device::cpu::simd::{self, widest};
use crate::device::cpu::{Mat, exp, gemm_serial};
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

    let tasks: Vec<(&QueryTile, usize)> =
        layout.query_tiles.iter().flat_map(|t| (0..heads.key_value).map(move |kv| (t, kv))).collect();
    let tiles: Vec<Vec<f32>> =
        cpu.run(|| tasks.par_iter().map(|&(tile, kv)| pass.query_gradient(tile, kv)).collect());
    for (&(tile, kv), computed) in tasks.iter().zip(&tiles) {
        put_heads(dq, heads.query * heads.width, heads.width, heads.queries_of(kv), &tile.rows, computed);
    }

    // A key that no query sees keeps a zero gradient.
    dk.values_mut().fill(0.0);
    dv.values_mut().fill(0.0);
    let tasks: Vec<(&KeyTile, usize)> =
        layout.key_tiles.iter().flat_map(|t| (0..heads.key_value).map(move |kv| (t, kv))).collect();
    let tiles: Vec<[Vec<f32>; 2]> =
        cpu.run(|| tasks.par_iter().map(|&(tile, kv)| pass.key_gradients(tile, kv)).collect());
    for (&(tile, kv), [of_k, of_v]) in tasks.iter().zip(&tiles) {
        let stride = heads.key_value * heads.width;
        put_heads(dk, stride, heads.width, kv..kv + 1, &tile.tokens, of_k);
        put_heads(dv, stride, heads.width, kv..kv + 1, &tile.tokens, of_v);
    }
}

struct Pass<'a> {
    heads: &'a Heads,
    layout: &'a Layout,
    saved: Saved<'a>,
    d_o: &'a Buffer,
    delta: &'a Buffer,
}

impl Pass<'_> {
    /// dQ of one tile, group x rows x E.
    fn query_gradient(&self, tile: &QueryTile, kv: usize) -> Vec<f32> {
        let (heads, saved) = (self.heads, self.saved);
        let keys = self.layout.keys_of(tile, heads);
        let (rows, seen) = (tile.rows.len(), keys.iter().map(Range::len).sum::<usize>());
        let mut scores = vec![0.0; rows * seen];
        let mut ds = vec![0.0; rows * seen];
        let mut dq = vec![0.0; heads.group() * rows * heads.width];
        for (i, head) in heads.queries_of(kv).enumerate() {
            scores_of(heads, self.layout, tile, &keys, saved.q, saved.k, kv, head, &mut scores);
            let d_o = heads.queries(self.d_o, head, tile.rows.clone());
            let mut column = 0;
            for range in &keys {
                let v = heads.keys(saved.v, kv, range.clone());
                gemm_serial(&mut ds[column..], seen, d_o, v.t(), 1.0, false);
                column += range.len();
            }
            for (r, row) in tile.rows.clone().enumerate() {
                let at = r * seen..(r + 1) * seen;
                self.score_gradient(row, head, &mut scores[at.clone()], &mut ds[at]);
            }
            let dq = &mut dq[i * rows * heads.width..(i + 1) * rows * heads.width];
            let mut column = 0;
            for range in &keys {
                let ds = Mat::strided(&ds[column..], rows, range.len(), seen);
                let k = heads.keys(saved.k, kv, range.clone());
                gemm_serial(dq, heads.width, ds, k, heads.scale, column > 0);
                column += range.len();
            }
        }
        dq
    }

    /// dK and dV of one tile, tokens x E each.
    fn key_gradients(&self, tile: &KeyTile, kv: usize) -> [Vec<f32>; 2] {
        let (heads, saved) = (self.heads, self.saved);
        let tokens = tile.tokens.len();
        let (mut dk, mut dv) = (vec![0.0; tokens * heads.width], vec![0.0; tokens * heads.width]);
        let (k, v) =
            (heads.keys(saved.k, kv, tile.tokens.clone()), heads.keys(saved.v, kv, tile.tokens.clone()));
        let (mut scores, mut ds) = (Vec::new(), Vec::new());
        for rows in self.layout.rows_of(tile, heads) {
            for head in heads.queries_of(kv) {
                scores.resize(rows.len() * tokens, 0.0);
                ds.resize(rows.len() * tokens, 0.0);
                let q = heads.queries(saved.q, head, rows.clone());
                let d_o = heads.queries(self.d_o, head, rows.clone());
                gemm_serial(&mut scores, tokens, q, k.t(), heads.scale, false);
                gemm_serial(&mut ds, tokens, d_o, v.t(), 1.0, false);
                for (r, row) in rows.clone().enumerate() {
                    let scores = &mut scores[r * tokens..(r + 1) * tokens];
                    hide(scores, &self.layout.seen(row, &tile.tokens, heads));
                    self.score_gradient(row, head, scores, &mut ds[r * tokens..(r + 1) * tokens]);
                }
                let (p, ds) = (Mat::new(&scores, rows.len(), tokens), Mat::new(&ds, rows.len(), tokens));
                gemm_serial(&mut dv, heads.width, p.t(), d_o, 1.0, true);
                gemm_serial(&mut dk, heads.width, ds.t(), q, heads.scale, true);
            }
        }
        [dk, dv]
    }

    /// Turns scores into p and dP into dS, for one row of one head.
    fn score_gradient(&self, row: usize, head: usize, scores: &mut [f32], ds: &mut [f32]) {
        let lse = self.saved.lse.row(row)[head];
        let delta = self.delta.row(row)[head];
        into_gradient(scores, ds, lse, delta);
    }
}

widest! {
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        simd::sum([x, y], |[x, y]| f64::from(x * y)) as f32
    }

    fn into_gradient(scores: &mut [f32], ds: &mut [f32], lse: f32, delta: f32) {
        for (score, ds) in scores.iter_mut().zip(ds) {
            *score = exp(*score - lse);
            *ds = *score * (*ds - delta);
        }
    }
}
