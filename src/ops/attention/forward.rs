//! The forward pass: one task a (query tile, key-value head).
//!
//! Keys come a block at a time, and what a row has summed is rescaled when a block raises its largest score
//! (Milakov and Gimelshein 2018), so that scores never leave the innermost cache, however long the context is.

use rayon::prelude::*;

use super::block::{KEYS, LANES, ROWS, Turned};
use super::layout::{QueryTile, cut};
use super::seen::Seen;
use super::shares::{put, shares};
use super::{Heads, Layout};
use crate::device::cpu::simd::widest;
use crate::device::cpu::{Mat, exp, thin};
use crate::device::{Buffer, Device};

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
    let tiles = || layout.query_tiles.iter().map(|tile| &tile.rows);
    let o = shares(o.values_mut(), heads.key_value, heads.group() * heads.width, tiles());
    let lse = shares(lse.values_mut(), heads.key_value, heads.group(), tiles());
    let tasks: Vec<_> = layout.tasks(&layout.query_tiles, heads).zip(o.into_iter().zip(lse)).collect();
    cpu.run(|| {
        tasks.into_par_iter().with_max_len(1).for_each(|((tile, kv), (o, lse))| {
            let Summed { output, lse: computed } = compute(heads, layout, tile, kv, q, k, v);
            put(o, &output, heads.width);
            put(lse, &computed, 1);
        });
    });
}

/// What one task computes, for each query head of the group.
struct Summed {
    output: Vec<f32>, // group x rows x E
    lse: Vec<f32>,    // group x rows
}

/// The largest score of a row so far, and its exponentials' sum relative to that.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f64,
}

fn compute(
    heads: &Heads,
    layout: &Layout,
    tile: &QueryTile,
    kv: usize,
    q: &Buffer,
    k: &Buffer,
    v: &Buffer,
) -> Summed {
    let (rows, width) = (tile.rows.len(), heads.width);
    let mut softmax = vec![Softmax { max: f32::NEG_INFINITY, sum: 0.0 }; heads.group() * rows];
    let mut output = vec![0.0; softmax.len() * width];
    let (mut turned, mut scores) = (Turned::new(width), [0.0; ROWS * KEYS]);
    for keys in layout.keys_of(tile, heads).into_iter().flat_map(|range| cut(range, KEYS)) {
        turned.fill(heads.keys(k, kv, keys.clone()));
        let seen = Seen::new(layout, heads, tile.rows.clone(), &keys);
        for block in cut(0..rows, ROWS) {
            let columns = seen.columns_of(block.clone());
            if columns.is_empty() {
                continue;
            }
            let real = columns.start..columns.end.min(keys.len());
            let values = heads.keys(v, kv, keys.start + real.start..keys.start + real.end);
            for (i, head) in heads.queries_of(kv).enumerate() {
                let scores = &mut scores[..block.len() * columns.len()];
                let of_head = heads.queries(q, head, seen.queries(&block));
                thin(scores, columns.len(), of_head, turned.columns(&columns), heads.scale, false);
                let output = &mut output[(i * rows + block.start) * width..][..block.len() * width];
                let by_row = scores.chunks_mut(columns.len()).zip(output.chunks_mut(width));
                for (row, (scores, output)) in block.clone().zip(by_row) {
                    if !seen.any(row) {
                        scores.fill(0.0);
                        continue;
                    }
                    seen.hide(row, &columns, scores);
                    let gain = add(scores, &mut softmax[i * rows + row]);
                    if gain != 1.0 {
                        scale(output, gain);
                    }
                }
                let p = Mat::strided(scores, block.len(), real.len(), columns.len());
                thin(output, width, p, values, 1.0, true);
            }
        }
    }
    for (softmax, output) in softmax.iter().zip(output.chunks_mut(width)) {
        scale(output, (1.0 / softmax.sum) as f32);
    }
    let lse = softmax.iter().map(|softmax| (f64::from(softmax.max) + softmax.sum.ln()) as f32).collect();
    Summed { output, lse }
}

/// All lanes in one, in three steps instead of seven.
#[inline(always)]
fn tree<T: Copy>(x: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let x: [T; 4] = std::array::from_fn(|i| join(x[i], x[i + 4]));
    join(join(x[0], x[2]), join(x[1], x[3]))
}

widest! {
    /// Turns scores into exponentials relative to the largest so far, and adds them to the sum; returns the factor
    /// that brings what was summed before to the same scale.
    fn add(scores: &mut [f32], softmax: &mut Softmax) -> f32 {
        let vectors = scores.as_chunks_mut::<LANES>().0;
        let mut largest = [softmax.max; LANES];
        for vector in &*vectors {
            for (largest, &score) in largest.iter_mut().zip(vector) {
                *largest = if score > *largest { score } else { *largest };
            }
        }
        let max = tree(largest, f32::max);
        for vector in &mut *vectors {
            for score in vector {
                *score = exp(*score - max);
            }
        }
        // not in one loop with the exponentials, whose vectors its wider numbers would halve
        let mut sums = [0.0; LANES];
        for vector in vectors {
            for (sum, &p) in sums.iter_mut().zip(&*vector) {
                *sum += f64::from(p);
            }
        }
        let gain = exp(softmax.max - max);
        softmax.sum = softmax.sum * f64::from(gain) + tree(sums, |x, y| x + y);
        softmax.max = max;
        gain
    }

    fn scale(values: &mut [f32], factor: f32) {
        for value in values {
            *value *= factor;
        }
    }
}
