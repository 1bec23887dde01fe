//! Kernels at the shapes of real models, ready to be launched again and again: what benches time.

use half::bf16;
use preceptor::base::Result;
use preceptor::device::cuda::{Cuda, Element, Kernel, Slice};
use preceptor::ops::adamw::Constants;
use preceptor::ops::attention::cuda::{Plan, Saved};
use preceptor::ops::attention::{Heads, Layout};
use preceptor::ops::gated::Activation;
use preceptor::ops::linear::cuda::{Adapter, Matrix, MatrixMut, Write};
use preceptor::ops::rmsnorm::cuda::Residual;
use preceptor::ops::{adamw, attention, gated, linear, lora, rmsnorm};
use preceptor::tensor::Forest;

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

type Make = dyn Fn(&Cuda) -> Result<Work>;
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
pub const LARGE: Shape = Shape { n: 16384, d: 4096, f: 14336, params: 40_000_000 };
/// Small enough for the stand-in; the numbers mean nothing, the path is the same.
pub const SMALL: Shape = Shape { n: 32, d: 256, f: 512, params: 10_000 };

/// The rank of adapters.
const R: usize = 16;

/// A work to be made: its memory is free again before the next one is made.
pub struct Prepare {
    /// The kernel file.
    pub file: &'static str,
    make: Box<Make>,
}

impl Prepare {
    fn new(file: &'static str, make: impl Fn(&Cuda) -> Result<Work> + 'static) -> Self {
        Self { file, make: Box::new(make) }
    }

    /// Makes it.
    pub fn work(&self, cuda: &Cuda) -> Result<Work> {
        (self.make)(cuda)
    }
}

/// Every kernel at a shape, products by each of the kernels that the GPU runs.
pub fn works(cuda: &Cuda, shape: Shape) -> Vec<Prepare> {
    let of = |file, make: fn(&Cuda, Shape) -> Result<Work>| Prepare::new(file, move |cuda| make(cuda, shape));
    let mut works = vec![
        of("rmsnorm", rmsnorm_forward),
        of("rmsnorm", rmsnorm_backward),
        of("swiglu", swiglu_forward),
        of("swiglu", swiglu_backward),
        of("adamw", adamw_update),
        of("lora/forward", lora_forward),
        of("lora/backward", lora_gradient_xa),
        of("lora/backward", lora_gradient_b),
        of("lora/backward", lora_gradient_a),
    ];
    for &kernel in Kernel::all(cuda) {
        let file = if kernel == Kernel::Hopper { "hopper/gemm" } else { "gemm" };
        for (d, f) in [(shape.d, shape.f), (SMOLLM2.0, SMOLLM2.1), (SMOLLM2.0, SMOLLM2.0)] {
            let shape = Shape { d, f, ..shape };
            works.push(Prepare::new(file, move |cuda| linear_forward(cuda, shape, kernel, 0)));
            works.push(Prepare::new(file, move |cuda| linear_forward(cuda, shape, kernel, R)));
            works.push(Prepare::new(file, move |cuda| linear_backward(cuda, shape, kernel)));
        }
    }
    for (width, answers) in [(64, None), (128, None), (128, Some(ANSWERS))] {
        for &kernel in attention::cuda::kernels(cuda, width) {
            let [forward, backward] = match kernel {
                Kernel::Portable => ["attention/forward", "attention/backward"],
                Kernel::Hopper => ["hopper/attention/forward", "hopper/attention/backward"],
            };
            works.push(Prepare::new(forward, move |cuda| {
                attention_forward(cuda, shape, width, answers, kernel)
            }));
            works.push(Prepare::new(backward, move |cuda| {
                attention_backward(cuda, shape, width, answers, kernel)
            }));
        }
    }
    works
}

/// Widths of SmolLM2-135M's products: what a small model asks.
const SMOLLM2: (usize, usize) = (576, 1536);
/// Tokens of a sequence; with shared prompts, half of them are the prompt's.
const SEQUENCE: usize = 2048;
/// Answers that share a prompt, and the rest of the sequence.
const ANSWERS: usize = 8;
/// Query heads, and those that share keys and values.
const HEADS: (usize, usize) = (32, 8);

/// Length of the random run that inputs repeat: a prime, so that no two rows of a matrix are alike. Equal or simple values
/// would save the GPU power, and where power is the limit also time.
const RUN: usize = 1_000_003;

