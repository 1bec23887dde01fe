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

use crate::base::philox::{LANES, Philox};
use crate::device::cpu::Mat;
use crate::device::cpu::simd::widest;
use crate::device::{Buffer, Cost, Device, Part, PartMut};

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

/// Features whose numbers are made at once.
const RUN: usize = 4 * LANES;

/// One row's mask.
#[derive(Clone, Copy)]
struct RowMask<'a> {
    philox: &'a Philox,
    counter: [u32; 4],
    threshold: u32,
    gain: f32,
}

impl RowMask<'_> {
    /// mask / (1 - p) of the `RUN` features from `run * RUN` on.
    #[inline(always)]
    fn factors(&self, run: usize) -> [f32; RUN] {
        let [first, token, example, update] = self.counter;
        let numbers = self.philox.blocks([first + (run * LANES) as u32, token, example, update]);
        let mut factors = [0.0; RUN];
        for (block, factors) in factors.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (factor, numbers) in factors.iter_mut().zip(&numbers) {
                *factor = if numbers[block] >= self.threshold { self.gain } else { 0.0 };
            }
        }
        factors
    }
}

widest! {
    /// z = x mask / (1 - p)
    fn drop_row(mask: RowMask<'_>, x: &[f32], z: &mut [f32]) {
        for (run, (x, z)) in x.chunks(RUN).zip(z.chunks_mut(RUN)).enumerate() {
            for ((z, x), factor) in z.iter_mut().zip(x).zip(mask.factors(run)) {
                *z = x * factor;
            }
        }
    }

    /// As [`drop_row`], and dx += dz mask / (1 - p).
    fn drop_row_both_ways(mask: RowMask<'_>, x: &[f32], dz: &[f32], z: &mut [f32], dx: &mut [f32]) {
        let (inputs, outputs) = (x.chunks(RUN).zip(dz.chunks(RUN)), z.chunks_mut(RUN).zip(dx.chunks_mut(RUN)));
        for (run, ((x, dz), (z, dx))) in inputs.zip(outputs).enumerate() {
            let factors = mask.factors(run);
            for ((z, x), factor) in z.iter_mut().zip(x).zip(factors) {
                *z = x * factor;
            }
            for ((dx, dz), factor) in dx.iter_mut().zip(dz).zip(factors) {
                *dx += dz * factor;
            }
        }
    }
}

impl Dropout<'_> {
    fn of_row(&self, row: usize) -> RowMask<'_> {
        let (example, token) = self.rows[row];
        // 16 bits of module and 16 of feature block: 65536 linears, 262144 features
        let counter = [self.module << 16, token, example, self.update];
        RowMask { philox: self.philox, counter, threshold: threshold(self.rate), gain: gain(self.rate) }
    }

    /// z
    fn forward(&self, device: &Device, x: &Buffer) -> Buffer {
        let Device::Cpu(cpu) = device;
        let mut z = device.buffer(x.rows(), x.cols());
        cpu.for_rows(z.values_mut(), x.cols(), |row, z| drop_row(self.of_row(row), x.row(row), z));
        z
    }

    /// z again; the gradient by it goes on to x. The mask is made once for both.
    fn backward(&self, device: &Device, x: &Buffer, dz: &Buffer, dx: &mut Buffer) -> Buffer {
        let Device::Cpu(cpu) = device;
        let mut z = device.buffer(x.rows(), x.cols());
        cpu.for_row_pairs(z.values_mut(), dx.values_mut(), x.cols(), |row, z, dx| {
            drop_row_both_ways(self.of_row(row), x.row(row), dz.row(row), z, dx);
        });
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
    let _span = device.span("lora.forward", || {
        let flops = (2 * n * r * (inputs + outputs)) as f64;
        Cost { flops, ..Cost::moves(n * (inputs + r + 2 * outputs) + r * (inputs + outputs)) }
    });
    let (a, b) = (Mat::new(factors.a.values(), r, inputs), Mat::new(factors.b.values(), outputs, r));
    let dropped = dropout.map(|d| d.forward(device, x));
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
    let _span = device.span("lora.backward", || {
        let back = if dx.is_some() { inputs } else { 0 };
        let flops = (2 * n * r * (inputs + back + 2 * outputs)) as f64;
        Cost { flops, ..Cost::moves(n * (inputs + r + outputs + 2 * back) + 3 * r * (inputs + outputs)) }
    });
    let (a, b) = (Mat::new(factors.a.values(), r, inputs), Mat::new(factors.b.values(), outputs, r));
    let dy = Mat::new(dy.values(), n, outputs);

    let mut dxa = device.buffer(n, r);
    cpu.gemm(dxa.values_mut(), dy, b, factors.scale, false);
    cpu.gemm(db.values_mut(), dy.t(), Mat::new(xa.values(), n, r), factors.scale, true);

    let dxa = Mat::new(dxa.values(), n, r);
    let dropped = match (dx, dropout) {
        (None, None) => None,
        (None, Some(dropout)) => Some(dropout.forward(device, x)),
        (Some(dx), None) => {
            cpu.gemm(dx.values_mut(), dxa, a, 1.0, true);
            None
        }
        (Some(dx), Some(dropout)) => {
            let mut dz = device.buffer(n, inputs);
            cpu.gemm(dz.values_mut(), dxa, a, 1.0, false);
            Some(dropout.backward(device, x, &dz, dx))
        }
    };
    let z = dropped.as_ref().unwrap_or(x);
    cpu.gemm(da.values_mut(), dxa.t(), Mat::new(z.values(), n, inputs), 1.0, true);
}
