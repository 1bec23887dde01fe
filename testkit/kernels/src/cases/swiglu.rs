//! Both gates, with tails that fill no block. The truth is f64 on the same bf16 inputs.

use half::bf16;
use preceptor::base::Result;
use preceptor::ops::gated::{Activation, cuda};

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::inputs::scaled;

/// One thread; one below, at and above a warp and a block; a prime number of threads; a row of a real model.
const COUNTS: &[usize] = &[8, 248, 256, 264, 2040, 2048, 2056, 8 * 1009, 14_336];

/// Standard deviations of the inputs: usual ones, and such that the gate saturates on both sides.
const SCALES: &[f32] = &[1.0, 30.0];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for &count in COUNTS {
            for &scale in SCALES {
                let size = format!("{count} elements of size {scale}");
                cases.extend(both_ways(activation, &size, move || Inputs::of_size(count, scale)));
            }
        }
        cases.extend(both_ways(activation, "gates far below zero", move || Inputs::closed(activation)));
    }
    cases
}

fn both_ways(activation: Activation, what: &str, inputs: impl Fn() -> Inputs + Copy + 'static) -> [Case; 2] {
    [
        Case::new("swiglu", format!("forward, {activation:?}, {what}"), move |bench| {
            forward(bench, activation, &inputs())
        }),
        Case::new("swiglu", format!("backward, {activation:?}, {what}"), move |bench| {
            backward(bench, activation, &inputs())
        }),
    ]
}

struct Inputs {
    gate: Vec<f32>,
    up: Vec<f32>,
    dh: Vec<f32>,
}

impl Inputs {
    fn of_size(count: usize, scale: f32) -> Self {
        Self { gate: scaled(0, count, scale), up: scaled(1, count, scale), dh: scaled(2, count, 1.0) }
    }

    /// Gates where s is about 1e-7: a form that takes 1 - s or tanh on the way has no digit of it right. The
    /// other inputs are so large that it shows.
    fn closed(activation: Activation) -> Self {
        let (count, centre) = (1024, if activation == Activation::Silu { -16.0 } else { -5.0 });
        let gate = scaled(0, count, 0.1).into_iter().map(|g| bf16::from_f32(centre + g).to_f32());
        Self { gate: gate.collect(), up: scaled(1, count, 1e4), dh: scaled(2, count, 1e4) }
    }
}

fn forward(bench: &Bench, activation: Activation, inputs: &Inputs) -> Result<Outcome> {
    let Inputs { gate, up, .. } = inputs;
    let count = gate.len();
    let mut h = bench.buffer(count)?;
    cuda::forward(&bench.cuda, activation, &mut h, &bench.bf16(gate)?, &bench.bf16(up)?)?;
    let truth: Vec<f64> =
        gate.iter().zip(up).map(|(&g, &u)| at(activation, g.into()).0 * f64::from(u)).collect();
    let outcome = Outcome::of([Comparison::stored_in_bf16("h", &bench.download_bf16(&h)?, &truth)]);
    Ok(outcome.costing(count, 6 * count))
}

fn backward(bench: &Bench, activation: Activation, inputs: &Inputs) -> Result<Outcome> {
    let Inputs { gate, up, dh } = inputs;
    let count = gate.len();
    let (mut dgate, mut dup) = (bench.bf16(gate)?, bench.bf16(up)?);
    cuda::backward(&bench.cuda, activation, &bench.bf16(dh)?, &mut dgate, &mut dup)?;
    let (mut of_gate, mut of_up) = (Vec::new(), Vec::new());
    for ((&g, &u), &d) in gate.iter().zip(up).zip(dh) {
        let (value, slope) = at(activation, g.into());
        of_gate.push(f64::from(d) * f64::from(u) * slope);
        of_up.push(f64::from(d) * value);
    }
    let outcome = Outcome::of([
        Comparison::stored_in_bf16("dgate", &bench.download_bf16(&dgate)?, &of_gate),
        Comparison::stored_in_bf16("dup", &bench.download_bf16(&dup)?, &of_up),
    ]);
    Ok(outcome.costing(count, 10 * count))
}

/// The activation and its slope, in f64 and as the papers write them.
fn at(activation: Activation, g: f64) -> (f64, f64) {
    match activation {
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-g).exp());
            (g * s, s * (1.0 + g * (1.0 - s)))
        }
        Activation::GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let t = (scale * (g + 0.044_715 * g.powi(3))).tanh();
            let inner = scale * (1.0 + 3.0 * 0.044_715 * g * g);
            (0.5 * g * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * g * (1.0 - t * t) * inner)
        }
    }
}
