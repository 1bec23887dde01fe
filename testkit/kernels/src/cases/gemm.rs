//! Products with a frozen weight, tails of tiles in every dimension, with and without an adapter's part; by each of the
//! kernels that compute them.

use half::bf16;
use preceptor::base::Result;
use preceptor::device::cuda::Slice;
use preceptor::ops::linear::cuda::{self, Adapter, Kernel, Matrix, MatrixMut, Output, Write};

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::dense::Dense;
use crate::inputs::{normal, stream};

/// Tokens, inputs, outputs: one vector, one below, at and above a tile, a prime number of tokens, several
/// groups of tile rows, SmolLM2's widths, a long sum.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 8, 8),
    (127, 24, 120),
    (128, 32, 128),
    (129, 40, 136),
    (67, 104, 264),
    (1153, 16, 136),
    (128, 576, 1536),
    (31, 4096, 64),
];

/// Columns of xa: each rank that adapters have, and stacked ones.
const RANKS: &[usize] = &[8, 16, 32, 48, 64];

/// Whole tiles, for the counters: SmolLM2's widths with an adapter, a long sum without.
const MEASURED: &[Sizes] = &[
    Sizes { n: 256, inputs: 576, outputs: 1536, rank: 16 },
    Sizes { n: 128, inputs: 4096, outputs: 256, rank: 0 },
];

type Run = Box<dyn Fn(&Bench) -> Result<Outcome>>;

/// The kernels and their files.
const KERNELS: [(Kernel, &str); 2] = [(Kernel::Portable, "gemm"), (Kernel::Hopper, "hopper/gemm")];

pub(super) fn cases() -> Vec<Case> {
    KERNELS.into_iter().flat_map(|(kernel, file)| cases_of(kernel, file)).collect()
}

fn cases_of(kernel: Kernel, file: &'static str) -> Vec<Case> {
    let case = |what: &str, sizes: Sizes, run: Run| {
        let Sizes { n, inputs, outputs, rank } = sizes;
        Case::new(file, format!("{what}, {n} x {inputs} to {outputs}, rank {rank}"), run)
    };
    let plain = SHAPES.iter().map(|&(n, inputs, outputs)| Sizes { n, inputs, outputs, rank: 0 });
    let ranks = RANKS.iter().map(|&rank| Sizes { n: 67, inputs: 72, outputs: 264, rank });
    // a width that tiles of 256 columns cover with less waste than those of 192, and not without
    let adapted = ranks.chain([Sizes { n: 67, inputs: 456, outputs: 456, rank: 16 }]);
    let mut cases = Vec::new();
    for sizes in plain.chain(adapted) {
        let forward = move |bench: &Bench| Product::forward(bench, sizes)?.by(kernel).run(bench);
        let backward = move |bench: &Bench| Product::backward(bench, sizes)?.by(kernel).run(bench);
        cases.push(case("forward", sizes, Box::new(forward)));
        cases.push(case("backward", sizes, Box::new(backward)));
    }
    for &sizes in MEASURED {
        let forward = move |bench: &Bench| Product::forward(bench, sizes)?.by(kernel).measure(bench);
        let backward = move |bench: &Bench| Product::backward(bench, sizes)?.by(kernel).measure(bench);
        cases.push(case("counted forward", sizes, Box::new(forward)));
        cases.push(case("counted backward", sizes, Box::new(backward)));
    }
    cases.push(Case::new(file, "forward inside wider matrices", move |bench| inside(bench, kernel, true)));
    cases.push(Case::new(file, "backward inside wider matrices", move |bench| inside(bench, kernel, false)));
    cases
}

/// With a rank, there is also a bias forward and dropout's bits backward.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    inputs: usize,
    outputs: usize,
    rank: usize,
}

/// A product's operands on the GPU, and what it must give.
struct Product {
    a: Slice<bf16>,
    w: Slice<bf16>,
    sizes: Sizes,
    adapter: Option<(Slice<bf16>, Slice<bf16>)>,
    bias: Option<Slice<bf16>>,
    keep: Option<Slice<u32>>,
    forward: bool,
    kernel: Kernel,
    truth: Dense,
    /// The same, summed as tensor cores do.
    plain: Vec<f32>,
    mma: usize,
    operand_bytes: usize,
}

