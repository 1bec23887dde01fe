//! The update must have the bits of the CPU form for the same clip; the norm must be that of f64.

use half::bf16;
use preceptor::base::Result;
use preceptor::ops::adamw::cuda::{self, Norm, State};
use preceptor::ops::adamw::{self, Constants};

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::inputs::{normal_f32, widen};

/// One element; tails of a vector; one below, at and above a partial sum; a prime that fills many blocks.
const PARAMS: &[usize] = &[1, 3, 4, 5, 1023, 8191, 8192, 8193, 100_003];

/// One partial sum more than a block has threads.
const MANY_PARAMS: usize = 256 * 8192 + 5;

/// Off, at work, and above every norm that occurs.
const MAX_NORMS: &[f64] = &[0.0, 0.5, 1e6];

const CONSTANTS: Constants = Constants {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.01,
    update: 3,
    clip: 1.0,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &params in PARAMS {
        for &max_norm in MAX_NORMS {
            let name = format!("update, {params} parameters, norm at most {max_norm}");
            cases.push(Case::new("adamw", name, move |bench| update(bench, params, max_norm)));
        }
    }
    let name = format!("update, {MANY_PARAMS} parameters");
    cases.push(Case::new("adamw", name, |bench| update(bench, MANY_PARAMS, 0.5)));
    // The last one is finite, and its square is not.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        let name = format!("update, a gradient of {bad:e}");
        cases.push(Case::new("adamw", name, move |bench| not_finite(bench, bad)));
    }
    cases
}

/// What an update leaves on the GPU.
struct After {
    p: Vec<f32>,
    p_bf16: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    norm: f32,
}

/// What an update starts from.
struct Before {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Before {
    fn new(params: usize) -> Self {
        let squares = normal_f32(3, params).into_iter().map(|x| 0.01 * x * x).collect();
        Self { p: normal_f32(0, params), g: normal_f32(1, params), m: normal_f32(2, params), v: squares }
    }

    fn run(&self, bench: &Bench, max_norm: f64) -> Result<After> {
        let (mut p, mut m, mut v) = (bench.upload(&self.p)?, bench.upload(&self.m)?, bench.upload(&self.v)?);
        let mut p_bf16 = bench.bf16(&vec![0.0; self.p.len()])?;
        let mut norm = Norm::new(&bench.cuda, self.p.len())?;
        let state = State { p: &mut p, p_bf16: &mut p_bf16, m: &mut m, v: &mut v };
        cuda::update(&bench.cuda, &CONSTANTS, max_norm, state, &bench.upload(&self.g)?, &mut norm)?;
        Ok(After {
            p: bench.download(&p)?,
            p_bf16: bench.download_bf16(&p_bf16)?,
            m: bench.download(&m)?,
            v: bench.download(&v)?,
            norm: norm.read(&bench.cuda)?,
        })
    }
}

fn update(bench: &Bench, params: usize, max_norm: f64) -> Result<Outcome> {
    let before = Before::new(params);
    let after = before.run(bench, max_norm)?;
    let norm = widen(&before.g).iter().map(|g| g * g).sum::<f64>().sqrt();

    // The device clips in f32 by its own norm; that factor must be the CPU form's but for the last bits, and
    // with it the update must be the CPU form's in all bits.
    let clip = if max_norm == 0.0 { 1.0 } else { (max_norm as f32 / (after.norm + 1e-6)).min(1.0) };
    let expected_clip = adamw::clip_factor(norm, max_norm);
    let upload = |values: &[f32]| bench.on_cpu(values, params);
    let (mut p, mut m, mut v) = (upload(&before.p), upload(&before.m), upload(&before.v));
    let constants = Constants { clip, ..CONSTANTS };
    let g = upload(&before.g);
    adamw::update(&bench.cpu, &constants, p.whole_mut(), g.whole(), m.whole_mut(), v.whole_mut());
    let rounded: Vec<f32> = p.values().iter().map(|&p| bf16::from_f32(p).to_f32()).collect();
    let outcome = Outcome::of([
        Comparison::new("norm / true norm", &[(f64::from(after.norm) / norm) as f32], &[1.0], &[1.0]),
        Comparison::new("clip / true clip", &[clip / expected_clip], &[1.0], &[1.0]),
        Comparison::exact("p", &after.p, p.values()),
        Comparison::exact("p in bf16", &after.p_bf16, &rounded),
        Comparison::exact("m", &after.m, m.values()),
        Comparison::exact("v", &after.v, v.values()),
    ]);
    let outcome = outcome.costing_of("adamw_norm_f32", params, 4 * params);
    Ok(outcome.costing_of("adamw_update_f32", params, 30 * params))
}

/// One element of the gradient spoils the norm: the host sees that, and nothing else has changed.
fn not_finite(bench: &Bench, bad: f32) -> Result<Outcome> {
    let mut before = Before::new(10_007);
    before.g[5000] = bad;
    let after = before.run(bench, 1.0)?;
    let norm = if bad.is_nan() { f64::NAN } else { f64::INFINITY };
    Ok(Outcome::of([
        Comparison::new("norm", &[after.norm], &[0.0], &[norm]),
        Comparison::exact("p", &after.p, &before.p),
        Comparison::exact("p in bf16", &after.p_bf16, &vec![0.0; before.p.len()]),
        Comparison::exact("m", &after.m, &before.m),
        Comparison::exact("v", &after.v, &before.v),
    ]))
}
