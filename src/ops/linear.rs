//! The product with a weight, the adapter's part included, for all linears that read the same x.
//!
//! ```text
//! y = x W^T + b + s xa B^T        dx = sum over linears of dy W + dxa A        dW = dy^T x        db = sum_n dy
//! ```
//!
//! Shapes: x N x in, W out x in (stored type, widened as it is used), b out, y N x out, xa and dxa N x R (`ops::lora`). dW
//! and db are computed only where W is trained. Cost: 2 N in out FLOPs for each of y, dx and dW, and 2 N R in or out for
//! the adapter's part, which is added while a tile of y or dx is in cache.

pub mod cuda;
mod few_rows;

use std::borrow::Cow;
use std::ops::Add;

use crate::device::cpu::{Cpu, Mat, Sum, Term};
use crate::device::{Buffer, Cost, Device, Part, PartMut, Weight};

/// A linear as the forward pass reads it.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// W.
    pub weight: &'a Weight,
    /// b.
    pub bias: Option<&'a Weight>,
    /// What its adapter adds: xa and B.
    pub adapter: Option<Adapter<'a>>,
}

impl<'a> Linear<'a> {
    /// A weight alone.
    pub fn plain(weight: &'a Weight) -> Self {
        Self { weight, bias: None, adapter: None }
    }
}

/// A linear as the backward pass reads it.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// dy.
    pub dy: &'a Buffer,
    /// W.
    pub weight: &'a Weight,
    /// What its adapter adds: dxa and A.
    pub adapter: Option<Adapter<'a>>,
}

/// What an adapter adds to its linear, in the same sums.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// xa forward, dxa backward: N x R.
    pub narrow: &'a Buffer,
    /// B (out x R) forward, A (R x in) backward.
    pub factor: Part<'a>,
    /// s forward, 1 backward, where dxa holds it.
    pub scale: f32,
}

/// What becomes of the output's old content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is overwritten.
    Set,
    /// It is added.
    Add,
}

