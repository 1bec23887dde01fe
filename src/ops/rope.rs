//! Rotary positions: each head's halves (u, v) turn by the angle position * frequency.
//!
//! ```text
//! u' = u cos - v sin        v' = v cos + u sin         (backward: the angle's negative)
//! ```
//!
//! Shapes: x N x (heads * E), in place; cos and sin P x E/2. The halves are the first and the last E/2
//! values of a head. Source: Su et al. 2021 (RoFormer), in the layout of Hugging Face checkpoints;
//! docs/math.md#rope.

use crate::device::{Buffer, Cost, Device};

/// cos and sin of every position up to the largest of a batch.
#[derive(Debug)]
pub struct Table {
    /// P x E/2 of (cos, sin) pairs, interleaved.
    angles: Buffer,
}

impl Table {
    /// Angles of positions `0..positions` for the given inverse frequencies (radians per position, E/2).
    ///
    /// Angles are rounded to f32 before cos and sin, as the models were trained.
    pub fn new(device: &Device, inverse_frequencies: &[f32], positions: usize) -> Self {
        let Device::Cpu(cpu) = device;
        let half = inverse_frequencies.len();
        let _span = device.span("rope.table", || Cost::moves(2 * half * positions));
        let mut angles = device.buffer(positions, 2 * half);
        cpu.for_rows(angles.values_mut(), 2 * half, |position, row| {
            for (pair, frequency) in row.chunks_exact_mut(2).zip(inverse_frequencies) {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                pair.copy_from_slice(&[cos, sin]);
            }
        });
        Self { angles }
    }
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By the angle.
    Forward,
    /// By its negative: the transpose, for gradients.
    Back,
}

/// Turns every head of every row of `x`, in place; row n has position `positions[n]`.
pub fn apply(device: &Device, x: &mut Buffer, positions: &[u32], table: &Table, turn: Turn) {
    let head = table.angles.cols();
    assert_eq!(positions.len(), x.rows(), "rope: one position a row");
    assert_eq!(x.cols() % head, 0, "rope: rows of {} do not hold heads of {head}", x.cols());
    let _span = device.span("rope.apply", || Cost::moves(2 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let cols = x.cols();
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    cpu.for_rows(x.values_mut(), cols, |n, row| {
        let angles = table.angles.row(positions[n] as usize);
        for head in row.chunks_exact_mut(head) {
            let (first, last) = head.split_at_mut(head.len() / 2);
            for ((u, v), pair) in first.iter_mut().zip(last).zip(angles.chunks_exact(2)) {
                let (cos, sin) = (pair[0], sign * pair[1]);
                (*u, *v) = (*u * cos - *v * sin, *v * cos + *u * sin);
            }
        }
    });
}
