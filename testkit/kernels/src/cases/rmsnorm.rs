//! Rows of a model's width, and heads. The truth is f64 on the same bf16 inputs.

use preceptor::base::Result;
use preceptor::ops::rmsnorm::cuda::{self, Residual};

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::inputs::{normal, scaled};

const EPS: f32 = 1e-5;

/// Groups and their width: one vector; one below, at and above what lanes, a warp and a block hold; widths of
/// models (576, 2048, 4096, 8192) and of heads (64, 80, 128, 256); more groups than a device has room for at once.
const SHAPES: &[(usize, usize)] = &[
    (1, 8),
    (37, 64),
    (13, 80),
    (33, 128),
    (3, 256),
    (1, 264),
    (5, 576),
    (2, 1016),
    (2, 1024),
    (3, 1032),
    (4, 2048),
    (3, 4096),
    (2, 8192),
    (1, cuda::MAX_WIDTH),
    (2048, 4096),
    (25_013, 64),
];

/// Groups whose gain is 1 + w, and groups so large or small that eps is nothing or all.
const INPUTS: &[Inputs] = &[
    Inputs { n: 3, d: 640, offset: 1.0, scale: 1.0 },
    Inputs { n: 9, d: 64, offset: 1.0, scale: 1.0 },
    Inputs { n: 3, d: 640, offset: 0.0, scale: 1e4 },
    Inputs { n: 3, d: 640, offset: 0.0, scale: 1e-4 },
];

pub(super) fn cases() -> Vec<Case> {
    let shapes = SHAPES.iter().map(|&(n, d)| Inputs { n, d, offset: 0.0, scale: 1.0 });
    let inputs = shapes.chain(INPUTS.iter().copied());
    inputs
        .flat_map(|i| {
            let name = |pass| format!("{pass}, {} x {} of size {}, gain {} + w", i.n, i.d, i.scale, i.offset);
            [
                Case::new("rmsnorm", name("forward"), move |bench| forward(bench, i)),
                Case::new("rmsnorm", name("backward"), move |bench| backward(bench, i, Beside::Residual)),
                Case::new("rmsnorm", name("backward in place"), move |bench| {
                    backward(bench, i, Beside::Itself)
                }),
                Case::new("rmsnorm", name("backward alone"), move |bench| {
                    backward(bench, i, Beside::Nothing)
                }),
            ]
        })
        .collect()
}

/// What the inputs are made from.
#[derive(Clone, Copy)]
struct Inputs {
    n: usize,
    d: usize,
    /// Of the gain.
    offset: f32,
    /// The standard deviation of x.
    scale: f32,
}

/// What the gradient is added to.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Itself,
    Residual,
}

fn forward(bench: &Bench, inputs: Inputs) -> Result<Outcome> {
    let Inputs { n, d, offset, scale } = inputs;
    let (x, w) = (scaled(0, n * d, scale), normal(1, d));
    let (mut y, mut rrms) = (bench.buffer(n * d)?, bench.buffer(n)?);
    cuda::forward(&bench.cuda, &mut y, &mut rrms, &bench.bf16(&x)?, &bench.bf16(&w)?, offset, EPS)?;
    let truth = Truth::of(&x, &w, offset);
    // Its size depends on that of x, so the factor is compared, not the value.
    let found = bench.download(&rrms)?;
    let factors: Vec<f32> = found.iter().zip(&truth.rrms).map(|(&s, t)| (f64::from(s) / t) as f32).collect();
    let outcome = Outcome::of([
        Comparison::stored_in_bf16("y", &bench.download_bf16(&y)?, &truth.y),
        Comparison::new("rrms / truth", &factors, &vec![1.0; n], &vec![1.0; n]),
    ]);
    Ok(outcome.costing(n * d, 4 * n * d + 2 * d + 4 * n))
}

fn backward(bench: &Bench, inputs: Inputs, beside: Beside) -> Result<Outcome> {
    let Inputs { n, d, offset, scale } = inputs;
    let (x, w, dy, old) = (scaled(0, n * d, scale), normal(1, d), normal(2, n * d), normal(3, n * d));
    let truth = Truth::of(&x, &w, offset);
    let rrms: Vec<f32> = truth.rrms.iter().map(|&s| s as f32).collect();
    let other = bench.bf16(&old)?;
    let (residual, start, added) = match beside {
        Beside::Nothing => (Residual::None, &dy, &vec![0.0; n * d]),
        Beside::Itself => (Residual::InPlace, &old, &old),
        Beside::Residual => (Residual::Of(&other), &dy, &old),
    };
    let mut dx = bench.bf16(start)?;
    let (dy_, x_, rrms, w_) = (bench.bf16(&dy)?, bench.bf16(&x)?, bench.upload(&rrms)?, bench.bf16(&w)?);
    cuda::backward(&bench.cuda, &mut dx, &dy_, &x_, &rrms, &w_, residual, offset)?;
    let truth = truth.gradient(&x, &w, &dy, added);
    let outcome = Outcome::of([Comparison::stored_in_bf16("dx", &bench.download_bf16(&dx)?, &truth)]);
    let tensors = if matches!(beside, Beside::Nothing) { 3 } else { 4 };
    Ok(outcome.costing(n * d, 2 * tensors * n * d + 2 * d + 4 * n))
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
