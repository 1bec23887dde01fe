//! ```text
//! y[n] = scale * table[tokens[n]]        d_table[tokens[n]] += scale * dy[n]
//! ```
//!
//! Shapes: table V x D (stored type), y N x D. Tokens must be below V. The gradient is computed only where the
//! table is trained.

use crate::device::{Buffer, Cost, Device, PartMut, Weight};

/// Looks `tokens` up in `table`; `scale` is 1 but for Gemma.
pub fn forward(device: &Device, table: &Weight, tokens: &[u32], scale: f32, y: &mut Buffer) {
    assert_eq!((y.rows(), y.cols()), (tokens.len(), table.cols()), "embedding: output shape");
    let _span = device.span("embedding.forward", || Cost::moves(2 * tokens.len() * table.cols()));
    let Device::Cpu(cpu) = device;
    let width = table.cols();
    cpu.for_rows(y.values_mut(), width, |n, row| {
        let token = tokens[n] as usize;
        for (out, value) in row.iter_mut().zip(table.rows_f32(token..token + 1).iter()) {
            *out = scale * value;
        }
    });
}

/// Adds the gradient of `table` to `d_table`: one token after the other, so that a row's sum has one order.
pub fn backward(device: &Device, dy: &Buffer, tokens: &[u32], scale: f32, mut d_table: PartMut<'_>) {
    assert_eq!(dy.rows(), tokens.len(), "embedding: gradient shape");
    let _span = device.span("embedding.backward", || Cost::moves(3 * tokens.len() * dy.cols()));
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let width = dy.cols();
    for (n, &token) in tokens.iter().enumerate() {
        let at = token as usize * width;
        for (sum, dy) in d_table.values_mut()[at..at + width].iter_mut().zip(dy.row(n)) {
            *sum += scale * dy;
        }
    }
}