/// Normal values.
fn values(seed: u64, len: usize) -> impl Iterator<Item = f32> {
    let run = normal(seed, len.min(RUN));
    (0..len).map(move |i| run[i % run.len()])
}

fn tensor(cuda: &Cuda, len: usize) -> Result<Slice<bf16>> {
    cuda.upload(&values(1, len).map(bf16::from_f32).collect::<Vec<_>>())
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
    let g = cuda.upload(&values(2, params).collect::<Vec<f32>>())?;
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

fn linear_forward(cuda: &Cuda, Shape { n, d, f, .. }: Shape, kernel: Kernel, rank: usize) -> Result<Work> {
    let (x, w, mut y) = (tensor(cuda, n * d)?, tensor(cuda, f * d)?, zeros::<bf16>(cuda, n * f)?);
    let (xa, b) = (tensor(cuda, n * rank)?, tensor(cuda, f * rank)?);
    let bytes = 2 * (n * (d + rank) + f * (d + rank) + n * f);
    let plus = if rank > 0 { format!("+{rank}") } else { String::new() };
    let name = format!("linear/forward{plus} {n}x{d}x{f}{}", by(kernel));
    Ok(Work::new(name, bytes, 2 * n * (d + rank) * f, move |cuda| {
        let (y, x, w) = (MatrixMut::new(&mut y, f), Matrix::new(&x, d), Matrix::new(&w, d));
        let adapter =
            || Adapter { narrow: Matrix::new(&xa, rank), factor: Matrix::new(&b, rank), keep: None };
        let adapter = (rank > 0).then(adapter);
        linear::cuda::forward_by(kernel, cuda, y, x, w, None, adapter, Write::Set)
    }))
}

fn linear_backward(cuda: &Cuda, Shape { n, d, f, .. }: Shape, kernel: Kernel) -> Result<Work> {
    let (dy, w, mut dx) = (tensor(cuda, n * f)?, tensor(cuda, f * d)?, zeros::<bf16>(cuda, n * d)?);
    let bytes = 2 * (n * d + f * d + n * f);
    let name = format!("linear/backward {n}x{f}x{d}{}", by(kernel));
    Ok(Work::new(name, bytes, 2 * n * d * f, move |cuda| {
        let (dx, dy, w) = (MatrixMut::new(&mut dx, d), Matrix::new(&dy, f), Matrix::new(&w, d));
        linear::cuda::backward_by(kernel, cuda, dx, dy, w, None, Write::Set)
    }))
}

fn by(kernel: Kernel) -> &'static str {
    if kernel == Kernel::Hopper { " by wgmma" } else { "" }
}

fn lora_forward(cuda: &Cuda, Shape { n, d, .. }: Shape) -> Result<Work> {
    let (x, a, mut xa) = (tensor(cuda, n * d)?, tensor(cuda, 3 * R * d)?, zeros(cuda, n * 3 * R)?);
    let bytes = 2 * (n * d + 3 * R * d + n * 3 * R);
    Ok(Work::new(format!("lora/forward {n}x{d}x3*{R}"), bytes, 6 * n * d * R, move |cuda| {
        let xa = MatrixMut::new(&mut xa, 3 * R);
        lora::cuda::forward(cuda, xa, Matrix::new(&x, d), Matrix::new(&a, d), 1.0, None)
    }))
}

fn lora_gradient_xa(cuda: &Cuda, Shape { n, f, .. }: Shape) -> Result<Work> {
    let (dy, b, mut dxa) = (tensor(cuda, n * f)?, tensor(cuda, f * R)?, zeros(cuda, n * R)?);
    let bytes = 2 * (n * f + f * R + n * R);
    Ok(Work::new(format!("lora/gradient_xa {n}x{f}x{R}"), bytes, 2 * n * f * R, move |cuda| {
        let dxa = MatrixMut::new(&mut dxa, R);
        lora::cuda::gradient_xa(cuda, dxa, Matrix::new(&dy, f), Matrix::new(&b, R), 1.0, 0.0)
    }))
}

