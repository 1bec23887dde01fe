//! The product for a few rows, as decoding has them: bound by reading W, which every row of x shares.
//!
//! A GEMM packs its operands first, which costs more here than it saves.

use rayon::prelude::*;

use crate::device::cpu::Cpu;
use crate::device::{Buffer, Device, Weight};

/// The most rows for which this is faster than the GEMM.
pub(super) const FEW: usize = 16;

/// Partial sums of a dot product: enough to fill vector registers.
const LANES: usize = 16;

/// y = x W^T + bias; every sum has one order, whatever the threads and the other rows.
pub(super) fn forward(
    device: &Device,
    cpu: &Cpu,
    x: &Buffer,
    w: &Weight,
    bias: Option<&[f32]>,
    y: &mut Buffer,
) {
    let (n, outputs) = (x.rows(), w.rows());
    // W is read in tasks of about 64 KiB, which stay in a core's cache when they are widened first
    let task = ((1 << 14) / w.cols()).max(1);
    let mut transposed = device.buffer(outputs, n);
    cpu.run(|| {
        transposed.values_mut().par_chunks_mut(task * n).enumerate().for_each(|(i, out)| {
            let first = i * task;
            let values = w.rows_f32(first..first + out.len() / n);
            for ((j, out), w) in out.chunks_exact_mut(n).enumerate().zip(values.chunks_exact(w.cols())) {
                let bias = bias.map_or(0.0, |bias| bias[first + j]);
                for (row, out) in out.iter_mut().enumerate() {
                    *out = bias + dot(x.row(row), w);
                }
            }
        });
    });
    let transposed = transposed.values();
    cpu.for_rows(y.values_mut(), outputs, |row, out| {
        for (out, values) in out.iter_mut().zip(transposed.chunks_exact(n)) {
            *out = values[row];
        }
    });
}

fn dot(x: &[f32], w: &[f32]) -> f32 {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (w, w_rest) = w.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, w) in x.iter().zip(w) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * w[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    x_rest.iter().zip(w_rest).fold(sums[0], |sum, (x, w)| sum + x * w)
}