impl Product {
    fn forward(bench: &Bench, sizes: Sizes) -> Result<Self> {
        let Sizes { n, inputs, outputs, rank } = sizes;
        let (x, w) = (normal(0, n * inputs), normal(1, outputs * inputs));
        let mut product = Self::of(bench, sizes, (&x, &w), true)?;
        if rank > 0 {
            let (xa, b) = (normal(2, n * rank), normal(3, outputs * rank));
            product.add(&Dense::of(&xa, rank), &Dense::of(&b, rank).t(), None);
            let bias = normal(4, outputs);
            product.add(&Dense::of(&vec![1.0; n], 1), &Dense::of(&bias, outputs), None);
            product.adapter = Some((bench.bf16(&xa)?, bench.bf16(&b)?));
            product.bias = Some(bench.bf16(&bias)?);
        }
        Ok(product)
    }

    fn backward(bench: &Bench, sizes: Sizes) -> Result<Self> {
        let Sizes { n, inputs, outputs, rank } = sizes;
        let (dy, w) = (normal(0, n * outputs), normal(1, outputs * inputs));
        let mut product = Self::of(bench, sizes, (&dy, &w), false)?;
        if rank > 0 {
            let (dxa, a) = (normal(2, n * rank), normal(3, rank * inputs));
            let mut random = stream(4);
            let keep: Vec<u32> = (0..n * inputs.div_ceil(128) * 4).map(|_| random.next_u32()).collect();
            product.add(&Dense::of(&dxa, rank), &Dense::of(&a, inputs), Some(&kept(&keep, n, inputs)));
            product.adapter = Some((bench.bf16(&dxa)?, bench.bf16(&a)?));
            product.keep = Some(bench.upload(&keep)?);
        }
        Ok(product)
    }

