//! Kernels at the shapes of real models, ready to be launched again and again: what benches time.

use half::bf16;
use preceptor::base::Result;
use preceptor::device::cuda::{Cuda, Element, Slice};
use preceptor::ops::adamw::Constants;
use preceptor::ops::gated::Activation;
use preceptor::ops::linear::cuda::{Matrix, MatrixMut, Write};
use preceptor::ops::rmsnorm::cuda::Residual;
use preceptor::ops::{adamw, gated, linear, lora, rmsnorm};

use crate::inputs::normal;

/// One kernel at one shape.
pub struct Work {
    /// The op and the shape.
    pub name: String,
    /// The floor: bytes that must move, each tensor once.
    pub bytes: usize,
    /// The floor: FLOPs of the equation.
    pub flops: usize,
    launch: Launch,
}

type Launch = Box<dyn FnMut(&Cuda) -> Result<()>>;

impl Work {
    fn new(
        name: String,
        bytes: usize,
        flops: usize,
        launch: impl FnMut(&Cuda) -> Result<()> + 'static,
    ) -> Self {
        Self { name, bytes, flops, launch: Box::new(launch) }
    }

    /// Queues it `times` times; milliseconds on the device.
    pub fn time_ms(&mut self, cuda: &Cuda, times: u64) -> Result<f64> {
        cuda.elapsed_ms(|| (0..times).try_for_each(|_| (self.launch)(cuda)))
    }
}

/// Sizes of a bench.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tokens.
    pub n: usize,
    /// Width of the model.
    pub d: usize,
    /// Width of the feed-forward.
    pub f: usize,
    /// Trained parameters.
    pub params: usize,
}

/// An 8-billion-parameter model's layer and a batch that fills a GPU.
pub const LARGE: Shape = Shape { n: 8192, d: 4096, f: 14336, params: 40_000_000 };
/// Small enough for the stand-in; the numbers mean nothing, the path is the same.
pub const SMALL: Shape = Shape { n: 32, d: 256, f: 512, params: 10_000 };

/// The rank of adapters.
const R: usize = 16;

/// Every kernel at a shape, one after the other, so that one work's memory is free before the next one starts.
pub const WORKS: &[fn(&Cuda, Shape) -> Result<Work>] = &[
    rmsnorm_forward,
    rmsnorm_backward,
    swiglu_forward,
    swiglu_backward,
    adamw_update,
    gemm_forward,
    gemm_backward,
    lora_forward,
    lora_gradient_a,
];

/// bf16 values: a short random run, repeated. Values decide no time, but denormals and NaN would.
fn tensor(cuda: &Cuda, len: usize) -> Result<Slice<bf16>> {
    let run = normal(1, len.min(4096));
    cuda.upload(&run.iter().cycle().take(len).map(|&x| bf16::from_f32(x)).collect::<Vec<_>>())
}

fn zeros<T: Element>(cuda: &Cuda, len: usize) -> Result<Slice<T>> {
    cuda.zeros(len)
}

fn rmsnorm_forward(cuda: &Cuda, Shape { n, d, .. }: Shape) -> Result<Work> {
    let (x, w) = (tensor(cuda, n * d)?, tensor(cuda, d)?);
    let (mut y, mut rrms) = (zeros(cuda, n * d)?, zeros(cuda, n)?);
    Ok(Work::new(format!("rmsnorm/forward {n}x{d}"), 4 * n * d + 2 * d + 4 * n, 4 * n * d, move |cuda| {
        rmsnorm::cuda::forward(cuda, &mut y, &mut rrms, &x, &w, 0.0, 1e-5)
    }))
}

fn rmsnorm_backward(cuda: &Cuda, Shape { n, d, .. }: Shape) -> Result<Work> {
    let (x, w, dy) = (tensor(cuda, n * d)?, tensor(cuda, d)?, tensor(cuda, n * d)?);
    let rrms = cuda.upload(&vec![1.0f32; n])?;
    let mut dx = zeros(cuda, n * d)?;
    Ok(Work::new(format!("rmsnorm/backward {n}x{d}"), 6 * n * d + 2 * d + 4 * n, 8 * n * d, move |cuda| {
        rmsnorm::cuda::backward(cuda, &mut dx, &dy, &x, &rrms, &w, Residual::None, 0.0)
    }))
}

fn swiglu_forward(cuda: &Cuda, Shape { n, f, .. }: Shape) -> Result<Work> {
    let (gate, up, mut h) = (tensor(cuda, n * f)?, tensor(cuda, n * f)?, zeros(cuda, n * f)?);
    Ok(Work::new(format!("swiglu/forward {n}x{f}"), 6 * n * f, 6 * n * f, move |cuda| {
        gated::cuda::forward(cuda, Activation::Silu, &mut h, &gate, &up)
    }))
}

