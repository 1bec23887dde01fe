//! ```text
//! y[n] = scale * table[tokens[n]]
//! ```
//!
//! Shapes: table V x D (stored type), y N x D. Tokens must be below V.

use crate::device::{Buffer, Device, Weight};

/// Looks `tokens` up in `table`; `scale` is 1 but for Gemma.
pub fn forward(device: &Device, table: &Weight, tokens: &[u32], scale: f32, y: &mut Buffer) {
    assert_eq!((y.rows(), y.cols()), (tokens.len(), table.cols()), "embedding: output shape");
    let Device::Cpu(cpu) = device;
    let width = table.cols();
    cpu.for_rows(y.values_mut(), width, |n, row| {
        let token = tokens[n] as usize;
        for (out, value) in row.iter_mut().zip(table.rows_f32(token..token + 1).iter()) {
            *out = scale * value;
        }
    });
}
