//! The LM head fused with the loss: logits exist for a chunk of rows at a time, never for all.
//!
//! ```text
//! z = h W^T        lse = ln sum_v e^z_v
//! l = w (lse - (1 - eps) z_y - eps/V sum_v z_v)
//! dz = w (softmax(z) - (1 - eps) 1_y - eps/V)         dh = dz W         dW = dz^T h
//! ```
//!
//! Shapes: h S x D, W V x D, dh S x D; dW is computed only where W is trained. A row may carry several targets (examples that share
//! a prefix); their losses and gradients add. Sums over V run in f64. eps: Szegedy et al. 2016;
//! docs/math.md#cross_entropy.
//! Cost: 2 S V D FLOPs forward, as much again for each of dh and dW; S/chunk passes over W.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::cpu::simd::{self, widest};
use crate::device::cpu::{Mat, exp};
use crate::device::{Buffer, Cost, Device, PartMut, Weight};
use crate::ops::linear::{self, Linear};

/// One loss at a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The row of h.
    pub row: u32,
    /// y, below V.
    pub token: u32,
    /// w.
    pub weight: f32,
    /// eps, in [0, 1).
    pub smoothing: f32,
}

/// Where gradients go.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// The hidden states': overwritten.
    pub dh: &'a mut Buffer,
    /// The head's, where it is trained: added to.
    pub dw: Option<PartMut<'a>>,
}

/// The loss of each target, not weighted; with `gradients`, also those of `scale` times the weighted sum.
///
/// `targets` ascend by row.
pub fn forward(
    device: &Device,
    h: &Buffer,
    head: &Weight,
    targets: &[Target],
    scale: f32,
    mut gradients: Option<Gradients<'_>>,
) -> Vec<f64> {
    assert!(targets.is_sorted_by_key(|t| t.row), "targets ascend by row");
    let Device::Cpu(cpu) = device;
    let (rows, width, vocabulary) = (h.rows(), h.cols(), head.rows());
    let _span = device.span("cross_entropy.forward", || cost(rows, width, vocabulary, gradients.as_ref()));
    if !cpu.computes() {
        drop(device.buffer(rows_per_chunk(vocabulary).min(rows), vocabulary));
        return vec![0.0; targets.len()];
    }
    let values = head.f32();
    let w = Mat::new(&values, vocabulary, width);
    let chunk_rows = rows_per_chunk(vocabulary);
    let mut losses = Vec::with_capacity(targets.len());
    for first in (0..rows).step_by(chunk_rows) {
        let chunk = first..(first + chunk_rows).min(rows);
        let mut z = device.buffer(chunk.len(), vocabulary);
        let h = Mat::new(&h.values()[chunk.start * width..chunk.end * width], chunk.len(), width);
        cpu.gemm(z.values_mut(), h, w.t(), 1.0, false);
        losses.extend(chunk_losses(device, &mut z, chunk.clone(), targets, scale, gradients.is_some()));
        if let Some(Gradients { dh, dw }) = &mut gradients {
            let dh = &mut dh.values_mut()[chunk.start * width..chunk.end * width];
            let dz = Mat::new(z.values(), chunk.len(), vocabulary);
            cpu.gemm(dh, dz, w, 1.0, false);
            if let Some(dw) = dw {
                cpu.gemm(dw.values_mut(), dz.t(), h, 1.0, true);
            }
        }
    }
    losses
}

/// Logits of chosen tokens at a row, `h[row] . W[token]`, without the rest of the vocabulary.
pub fn logits_at(device: &Device, h: &Buffer, head: &Weight, row: usize, tokens: &[u32]) -> Vec<f32> {
    let _span = device.span("cross_entropy.logits_at", || Cost::product(1, h.cols(), tokens.len()));
    let Device::Cpu(_) = device;
    let dot = |token: u32| {
        let w = head.rows_f32(token as usize..token as usize + 1);
        h.row(row).iter().zip(w.iter()).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
    };
    tokens.iter().map(|&token| dot(token)).collect()
}

/// All logits, S x V: for tools and tests; training never asks.
pub fn logits(device: &Device, h: &Buffer, head: &Weight) -> Buffer {
    let mut z = device.buffer(h.rows(), head.rows());
    linear::forward(device, h, &[Linear::plain(head)], std::slice::from_mut(&mut z));
    z
}

/// h and W are read once, dh is written once, dW read and written; logits need no memory.
fn cost(rows: usize, width: usize, vocabulary: usize, gradients: Option<&Gradients<'_>>) -> Cost {
    let of_head = gradients.is_some_and(|gradients| gradients.dw.is_some());
    let products = 1 + usize::from(gradients.is_some()) + usize::from(of_head);
    let flops = (2 * products) as f64 * (rows * width * vocabulary) as f64;
    let hidden = rows * (1 + usize::from(gradients.is_some()));
    let head = vocabulary * (1 + 2 * usize::from(of_head));
    Cost { flops, ..Cost::moves((hidden + head) * width) }
}

/// About 32 MiB of logits at a time.
fn rows_per_chunk(vocabulary: usize) -> usize {
    ((8 << 20) / vocabulary).clamp(8, 512)
}

/// Losses of the targets in `rows`; turns z into dz when gradients are wanted.
fn chunk_losses(
    device: &Device,
    z: &mut Buffer,
    rows: Range<usize>,
    targets: &[Target],
    scale: f32,
    gradients: bool,
) -> Vec<f64> {
    let Device::Cpu(cpu) = device;
    let of_row = |row: usize| {
        let from = targets.partition_point(|t| (t.row as usize) < row);
        &targets[from..from + targets[from..].partition_point(|t| t.row as usize == row)]
    };
    let vocabulary = z.cols();
    let per_row: Vec<Vec<f64>> = cpu.run(|| {
        let z_rows = z.values_mut().par_chunks_mut(vocabulary).enumerate();
        z_rows
            .map(|(i, z)| {
                let targets = of_row(rows.start + i);
                let lse = log_sum_exp(z);
                let mean = sum(z) / vocabulary as f64;
                let loss = |t: &Target| {
                    let eps = f64::from(t.smoothing);
                    lse - (1.0 - eps) * f64::from(z[t.token as usize]) - eps * mean
                };
                let losses = targets.iter().map(loss).collect();
                if gradients {
                    into_gradient(z, lse, targets, scale);
                }
                losses
            })
            .collect()
    });
    per_row.concat()
}

widest! {
    /// NaN if a logit is NaN or the largest is infinite: `max` ignores NaN, the sum of exponentials does not.
    fn log_sum_exp(z: &[f32]) -> f64 {
        let max = simd::max(z);
        f64::from(max) + simd::sum([z], |[v]| f64::from(exp(v - max))).ln()
    }

    fn sum(z: &[f32]) -> f64 {
        simd::sum([z], |[v]| f64::from(v))
    }

    fn softmax_less(z: &mut [f32], lse: f32, weight: f32, spread: f32) {
        for z in z {
            *z = weight * exp(*z - lse) - spread;
        }
    }
}

fn into_gradient(z: &mut [f32], lse: f64, targets: &[Target], scale: f32) {
    let weight: f32 = targets.iter().map(|t| t.weight * scale).sum();
    let spread: f32 = targets.iter().map(|t| t.weight * scale * t.smoothing).sum::<f32>() / z.len() as f32;
    softmax_less(z, lse as f32, weight, spread);
    for t in targets {
        z[t.token as usize] -= t.weight * scale * (1.0 - t.smoothing);
    }
}