fn swiglu_backward(cuda: &Cuda, Shape { n, f, .. }: Shape) -> Result<Work> {
    let (dh, mut gate, mut up) = (tensor(cuda, n * f)?, tensor(cuda, n * f)?, tensor(cuda, n * f)?);
    Ok(Work::new(format!("swiglu/backward {n}x{f}"), 10 * n * f, 12 * n * f, move |cuda| {
        gated::cuda::backward(cuda, Activation::Silu, &dh, &mut gate, &mut up)
    }))
}

fn adamw_update(cuda: &Cuda, Shape { params, .. }: Shape) -> Result<Work> {
    let (mut p, mut p_bf16) = (zeros(cuda, params)?, zeros(cuda, params)?);
    let (mut m, mut v) = (zeros(cuda, params)?, zeros(cuda, params)?);
    let g =
        cuda.upload(&normal(2, params.min(4096)).into_iter().cycle().take(params).collect::<Vec<f32>>())?;
    let mut norm = adamw::cuda::Norm::new(cuda, params)?;
    let constants = Constants {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        update: 1,
        clip: 1.0,
    };
    // g is read twice, once for the norm
    Ok(Work::new(format!("adamw/update {params}"), 34 * params, 16 * params, move |cuda| {
        let state = adamw::cuda::State { p: &mut p, p_bf16: &mut p_bf16, m: &mut m, v: &mut v };
        adamw::cuda::update(cuda, &constants, 1.0, state, &g, &mut norm)
    }))
}

fn gemm_forward(cuda: &Cuda, Shape { n, d, f, .. }: Shape) -> Result<Work> {
    let (x, w, mut y) = (tensor(cuda, n * d)?, tensor(cuda, f * d)?, zeros::<bf16>(cuda, n * f)?);
    let bytes = 2 * (n * d + f * d + n * f);
    Ok(Work::new(format!("linear/forward {n}x{d}x{f}"), bytes, 2 * n * d * f, move |cuda| {
        let y = MatrixMut::new(&mut y, f);
        linear::cuda::forward(cuda, y, Matrix::new(&x, d), Matrix::new(&w, d), None, None, Write::Set)
    }))
}

fn gemm_backward(cuda: &Cuda, Shape { n, d, f, .. }: Shape) -> Result<Work> {
    let (dy, w, mut dx) = (tensor(cuda, n * f)?, tensor(cuda, f * d)?, zeros::<bf16>(cuda, n * d)?);
    let bytes = 2 * (n * d + f * d + n * f);
    Ok(Work::new(format!("linear/backward {n}x{f}x{d}"), bytes, 2 * n * d * f, move |cuda| {
        let dx = MatrixMut::new(&mut dx, d);
        linear::cuda::backward(cuda, dx, Matrix::new(&dy, f), Matrix::new(&w, d), None, Write::Set)
    }))
}

fn lora_forward(cuda: &Cuda, Shape { n, d, .. }: Shape) -> Result<Work> {
    let (x, a, mut xa) = (tensor(cuda, n * d)?, tensor(cuda, 3 * R * d)?, zeros(cuda, n * 3 * R)?);
    let bytes = 2 * (n * d + 3 * R * d + n * 3 * R);
    Ok(Work::new(format!("lora/forward {n}x{d}x3*{R}"), bytes, 6 * n * d * R, move |cuda| {
        let xa = MatrixMut::new(&mut xa, 3 * R);
        lora::cuda::forward(cuda, xa, Matrix::new(&x, d), Matrix::new(&a, d), 1.0, None)
    }))
}

fn lora_gradient_a(cuda: &Cuda, Shape { n, d, .. }: Shape) -> Result<Work> {
    let (x, dxa) = (tensor(cuda, n * d)?, tensor(cuda, n * 3 * R)?);
    let mut da = zeros(cuda, 3 * R * d)?;
    let mut partial = zeros(cuda, lora::cuda::partial_len(n, d, 3 * R))?;
    let bytes = 2 * (n * d + n * 3 * R) + 4 * 3 * R * d;
    Ok(Work::new(format!("lora/gradient_a {n}x{d}x3*{R}"), bytes, 6 * n * d * R, move |cuda| {
        lora::cuda::gradient_a(
            cuda,
            &mut da,
            Matrix::new(&x, d),
            Matrix::new(&dxa, 3 * R),
            None,
            &mut partial,
        )
    }))
}