fn lora_gradient_b(cuda: &Cuda, Shape { n, f, .. }: Shape) -> Result<Work> {
    let (dy, xa, mut db) = (tensor(cuda, n * f)?, tensor(cuda, n * R)?, zeros(cuda, f * R)?);
    let mut partial = zeros(cuda, lora::cuda::partial_len(n, f, R))?;
    let bytes = 2 * (n * f + n * R) + 4 * f * R;
    Ok(Work::new(format!("lora/gradient_b {n}x{f}x{R}"), bytes, 2 * n * f * R, move |cuda| {
        lora::cuda::gradient_b(cuda, &mut db, Matrix::new(&dy, f), Matrix::new(&xa, R), &mut partial)
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

/// Packed sequences and their attention.
struct Attention {
    name: String,
    heads: Heads,
    plan: Plan,
    /// Pairs of a query and a key that it sees, over all heads.
    pairs: usize,
    /// Elements of q and of k.
    asked: usize,
    seen: usize,
}

impl Attention {
    fn new(cuda: &Cuda, n: usize, width: usize, answers: Option<usize>, kernel: Kernel) -> Result<Self> {
        let len = SEQUENCE.min(n);
        let (prompt, answer) = answers.map_or((len, 0), |answers| (len / 2, len / 2 / answers));
        let mut forest = Forest::default();
        for example in 0..n / len {
            let root = forest.push(&vec![0; prompt], None, 0, example as u32);
            for _ in 0..answers.unwrap_or(0) {
                forest.push(&vec![0; answer], Some(root), prompt as u32, example as u32);
            }
        }
        let (query, key_value) = HEADS;
        let heads = Heads { query, key_value, width, scale: 1.0 / (width as f32).sqrt(), window: None };
        let layout = Layout::new(&forest, (0..forest.len() as u32).collect());
        let triangle = |len: usize| len * (len + 1) / 2;
        let pairs = triangle(prompt) + answers.unwrap_or(0) * (answer * prompt + triangle(answer));
        let shared = answers.map_or_else(String::new, |answers| format!(" of {answers} answers"));
        Ok(Self {
            name: format!("{query}:{key_value}x{width} {}x{len}{shared}", n / len),
            heads,
            plan: Plan::by(kernel, cuda, &layout, &heads)?,
            pairs: query * pairs * (n / len),
            asked: forest.len() * query * width,
            seen: forest.len() * key_value * width,
        })
    }

    fn rows(&self) -> usize {
        self.asked / self.heads.width
    }
}

fn attention_forward(
    cuda: &Cuda,
    shape: Shape,
    width: usize,
    answers: Option<usize>,
    kernel: Kernel,
) -> Result<Work> {
    let of = Attention::new(cuda, shape.n, width, answers, kernel)?;
    let (q, k, v) = (tensor(cuda, of.asked)?, tensor(cuda, of.seen)?, tensor(cuda, of.seen)?);
    let (mut o, mut lse) = (zeros(cuda, of.asked)?, zeros(cuda, of.rows())?);
    let (bytes, flops) = (4 * (of.asked + of.seen) + 4 * of.rows(), 4 * of.pairs * width);
    Ok(Work::new(format!("attention/forward {}{}", of.name, by(kernel)), bytes, flops, move |cuda| {
        attention::cuda::forward(cuda, &of.plan, &of.heads, &mut o, &mut lse, &q, &k, &v)
    }))
}

fn attention_backward(
    cuda: &Cuda,
    shape: Shape,
    width: usize,
    answers: Option<usize>,
    kernel: Kernel,
) -> Result<Work> {
    let of = Attention::new(cuda, shape.n, width, answers, kernel)?;
    let (q, k, v) = (tensor(cuda, of.asked)?, tensor(cuda, of.seen)?, tensor(cuda, of.seen)?);
    let (mut o, mut lse) = (zeros(cuda, of.asked)?, zeros(cuda, of.rows())?);
    attention::cuda::forward(cuda, &of.plan, &of.heads, &mut o, &mut lse, &q, &k, &v)?;
    let d_o = tensor(cuda, of.asked)?;
    let (mut dq, mut dk, mut dv) = (zeros(cuda, of.asked)?, zeros(cuda, of.seen)?, zeros(cuda, of.seen)?);
    let (bytes, flops) = (8 * (of.asked + of.seen) + 4 * of.rows(), 10 * of.pairs * width);
    Ok(Work::new(format!("attention/backward {}{}", of.name, by(kernel)), bytes, flops, move |cuda| {
        let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
        attention::cuda::backward(cuda, &of.plan, &of.heads, saved, &d_o, &mut dq, &mut dk, &mut dv)
    }))
}
