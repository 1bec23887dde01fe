//! The gated middle of a feed-forward block.
//!
//! ```text
//! m = act(g) u        du = dm act(g)        dg = dm u act'(g)
//! silu(g) = g / (1 + e^-g)
//! gelu_tanh(g) = g/2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3)))
//! ```
//!
//! Shapes: all N x F. Sources: Shazeer 2020 (SwiGLU, GeGLU); Hendrycks & Gimpel 2016 (GELU and its tanh form);
//! docs/math.md#gated.

pub mod cuda;

use crate::device::cpu::exp;
use crate::device::cpu::simd::widest;
use crate::device::{Buffer, Cost, Device};

/// The gate's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// SiLU, also called swish.
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

const GELU_SCALE: f32 = 0.797_884_6; // sqrt(2/pi)
const GELU_CUBE: f32 = 0.044_715;

impl Activation {
    /// act(g) and act'(g)
    #[inline(always)]
    fn value_and_slope(self, g: f32) -> (f32, f32) {
        match self {
            Self::Silu => {
                let s = 1.0 / (1.0 + exp(-g));
                (g * s, s * (1.0 + g * (1.0 - s)))
            }
            Self::GeluTanh => {
                let t = tanh(GELU_SCALE * (g + GELU_CUBE * g * g * g));
                let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * g * g);
                (0.5 * g * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * g * (1.0 - t * t) * inner)
            }
        }
    }
}

/// Its slope is at most 1, so that what the exponential is off by stays below a rounding of 1.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

widest! {
    fn forward_row(activation: Activation, m: &mut [f32], g: &[f32], u: &[f32]) {
        for ((m, &g), &u) in m.iter_mut().zip(g).zip(u) {
            *m = activation.value_and_slope(g).0 * u;
        }
    }

    fn backward_row(activation: Activation, dm: &[f32], g: &mut [f32], u: &mut [f32]) {
        for ((g, u), &dm) in g.iter_mut().zip(u).zip(dm) {
            let (value, slope) = activation.value_and_slope(*g);
            (*g, *u) = (dm * *u * slope, dm * value);
        }
    }
}

/// m = act(g) u
pub fn forward(device: &Device, activation: Activation, g: &Buffer, u: &Buffer, m: &mut Buffer) {
    let _span = device.span("gated.forward", || Cost::moves(3 * m.values().len()));
    let Device::Cpu(cpu) = device;
    let (cols, g, u) = (m.cols(), g.values(), u.values());
    cpu.for_rows(m.values_mut(), cols, |n, row| {
        let at = n * cols..(n + 1) * cols;
        forward_row(activation, row, &g[at.clone()], &u[at]);
    });
}

/// Turns g and u into their gradients, in place.
pub fn backward(device: &Device, activation: Activation, dm: &Buffer, g: &mut Buffer, u: &mut Buffer) {
    let _span = device.span("gated.backward", || Cost::moves(5 * dm.values().len()));
    let Device::Cpu(cpu) = device;
    let (cols, dm) = (dm.cols(), dm.values());
    cpu.for_row_pairs(g.values_mut(), u.values_mut(), cols, |n, g, u| {
        backward_row(activation, &dm[n * cols..(n + 1) * cols], g, u);
    });
}
