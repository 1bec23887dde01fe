//! The low-rank update of a linear.
//!
//! ```text
//! z = x * mask / (1 - p)           (dropout; z = x without)
//! xa = z A^T          y += s xa B^T
//! dxa = s dy B        dB += s dy^T xa        dA += dxa^T z        dx += (dxa A) * mask / (1 - p)
//! ```
//!
//! Shapes: x N x in, A R x in, B out x R, xa N x R, y N x out; s is alpha/R (rsLoRA: alpha/sqrt(R)).
//! Source: Hu et al. 2021 (LoRA); docs/math.md#lora. Cost: 2 N R (in + out) FLOPs forward, twice that backward.

pub mod cuda;

use crate::base::philox::Philox;
use crate::device::cpu::{Cpu, Mat};
use crate::device::{Buffer, Device, Part, PartMut};

/// One adapter's matrices and scale.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a> {
    /// A, R x in.
    pub a: Part<'a>,
    /// B, out x R.
    pub b: Part<'a>,
    /// R.
    pub rank: usize,
    /// s.
    pub scale: f32,
}

/// s B A, out x in: what the adapter adds to its linear's weight.
pub fn update(device: &Device, factors: Factors<'_>, outputs: usize, inputs: usize) -> Buffer {
    let Device::Cpu(cpu) = device;
    let (a, b) = (
        Mat::new(factors.a.values(), factors.rank, inputs),
        Mat::new(factors.b.values(), outputs, factors.rank),
    );
    let mut update = device.buffer(outputs, inputs);
    cpu.gemm(update.values_mut(), b, a, factors.scale, false);
    update
}

/// Which inputs of one module are dropped in one update.
///
/// The mask of an element depends on (seed, update, the example's place in the update, the token's place
/// in the example, module, feature) and on nothing else, so packing and micro-batches do not change it.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// The run's dropout stream.
    pub philox: &'a Philox,
    /// p, in (0, 1).
    pub rate: f32,
    /// Update number.
    pub update: u32,
    /// Number of the linear in the model.
    pub module: u32,
    /// (example's place in the update, token's place in the example) of each row, N.
    pub rows: &'a [(u32, u32)],
}

/// A feature is kept when its 32-bit number reaches this.
fn threshold(rate: f32) -> u32 {
    (f64::from(rate) * 4_294_967_296.0) as u32
}

/// 1 / (1 - p): what a kept feature is multiplied by.
fn gain(rate: f32) -> f32 {
    1.0 / (1.0 - rate)
}

impl Dropout<'_> {
    /// values *= mask / (1 - p)
    fn apply(&self, cpu: &Cpu, values: &mut [f32], cols: usize) {
        let (threshold, keep) = (threshold(self.rate), gain(self.rate));
        cpu.for_rows(values, cols, |row, values| {
            let (example, token) = self.rows[row];
            for (block, values) in values.chunks_mut(4).enumerate() {
                // 16 bits of module and 16 of feature block: 65536 linears, 262144 features
                let feature = self.module << 16 | block as u32;
                let numbers = self.philox.block([feature, token, example, self.update]);
                for (value, number) in values.iter_mut().zip(numbers) {
                    *value *= if number >= threshold { keep } else { 0.0 };
                }
            }
        });
    }

    /// A copy of `x` with the mask applied.
    fn dropped(&self, device: &Device, x: &Buffer) -> Buffer {
        let Device::Cpu(cpu) = device;
        let mut z = device.upload(x.values(), x.rows(), x.cols());
        self.apply(cpu, z.values_mut(), x.cols());
        z
    }
}

/// y += s z A^T B^T; keeps z A^T in `xa`.
pub fn forward(
    device: &Device,
    x: &Buffer,
    factors: Factors<'_>,
    dropout: Option<&Dropout<'_>>,
    xa: &mut Buffer,
    y: &mut Buffer,
) {
    let Device::Cpu(cpu) = device;
    let (n, r, inputs, outputs) = (x.rows(), factors.rank, x.cols(), y.cols());
    let (a, b) = (Mat::new(factors.a.values(), r, inputs), Mat::new(factors.b.values(), outputs, r));
    let dropped = dropout.map(|d| d.dropped(device, x));
    let z = dropped.as_ref().unwrap_or(x);
    cpu.gemm(xa.values_mut(), Mat::new(z.values(), n, inputs), a.t(), 1.0, false);
    cpu.gemm(y.values_mut(), Mat::new(xa.values(), n, r), b.t(), factors.scale, true);
}

/// Adds to the gradients of A, B and, if wanted, x.
pub fn backward(
    device: &Device,
    dy: &Buffer,
    x: &Buffer,
    xa: &Buffer,
    factors: Factors<'_>,
    dropout: Option<&Dropout<'_>>,
    mut da: PartMut<'_>,
    mut db: PartMut<'_>,
    dx: Option<&mut Buffer>,
) {
    let Device::Cpu(cpu) = device;
    let (n, r, inputs, outputs) = (x.rows(), factors.rank, x.cols(), dy.cols());
    let (a, b) = (Mat::new(factors.a.values(), r, inputs), Mat::new(factors.b.values(), outputs, r));
    let dy = Mat::new(dy.values(), n, outputs);

    let mut dxa = device.buffer(n, r);
    cpu.gemm(dxa.values_mut(), dy, b, factors.scale, false);
    cpu.gemm(db.values_mut(), dy.t(), Mat::new(xa.values(), n, r), factors.scale, true);

    let dxa = Mat::new(dxa.values(), n, r);
    let dropped = dropout.map(|d| d.dropped(device, x));
    let z = dropped.as_ref().unwrap_or(x);
    cpu.gemm(da.values_mut(), dxa.t(), Mat::new(z.values(), n, inputs), 1.0, true);

    match (dx, dropout) {
        (None, _) => {}
        (Some(dx), None) => cpu.gemm(dx.values_mut(), dxa, a, 1.0, true),
        (Some(dx), Some(dropout)) => {
            let mut dz = device.buffer(n, inputs);
            cpu.gemm(dz.values_mut(), dxa, a, 1.0, false);
            dropout.apply(cpu, dz.values_mut(), inputs);
            super::rows::add(device, &dz, dx);
        }
    }
}
