//! The product with a frozen weight.
//!
//! ```text
//! y = x W^T + b        dx = dy W
//! ```
//!
//! Shapes: x N x in, W out x in (stored type, widened as it is used), b out, y N x out. No dW: W is frozen.
//! Cost: 2 N in out FLOPs each way.

pub mod cuda;
mod few_rows;

use crate::device::cpu::Mat;
use crate::device::{Buffer, Device, Weight};

/// y = x W^T (+ b)
pub fn forward(device: &Device, x: &Buffer, w: &Weight, bias: Option<&Weight>, y: &mut Buffer) {
    assert_eq!((x.cols(), y.cols(), y.rows()), (w.cols(), w.rows(), x.rows()), "linear: shapes");
    let Device::Cpu(cpu) = device;
    let (n, outputs) = (x.rows(), w.rows());
    if (1..=few_rows::FEW).contains(&n) {
        few_rows::forward(device, cpu, x, w, bias.map(Weight::f32).as_deref(), y);
        return;
    }
    if let Some(bias) = bias {
        let b = bias.f32();
        cpu.for_rows(y.values_mut(), outputs, |_, row| row.copy_from_slice(&b));
    }
    let values = w.f32();
    let (x, w) = (Mat::new(x.values(), n, w.cols()), Mat::new(&values, outputs, w.cols()));
    cpu.gemm(y.values_mut(), x, w.t(), 1.0, bias.is_some());
}

/// `dx += dy W`
pub fn backward(device: &Device, dy: &Buffer, w: &Weight, dx: &mut Buffer) {
    assert_eq!((dy.cols(), dx.cols(), dx.rows()), (w.rows(), w.cols(), dy.rows()), "linear: gradient shapes");
    let Device::Cpu(cpu) = device;
    let values = w.f32();
    let (dy, w) = (Mat::new(dy.values(), dy.rows(), w.rows()), Mat::new(&values, w.rows(), w.cols()));
    cpu.gemm(dx.values_mut(), dy, w, 1.0, true);
}
