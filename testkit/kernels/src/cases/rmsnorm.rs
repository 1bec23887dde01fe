//! Rows of a model's width, and heads. The truth is f64 on the same bf16 inputs.

use preceptor::base::Result;
use preceptor::ops::rmsnorm::cuda::{self, Residual};

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::inputs::normal;

const EPS: f32 = 1e-5;

/// Groups and their width: one vector, one below and above what a block or a warp holds, real widths of
/// models (576, 2048, 4096) and heads (64, 128, 256).
const SHAPES: &[(usize, usize)] =
    &[(1, 8), (7, 64), (33, 128), (3, 256), (1, 264), (5, 576), (2, 1024), (3, 1032), (4, 2048), (3, 4096)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(n, d) in SHAPES {
        cases.push(Case::new("rmsnorm", format!("forward, {n} x {d}"), move |bench| {
            forward(bench, n, d, 0.0)
        }));
        cases.push(Case::new("rmsnorm", format!("backward, {n} x {d}"), move |bench| backward(bench, n, d)));
    }
    cases.push(Case::new("rmsnorm", "forward, gain 1 + w", |bench| forward(bench, 3, 640, 1.0)));
    cases
}

fn forward(bench: &Bench, n: usize, d: usize, offset: f32) -> Result<Outcome> {
    let (x, w) = (normal(0, n * d), normal(1, d));
    let (mut y, mut rrms) = (bench.buffer(n * d)?, bench.buffer(n)?);
    cuda::forward(&bench.cuda, &mut y, &mut rrms, &bench.bf16(&x)?, &bench.bf16(&w)?, offset, EPS)?;
    let truth = Truth::of(&x, &w, offset);
    let scale: Vec<f32> = truth.rrms.iter().map(|&s| s as f32).collect();
    let outcome = Outcome::of([
        Comparison::stored_in_bf16("y", &bench.download_bf16(&y)?, &truth.y),
        Comparison::new("rrms", &bench.download(&rrms)?, &scale, &truth.rrms),
    ]);
    Ok(outcome.costing(n * d, 4 * n * d + 2 * d + 4 * n))
}

fn backward(bench: &Bench, n: usize, d: usize) -> Result<Outcome> {
    let (x, w, dy, old) = (normal(0, n * d), normal(1, d), normal(2, n * d), normal(3, n * d));
    let truth = Truth::of(&x, &w, 0.0);
    let rrms: Vec<f32> = truth.rrms.iter().map(|&s| s as f32).collect();
    let (dy_, x_, w_) = (bench.bf16(&dy)?, bench.bf16(&x)?, bench.bf16(&w)?);
    let (rrms, old_) = (bench.upload(&rrms)?, bench.bf16(&old)?);
    let run = |start: &[f32], residual: Residual<'_>| {
        let mut dx = bench.bf16(start)?;
        cuda::backward(&bench.cuda, &mut dx, &dy_, &x_, &rrms, &w_, residual, 0.0)?;
        bench.download_bf16(&dx)
    };
    let sum = truth.gradient(&x, &w, &dy, &old);
    let alone = truth.gradient(&x, &w, &dy, &vec![0.0; n * d]);
    let outcome = Outcome::of([
        Comparison::stored_in_bf16("dx", &run(&dy, Residual::None)?, &alone),
        Comparison::stored_in_bf16("dx in place", &run(&old, Residual::InPlace)?, &sum),
        Comparison::stored_in_bf16("dx + residual", &run(&dy, Residual::Of(&old_))?, &sum),
    ]);
    Ok(outcome)
}

/// The equations of the kernel's head, in f64.
struct Truth {
    y: Vec<f64>,
    rrms: Vec<f64>,
    offset: f64,
}

impl Truth {
    fn of(x: &[f32], w: &[f32], offset: f32) -> Self {
        let offset = f64::from(offset);
        let (mut y, mut rrms) = (Vec::new(), Vec::new());
        for x in x.chunks(w.len()) {
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / w.len() as f64;
            let scale = 1.0 / (mean + f64::from(EPS)).sqrt();
            y.extend(x.iter().zip(w).map(|(&x, &w)| f64::from(x) * scale * (offset + f64::from(w))));
            rrms.push(scale);
        }
        Self { y, rrms, offset }
    }

    fn gradient(&self, x: &[f32], w: &[f32], dy: &[f32], residual: &[f32]) -> Vec<f64> {
        let d = w.len();
        let mut dx = Vec::new();
        for (n, &scale) in self.rrms.iter().enumerate() {
            let at = n * d..(n + 1) * d;
            let (x, dy, residual) = (&x[at.clone()], &dy[at.clone()], &residual[at]);
            let pulled: Vec<f64> =
                dy.iter().zip(w).map(|(&dy, &w)| f64::from(dy) * (self.offset + f64::from(w))).collect();
            let mean = pulled.iter().zip(x).map(|(p, &x)| p * f64::from(x)).sum::<f64>() / d as f64;
            let gradient =
                pulled.iter().zip(x).map(|(p, &x)| scale * (p - f64::from(x) * scale * scale * mean));
            dx.extend(gradient.zip(residual).map(|(g, &r)| g + f64::from(r)));
        }
        dx
    }
}
