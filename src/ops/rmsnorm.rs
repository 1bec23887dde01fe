//! Root-mean-square norm of groups of consecutive values.
//!
//! ```text
//! y = x * rrms * g      rrms = 1 / sqrt(mean(x^2) + eps)      g = offset + w
//! dx = rrms * (dy g - x rrms^2 mean(dy g x))        dw = sum dy x rrms
//! ```
//!
//! A group is `w.cols()` wide: a whole row (D), or one head (E) of a row that holds several.
//! `offset` is 0, or 1 for Gemma. Sums of squares are kept in f64. dw, a sum over all groups, is computed only
//! where w is trained.
//! Source: Zhang & Sennrich 2019; docs/math.md#rmsnorm.

pub mod cuda;

use crate::device::cpu::simd::{self, widest};
use crate::device::{Buffer, Cost, Device, PartMut, Weight};

/// The gain of a norm and its constants.
#[derive(Clone, Copy, Debug)]
pub struct Gain<'a> {
    /// w, 1 x width.
    pub weight: &'a Weight,
    /// Added to w.
    pub offset: f32,
    /// Added to the mean square.
    pub eps: f32,
}

/// Norms each group of `x` into `y`; keeps 1/rms of each group, in order, in `rrms`.
pub fn forward(device: &Device, x: &Buffer, gain: Gain<'_>, y: &mut Buffer, rrms: &mut Buffer) {
    let width = gain.weight.cols();
    check(x, y, rrms, width);
    let _span = device.span("rmsnorm.forward", || Cost::moves(2 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let w = gain.weight.f32();
    let x = x.values();
    cpu.for_rows(rrms.values_mut(), 1, |i, out| {
        let group = &x[i * width..(i + 1) * width];
        let sum = sum_of_squares(group);
        out[0] = (1.0 / (sum / width as f64 + f64::from(gain.eps)).sqrt()) as f32;
    });
    let rrms = rrms.values();
    cpu.for_rows(y.values_mut(), width, |i, out| {
        scale_group(out, &x[i * width..(i + 1) * width], rrms[i], &w, gain.offset);
    });
}

/// y again, from x and the kept 1/rms: the same bits as [`forward`] gave.
pub fn again(device: &Device, x: &Buffer, rrms: &Buffer, gain: Gain<'_>, y: &mut Buffer) {
    let width = gain.weight.cols();
    check(x, y, rrms, width);
    let _span = device.span("rmsnorm.again", || Cost::moves(2 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let w = gain.weight.f32();
    let (x, rrms) = (x.values(), rrms.values());
    cpu.for_rows(y.values_mut(), width, |i, out| {
        scale_group(out, &x[i * width..(i + 1) * width], rrms[i], &w, gain.offset);
    });
}

/// `dx += ` the gradient through the norm.
pub fn backward(device: &Device, dy: &Buffer, x: &Buffer, rrms: &Buffer, gain: Gain<'_>, dx: &mut Buffer) {
    let width = gain.weight.cols();
    check(x, dx, rrms, width);
    assert_eq!((dy.rows(), dy.cols()), (x.rows(), x.cols()), "rmsnorm: dy shape");
    let _span = device.span("rmsnorm.backward", || Cost::moves(4 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let w = gain.weight.f32();
    let (dy, x, rrms) = (dy.values(), x.values(), rrms.values());
    cpu.for_rows(dx.values_mut(), width, |i, out| {
        let (dy, x) = (&dy[i * width..(i + 1) * width], &x[i * width..(i + 1) * width]);
        group_gradient(out, dy, x, rrms[i], &w, gain.offset);
    });
}

/// `dw += ` the gradient of the gain's weight.
pub fn gain_gradient(device: &Device, dy: &Buffer, x: &Buffer, rrms: &Buffer, mut dw: PartMut<'_>) {
    let width = dw.values_mut().len();
    check(x, dy, rrms, width);
    let _span = device.span("rmsnorm.gain_gradient", || Cost::moves(2 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let (dy, x, rrms) = (dy.values(), x.values(), rrms.values());
    cpu.add_column_sums(dw.values_mut(), rrms.len(), |i, sums| {
        let group = i * width..(i + 1) * width;
        for ((sum, &dy), &x) in sums.iter_mut().zip(&dy[group.clone()]).zip(&x[group]) {
            *sum += f64::from(dy) * f64::from(x * rrms[i]);
        }
    });
}

widest! {
    fn sum_of_squares(x: &[f32]) -> f64 {
        simd::sum([x], |[x]| f64::from(x) * f64::from(x))
    }

    fn scale_group(out: &mut [f32], x: &[f32], rrms: f32, w: &[f32], offset: f32) {
        for ((out, &x), &w) in out.iter_mut().zip(x).zip(w) {
            *out = x * rrms * (offset + w);
        }
    }

    fn group_gradient(dx: &mut [f32], dy: &[f32], x: &[f32], rrms: f32, w: &[f32], offset: f32) {
        let dot = simd::sum([dy, w, x], |[dy, w, x]| f64::from(dy * (offset + w)) * f64::from(x));
        let pull = (dot / x.len() as f64) as f32 * rrms * rrms;
        for (((dx, &dy), &x), &w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            *dx += rrms * (dy * (offset + w) - x * pull);
        }
    }
}

fn check(x: &Buffer, y: &Buffer, rrms: &Buffer, width: usize) {
    assert_eq!((y.rows(), y.cols()), (x.rows(), x.cols()), "rmsnorm: output shape");
    assert_eq!(x.cols() % width, 0, "rmsnorm: rows of {} do not hold groups of {width}", x.cols());
    assert_eq!(rrms.rows() * rrms.cols(), x.rows() * x.cols() / width, "rmsnorm: rrms shape");
}