/// y of each linear.
pub fn forward(device: &Device, x: &Buffer, linears: &[Linear<'_>], ys: &mut [Buffer]) {
    assert_eq!(linears.len(), ys.len(), "linear: one y a linear");
    for (linear, y) in linears.iter().zip(&*ys) {
        let (weight, shape) = (linear.weight, (x.cols(), y.cols(), y.rows()));
        assert_eq!(shape, (weight.cols(), weight.rows(), x.rows()), "linear: shapes");
    }
    let _span = device.span("linear.forward", || {
        let of_linears = linears.iter().map(|linear| cost(x.rows(), linear.weight, linear.adapter));
        of_linears.fold(Cost::moves(x.values().len()), Cost::add)
    });
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let step = widened_at_a_time(linears.iter().map(|linear| linear.weight));
    for (linears, ys) in linears.chunks(step).zip(ys.chunks_mut(step)) {
        if (1..=few_rows::FEW).contains(&x.rows()) {
            linears.iter().zip(ys).for_each(|(linear, y)| of_few_rows(device, cpu, x, linear, y));
            continue;
        }
        let weights: Vec<Cow<'_, [f32]>> = linears.iter().map(|linear| linear.weight.f32()).collect();
        let mut sums = Vec::with_capacity(linears.len());
        for ((linear, weight), y) in linears.iter().zip(&weights).zip(ys) {
            if let Some(bias) = linear.bias {
                let b = bias.f32();
                cpu.for_rows(y.values_mut(), b.len(), |_, row| row.copy_from_slice(&b));
            }
            let outputs = y.cols();
            let mut terms = vec![Term::new(Mat::of(x), Mat::new(weight, outputs, x.cols()).t())];
            terms.extend(linear.adapter.map(|adapter| adapter.onto_outputs(outputs)));
            sums.push(Sum { out: y.values_mut(), terms, accumulate: linear.bias.is_some() });
        }
        cpu.sums(sums);
    }
}

/// dx of linears that read the same x.
pub fn backward(device: &Device, linears: &[Back<'_>], dx: &mut Buffer, write: Write) {
    for Back { dy, weight, .. } in linears {
        let shape = (dy.cols(), dx.cols(), dy.rows());
        assert_eq!(shape, (weight.rows(), weight.cols(), dx.rows()), "linear: gradient shapes");
    }
    let _span = device.span("linear.backward", || {
        let written = dx.values().len() * if write == Write::Add { 2 } else { 1 };
        let of_linears = linears.iter().map(|linear| cost(dx.rows(), linear.weight, linear.adapter));
        of_linears.fold(Cost::moves(written), Cost::add)
    });
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let step = widened_at_a_time(linears.iter().map(|linear| linear.weight));
    for (i, linears) in linears.chunks(step).enumerate() {
        let weights: Vec<Cow<'_, [f32]>> = linears.iter().map(|linear| linear.weight.f32()).collect();
        let inputs = dx.cols();
        let mut terms = Vec::with_capacity(2 * linears.len());
        for (Back { dy, adapter, .. }, weight) in linears.iter().zip(&weights) {
            terms.push(Term::new(Mat::of(dy), Mat::new(weight, dy.cols(), inputs)));
            terms.extend(adapter.map(|adapter| adapter.onto_inputs(inputs)));
        }
        cpu.sums(vec![Sum { out: dx.values_mut(), terms, accumulate: i > 0 || write == Write::Add }]);
    }
}

/// `dW += dy^T x`
pub fn weight_gradient(device: &Device, dy: &Buffer, x: &Buffer, mut dw: PartMut<'_>) {
    let (n, inputs, outputs) = (x.rows(), x.cols(), dy.cols());
    assert_eq!((dy.rows(), dw.values_mut().len()), (n, outputs * inputs), "linear: weight gradient shapes");
    let _span = device
        .span("linear.weight_gradient", || Cost::product(outputs, n, inputs) + Cost::moves(outputs * inputs));
    let Device::Cpu(cpu) = device;
    cpu.gemm(dw.values_mut(), Mat::of(dy).t(), Mat::of(x), 1.0, true);
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

/// A linear's products and all that they read and write but for x or dx, which linears share.
fn cost(n: usize, weight: &Weight, adapter: Option<Adapter<'_>>) -> Cost {
    let outputs = weight.rows();
    let (factor, rank) = adapter.map_or((0, 0), |a| (a.factor.values().len(), a.narrow.cols()));
    let factors = outputs * weight.cols() + factor;
    Cost { flops: 2.0 * n as f64 * factors as f64, ..Cost::moves(factors + n * (outputs + rank)) }
}

impl<'a> Adapter<'a> {
    /// s xa B^T
    fn onto_outputs(self, outputs: usize) -> Term<'a> {
        let b = Mat::new(self.factor.values(), outputs, self.narrow.cols());
        Term { a: Mat::of(self.narrow), b: b.t(), scale: self.scale }
    }

    /// dxa A
    fn onto_inputs(self, inputs: usize) -> Term<'a> {
        let a = Mat::new(self.factor.values(), self.narrow.cols(), inputs);
        Term { a: Mat::of(self.narrow), b: a, scale: self.scale }
    }
}

/// Weights that are stored as f32 are read where they are, all at once; of others, one copy exists at a time.
fn widened_at_a_time<'a>(mut weights: impl ExactSizeIterator<Item = &'a Weight>) -> usize {
    let all = weights.len();
    if weights.all(Weight::is_f32) { all.max(1) } else { 1 }
}

fn of_few_rows(device: &Device, cpu: &Cpu, x: &Buffer, linear: &Linear<'_>, y: &mut Buffer) {
    few_rows::forward(device, cpu, x, linear.weight, linear.bias.map(Weight::f32).as_deref(), y);
    if let Some(adapter) = linear.adapter {
        let terms = vec![adapter.onto_outputs(y.cols())];
        cpu.sums(vec![Sum { out: y.values_mut(), terms, accumulate: true }]);
    }
}
