//! The product with a weight.
//!
//! ```text
//! y = x W^T + b        dx = dy W        dW = dy^T x        db = sum_n dy
//! ```
//!
//! Shapes: x N x in, W out x in (stored type, widened as it is used), b out, y N x out. dW and db are computed
//! only where W is trained. Cost: 2 N in out FLOPs for each of y, dx and dW.

pub mod cuda;
mod few_rows;

use crate::device::cpu::Mat;
use crate::device::{Buffer, Cost, Device, PartMut, Weight};

/// y = x W^T (+ b)
pub fn forward(device: &Device, x: &Buffer, w: &Weight, bias: Option<&Weight>, y: &mut Buffer) {
    assert_eq!((x.cols(), y.cols(), y.rows()), (w.cols(), w.rows(), x.rows()), "linear: shapes");
    let _span = device.span("linear.forward", || Cost::product(x.rows(), w.cols(), w.rows()));
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
    let _span = device.span("linear.backward", || {
        Cost::product(dy.rows(), w.rows(), w.cols()) + Cost::moves(dx.values().len())
    });
    let Device::Cpu(cpu) = device;
    let values = w.f32();
    let (dy, w) = (Mat::new(dy.values(), dy.rows(), w.rows()), Mat::new(&values, w.rows(), w.cols()));
    cpu.gemm(dx.values_mut(), dy, w, 1.0, true);
}

/// `dW += dy^T x`
pub fn weight_gradient(device: &Device, dy: &Buffer, x: &Buffer, mut dw: PartMut<'_>) {
    let (n, inputs, outputs) = (x.rows(), x.cols(), dy.cols());
    assert_eq!((dy.rows(), dw.values_mut().len()), (n, outputs * inputs), "linear: weight gradient shapes");
    let _span = device
        .span("linear.weight_gradient", || Cost::product(outputs, n, inputs) + Cost::moves(outputs * inputs));
    let Device::Cpu(cpu) = device;
    let (dy, x) = (Mat::new(dy.values(), n, outputs), Mat::new(x.values(), n, inputs));
    cpu.gemm(dw.values_mut(), dy.t(), x, 1.0, true);
}

/// `db += sum_n dy`
pub fn bias_gradient(device: &Device, dy: &Buffer, mut db: PartMut<'_>) {
    assert_eq!(db.values_mut().len(), dy.cols(), "linear: bias gradient shape");
    let _span = device.span("linear.bias_gradient", || Cost::moves(dy.values().len()));
    let Device::Cpu(cpu) = device;
    cpu.add_column_sums(db.values_mut(), dy.rows(), |row, sums| {
        for (sum, &dy) in sums.iter_mut().zip(dy.row(row)) {
            *sum += f64::from(dy);
        }
    });
}