    fn by(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    fn of(bench: &Bench, sizes: Sizes, (a, w): (&[f32], &[f32]), forward: bool) -> Result<Self> {
        let Sizes { n, inputs, outputs, .. } = sizes;
        let (wide, to) = if forward { (inputs, outputs) } else { (outputs, inputs) };
        let mut product = Self {
            a: bench.bf16(a)?,
            w: bench.bf16(w)?,
            sizes,
            adapter: None,
            bias: None,
            keep: None,
            forward,
            kernel: Kernel::Portable,
            truth: Dense::of(&vec![0.0; n * to], to),
            plain: vec![0.0; n * to],
            mma: 0,
            operand_bytes: 0,
        };
        let w = Dense::of(w, inputs);
        product.add(&Dense::of(a, wide), &if forward { w.t() } else { w }, None);
        Ok(product)
    }

    /// One more product of the sum.
    fn add(&mut self, a: &Dense, b: &Dense, keep: Option<&Dense>) {
        let masked =
            |part: Dense| keep.map_or_else(|| part.clone(), |keep| part.zip(keep, |x, kept| x * kept));
        self.truth = self.truth.zip(&masked(a.times(b)), |sum, part| sum + part);
        let part = masked(Dense::of(&a.times_on_tensor_cores(b), b.cols));
        self.plain.iter_mut().zip(&part.values).for_each(|(sum, &part)| *sum += part as f32);
        self.mma += a.rows.div_ceil(16) * b.cols.div_ceil(8) * a.cols.div_ceil(16);
        self.operand_bytes += 2 * (a.values.len() + b.values.len());
        self.operand_bytes += keep.map_or(0, |keep| keep.rows * keep.cols.div_ceil(128) * 16);
    }

    fn launch<T: Output>(&self, bench: &Bench, c: &mut Slice<T>, write: Write) -> Result<()> {
        let Sizes { inputs, outputs, rank, .. } = self.sizes;
        let adapter = self.adapter.as_ref().map(|(narrow, factor)| Adapter {
            narrow: Matrix::new(narrow, rank),
            factor: Matrix::new(factor, if self.forward { rank } else { inputs }),
            keep: self.keep.as_ref().map(Slice::view),
        });
        let (cuda, w) = (&bench.cuda, Matrix::new(&self.w, inputs));
        if self.forward {
            let (y, x) = (MatrixMut::new(c, outputs), Matrix::new(&self.a, inputs));
            cuda::forward_by(self.kernel, cuda, y, x, w, self.bias.as_ref(), adapter, write)
        } else {
            let (dx, dy) = (MatrixMut::new(c, inputs), Matrix::new(&self.a, outputs));
            cuda::backward_by(self.kernel, cuda, dx, dy, w, adapter, write)
        }
    }

    /// Each type of output, over what is there and added to it.
    fn run(&self, bench: &Bench) -> Result<Outcome> {
        let old = normal(9, self.plain.len());
        let added = self.truth.zip(&Dense::of(&old, self.truth.cols), |sum, old| sum + old).values;
        let plain_added: Vec<f32> = self.plain.iter().zip(&old).map(|(sum, old)| sum + old).collect();

        let (mut c, mut c_added) = (bench.buffer(old.len())?, bench.bf16(&old)?);
        self.launch(bench, &mut c, Write::Set)?;
        self.launch(bench, &mut c_added, Write::Add)?;
        let (mut wide, mut wide_added) = (bench.buffer(old.len())?, bench.upload(&old)?);
        self.launch(bench, &mut wide, Write::Set)?;
        self.launch(bench, &mut wide_added, Write::Add)?;
        Ok(Outcome::of([
            Comparison::stored_in_bf16("c", &bench.download_bf16(&c)?, &self.truth.values),
            Comparison::stored_in_bf16("c added", &bench.download_bf16(&c_added)?, &added),
            Comparison::new("f32 c", &bench.download(&wide)?, &self.plain, &self.truth.values),
            Comparison::new("f32 c added", &bench.download(&wide_added)?, &plain_added, &added),
        ]))
    }

    /// One launch, to be counted.
    fn measure(&self, bench: &Bench) -> Result<Outcome> {
        let mut c = bench.buffer::<bf16>(self.plain.len())?;
        self.launch(bench, &mut c, Write::Set)?;
        let outcome =
            Outcome::of([Comparison::stored_in_bf16("c", &bench.download_bf16(&c)?, &self.truth.values)]);
        Ok(outcome.costing(self.mma, self.operand_bytes + 2 * self.plain.len()))
    }
}

/// 1 where a bit is set, 0 elsewhere: tokens x features, from panels of 128 features.
pub(super) fn kept(words: &[u32], tokens: usize, features: usize) -> Dense {
    let bit = |n: usize, d: usize| words[(d / 128 * tokens + n) * 4 + d / 32 % 4] >> (d % 32) & 1;
    let values = (0..tokens).flat_map(|n| (0..features).map(move |d| f64::from(bit(n, d))));
    Dense { rows: tokens, cols: features, values: values.collect() }
}

/// Columns of wider matrices, with an adapter that drops nothing: what lies beside them stays.
fn inside(bench: &Bench, kernel: Kernel, forward: bool) -> Result<Outcome> {
    let (n, inputs, outputs, rank, wider) = (40, 48, 72, 16, 160);
    let (wide, to) = if forward { (inputs, outputs) } else { (outputs, inputs) };
    let (rows, cols) = if forward { (outputs, rank) } else { (rank, inputs) };
    let (a, w, old) = (normal(0, n * wider), normal(1, outputs * wider), normal(2, n * wider));
    let (u, v) = (normal(3, n * wider), normal(4, rows * wider));
    let (a_, w_, mut c) = (bench.bf16(&a)?, bench.bf16(&w)?, bench.bf16(&old)?);
    let (u_, v_) = (bench.bf16(&u)?, bench.bf16(&v)?);
    let part = |values, first, cols| Matrix::new(values, wider).columns(first..first + cols);
    let adapter = Some(Adapter { narrow: part(&u_, 8, rank), factor: part(&v_, 24, cols), keep: None });
    let (a_, w_) = (part(&a_, 16, wide), part(&w_, 16, inputs));
    let into = MatrixMut::<bf16>::new(&mut c, wider).columns(32..32 + to);
    if forward {
        cuda::forward_by(kernel, &bench.cuda, into, a_, w_, None, adapter, Write::Set)?;
    } else {
        cuda::backward_by(kernel, &bench.cuda, into, a_, w_, adapter, Write::Set)?;
    }

    let part = |values: &[f32], first, cols| Dense::of(values, wider).columns(first, cols);
    let (w, v) = (part(&w, 16, inputs), part(&v, 24, cols));
    let (w, v) = if forward { (w.t(), v.t()) } else { (w, v) };
    let adapted = part(&u, 8, rank).times(&v);
    let sums = part(&a, 16, wide).times(&w).zip(&adapted, |sum, part| sum + part);
    let mut truth = Dense::of(&old, wider).values;
    for (row, sums) in truth.chunks_mut(wider).zip(sums.values.chunks(to)) {
        row[32..32 + to].copy_from_slice(sums);
    }
    Ok(Outcome::of([Comparison::stored_in_bf16("c", &bench.download_bf16(&c)?, &truth)]))
}
