//! The low-rank update of linears that read the same x.
//!
//! ```text
//! z = x * mask / (1 - p)           (dropout; z = x without)
//! xa = z A^T          y += s xa B^T
//! dxa = s dy B        dB += s dy^T xa        dA += dxa^T z        dx += (dxa A) * mask / (1 - p)
//! ```
//!
//! Shapes: x N x in, A R x in, B out x R, xa N x R, y N x out; s is alpha/R (rsLoRA: alpha/sqrt(R)). What is added to y
//! and, without dropout, to dx is one more term of the linear's own sums: see `ops::linear`.
//! Source: Hu et al. 2021 (LoRA); docs/math.md#lora. Cost: 2 N R (in + out) FLOPs forward, twice that backward.

pub mod cuda;

use std::ops::Add;

use crate::base::philox::{LANES, Philox};
use crate::device::cpu::simd::widest;
use crate::device::cpu::{Mat, Sum};
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
    let mut update = device.buffer(outputs, inputs);
    cpu.gemm(update.values_mut(), factors.b(outputs), factors.a(inputs), factors.scale, false);
    update
}

impl<'a> Factors<'a> {
    fn a(self, inputs: usize) -> Mat<'a> {
        Mat::new(self.a.values(), self.rank, inputs)
    }

    fn b(self, outputs: usize) -> Mat<'a> {
        Mat::new(self.b.values(), outputs, self.rank)
    }
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

/// An adapter as the forward pass reads it.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// A, B and s.
    pub factors: Factors<'a>,
    /// Its mask, in training with dropout.
    pub dropout: Option<Dropout<'a>>,
}

/// An adapter as the backward pass reads it.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// The gradient of its linear's output.
    pub dy: &'a Buffer,
    /// What the forward pass kept.
    pub xa: &'a Buffer,
    /// The adapter.
    pub adapter: Adapter<'a>,
}

/// xa = z A^T of each adapter.
pub fn forward(device: &Device, x: &Buffer, adapters: &[Adapter<'_>], xas: &mut [Buffer]) {
    let _span = device.span("lora.forward", || {
        let rank: usize = adapters.iter().map(|adapter| adapter.factors.rank).sum();
        Cost::product(x.rows(), x.cols(), rank)
    });
    let Device::Cpu(cpu) = device;
    let mut of_all = Vec::with_capacity(adapters.len());
    for (Adapter { factors, dropout }, xa) in adapters.iter().zip(xas) {
        let a = factors.a(x.cols()).t();
        match dropout {
            None => of_all.push(Sum::of(xa.values_mut(), Mat::of(x), a, 1.0, false)),
            Some(dropout) => {
                let z = dropout.forward(device, x);
                cpu.gemm(xa.values_mut(), Mat::of(&z), a, 1.0, false);
            }
        }
    }
    cpu.sums(of_all);
}

/// dxa of each adapter; adds to the gradients of B.
pub fn backward_b(device: &Device, backs: &[Back<'_>], mut dbs: Vec<PartMut<'_>>) -> Vec<Buffer> {
    let _span = device.span("lora.backward_b", || {
        let of_adapter = |back: &Back<'_>| {
            let (n, outputs, rank) = (back.dy.rows(), back.dy.cols(), back.xa.cols());
            let moved = n * outputs + 2 * n * rank + 3 * outputs * rank;
            Cost { flops: 4.0 * (n * outputs * rank) as f64, ..Cost::moves(moved) }
        };
        backs.iter().map(of_adapter).fold(Cost::default(), Cost::add)
    });
    let Device::Cpu(cpu) = device;
    let dxa = |back: &Back<'_>| device.buffer(back.xa.rows(), back.xa.cols());
    let mut dxas: Vec<Buffer> = backs.iter().map(dxa).collect();
    let mut sums = Vec::with_capacity(2 * backs.len());
    for ((Back { dy, xa, adapter }, dxa), db) in backs.iter().zip(&mut dxas).zip(&mut dbs) {
        let Factors { scale, .. } = adapter.factors;
        sums.push(Sum::of(dxa.values_mut(), Mat::of(dy), adapter.factors.b(dy.cols()), scale, false));
        sums.push(Sum::of(db.values_mut(), Mat::of(dy).t(), Mat::of(xa), scale, true));
    }
    cpu.sums(sums);
    dxas
}

/// Adds to the gradients of A and, where inputs were dropped and it is wanted, to that of x. Without dropout,
/// `ops::linear` adds dxa A.
pub fn backward_a(
    device: &Device,
    x: &Buffer,
    backs: &[Back<'_>],
    dxas: &[Buffer],
    mut das: Vec<PartMut<'_>>,
    mut dx: Option<&mut Buffer>,
) {
    let _span = device.span("lora.backward_a", || {
        let (n, inputs) = (x.rows(), x.cols());
        let of_adapter = |back: &Back<'_>| {
            let (rank, through) = (back.xa.cols(), dx.is_some() && back.adapter.dropout.is_some());
            let through = usize::from(through);
            let flops = (2 * (1 + through) * n * inputs * rank) as f64;
            Cost { flops, ..Cost::moves(rank * (n + 2 * inputs) + through * (rank + 2 * n) * inputs) }
        };
        backs.iter().map(of_adapter).fold(Cost::moves(n * inputs), Cost::add)
    });
    let Device::Cpu(cpu) = device;
    let mut of_all = Vec::with_capacity(backs.len());
    for ((Back { adapter, .. }, dxa), da) in backs.iter().zip(dxas).zip(&mut das) {
        let Some(dropout) = adapter.dropout else {
            of_all.push(Sum::of(da.values_mut(), Mat::of(dxa).t(), Mat::of(x), 1.0, true));
            continue;
        };
        let z = match dx.as_deref_mut() {
            None => dropout.forward(device, x),
            Some(dx) => {
                let mut dz = device.buffer(x.rows(), x.cols());
                cpu.gemm(dz.values_mut(), Mat::of(dxa), adapter.factors.a(x.cols()), 1.0, false);
                dropout.backward(device, x, &dz, dx)
            }
        };
        cpu.gemm(da.values_mut(), Mat::of(dxa).t(), Mat::of(&z), 1.0, true);
    }
    cpu.sums(of_all);
}
