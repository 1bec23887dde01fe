//! Stacked adapters, forward and backward, with and without dropout. The masks are those of the CPU form.

use half::bf16;
use preceptor::base::Result;
use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::Device;
use preceptor::device::cuda::Slice;
use preceptor::ops::linear::cuda::{self as linear, Adapter, Matrix, MatrixMut, Write};
use preceptor::ops::lora::cuda::{self, Dropout, Kept};
use preceptor::ops::lora::{self, Factors};

use super::gemm::kept;
use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::dense::Dense;
use crate::inputs::{normal, scaled, stream};

const SCALE: f32 = 2.0;
const UPDATE: u32 = 7;
/// Numbers of the linears in the model: those of q, k and v need not follow each other.
const MODULES: [u32; 3] = [21, 22, 26];

/// Tokens, features of x, features of y: one vector, one below, at and above a step, a panel of dropout's bits
/// and a tile, primes of 8, SmolLM2's widths, a long row.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 8, 8),
    (31, 120, 64),
    (32, 128, 128),
    (33, 136, 72),
    (97, 264, 136),
    (64, 576, 1536),
    (33, 1544, 64),
];

/// R and how many adapters read the same x.
const STACKS: &[(usize, usize)] = &[(8, 1), (8, 2), (8, 3), (16, 1), (32, 2), (64, 1), (64, 3)];

/// Whole tiles, for the counters.
const MEASURED: [Sizes; 2] = [
    Sizes { n: 256, d: 576, f: 576, rank: 16, stack: 1, rate: 0.0, beside: 0 },
    Sizes { n: 256, d: 576, f: 576, rank: 16, stack: 3, rate: 0.0, beside: 0 },
];

pub(super) fn cases() -> Vec<Case> {
    const FORWARD: &str = "lora/forward";
    const BACKWARD: &str = "lora/backward";
    let mut cases = Vec::new();
    for rate in [0.0, 0.1] {
        let shapes = SHAPES.iter().map(|&(n, d, f)| Sizes { n, d, f, rank: 16, stack: 3, rate, beside: 0 });
        let of = |(rank, stack), beside| Sizes { n: 37, d: 200, f: 72, rank, stack, rate, beside };
        let stacks = STACKS.iter().map(|&stack| of(stack, 0));
        for sizes in shapes.chain(stacks).chain([of((8, 3), 24), of((64, 2), 24)]) {
            cases.push(case(FORWARD, "xa", sizes, xa));
            cases.push(case(FORWARD, "y", sizes, y));
            cases.push(case(BACKWARD, "dxa", sizes, dxa));
            cases.push(case(BACKWARD, "dB", sizes, db));
            cases.push(case(BACKWARD, "dA", sizes, da));
            cases.push(case(BACKWARD, "dx", sizes, dx));
        }
        for sizes in MEASURED {
            let sizes = Sizes { rate, ..sizes };
            cases.push(counted(FORWARD, "xa", sizes, xa));
            cases.push(counted(BACKWARD, "dA", sizes, da));
        }
    }
    for (rank, stack) in [(16, 1), (64, 1)] {
        let sizes = Sizes { rank, stack, ..MEASURED[0] };
        cases.push(counted(BACKWARD, "dxa", sizes, dxa));
        cases.push(counted(BACKWARD, "dB", sizes, db));
    }
    cases
}

type Run = fn(&Bench, &Stack) -> Result<Outcome>;

fn case(kernel: &'static str, what: &str, sizes: Sizes, run: Run) -> Case {
    Case::new(kernel, sizes.name(what), move |bench| {
        let outcome = run(bench, &Stack::new(bench, sizes))?;
        Ok(Outcome::of(outcome.comparisons))
    })
}

fn counted(kernel: &'static str, what: &str, sizes: Sizes, run: Run) -> Case {
    Case::new(kernel, sizes.name(&format!("counted {what}")), move |bench| {
        run(bench, &Stack::new(bench, sizes))
    })
}

#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    d: usize,
    f: usize,
    rank: usize,
    stack: usize,
    rate: f32,
    /// Columns beside those of each matrix that is read, where it is part of a wider one.
    beside: usize,
}

impl Sizes {
    fn name(&self, what: &str) -> String {
        let Self { n, d, f, rank, stack, rate, beside } = self;
        let wider = if *beside > 0 { ", inside wider matrices" } else { "" };
        format!("{what}, {n} x {d} to {f}, {stack} of rank {rank}, dropout {rate}{wider}")
    }
}

/// Stacked adapters of one x, each with a y of its own.
struct Stack {
    sizes: Sizes,
    philox: Philox,
    /// (example, token) of each row.
    rows: Vec<(u32, u32)>,
    x: Vec<f32>,
    /// One below the other.
    a: Vec<f32>,
    /// Of the last adapter, as is `dy`.
    b: Vec<f32>,
    dy: Vec<f32>,
    /// Of each adapter: what dropout keeps.
    keep: Vec<Dense>,
}

impl Stack {
    fn new(bench: &Bench, sizes: Sizes) -> Self {
        let Sizes { n, d, f, rank, stack, .. } = sizes;
        let mut random = stream(100);
        let rows: Vec<_> = (0..n).map(|_| (random.below(64), random.below(4096))).collect();
        let philox = Philox::new(5, Purpose::Dropout);
        let keep = MODULES[..stack].iter().map(|&module| mask(&bench.cpu, sizes, &philox, module, &rows));
        Self {
            keep: keep.collect(),
            x: normal(0, n * d),
            a: scaled(1, stack * rank * d, (d as f32).powf(-0.5)),
            b: scaled(2, f * rank, 0.1),
            dy: normal(3, n * f),
            sizes,
            philox,
            rows,
        }
    }

    fn columns(&self) -> usize {
        self.sizes.stack * self.sizes.rank
    }

    fn drops(&self) -> bool {
        self.sizes.rate > 0.0
    }

    /// Columns of the last adapter in xa and dxa, and its rows in A.
    fn last(&self) -> std::ops::Range<usize> {
        self.columns() - self.sizes.rank..self.columns()
    }

    /// A matrix on the GPU, with what lies beside it.
    fn upload(&self, bench: &Bench, values: &[f32], cols: usize) -> Result<Slice<bf16>> {
        let beside = vec![1e3; self.sizes.beside];
        bench.bf16(&values.chunks(cols).flat_map(|row| [row, &beside[..]].concat()).collect::<Vec<_>>())
    }

    /// The matrix alone.
    fn part<'a>(&self, values: &'a Slice<bf16>, cols: usize) -> Matrix<'a> {
        Matrix::new(values, cols + self.sizes.beside).columns(0..cols)
    }

    /// 1 / (1 - p)
    fn gain(&self) -> f64 {
        1.0 / (1.0 - f64::from(self.sizes.rate))
    }

    fn a_of(&self, adapter: usize) -> Dense {
        let part = self.sizes.rank * self.sizes.d;
        Dense::of(&self.a[adapter * part..(adapter + 1) * part], self.sizes.d)
    }

    /// keep x, without 1 / (1 - p)
    fn dropped(&self, adapter: usize) -> Dense {
        Dense::of(&self.x, self.sizes.d).zip(&self.keep[adapter], |x, kept| x * kept)
    }

    /// s z A^T of one adapter.
    fn xa_of(&self, adapter: usize) -> Dense {
        self.dropped(adapter).times(&self.a_of(adapter).t()).map(|x| x * f64::from(SCALE) * self.gain())
    }

    /// s / (1 - p) dy B
    fn dxa(&self) -> Dense {
        let (dy, b) = (Dense::of(&self.dy, self.sizes.f), Dense::of(&self.b, self.sizes.rank));
        dy.times(&b).map(|x| x * f64::from(SCALE) * self.gain())
    }

    /// The keep bits of all adapters in panels of 128 features, as the forward pass leaves them.
    fn panels(&self) -> Vec<u32> {
        let Sizes { n, d, .. } = self.sizes;
        let words = cuda::keep_words(n, d);
        let mut panels = vec![0; self.keep.len() * words];
        for (keep, words) in self.keep.iter().zip(panels.chunks_mut(words)) {
            for (i, _) in keep.values.iter().enumerate().filter(|&(_, &kept)| kept > 0.0) {
                let (n_, d_) = (i / d, i % d);
                words[(d_ / 128 * n + n_) * 4 + d_ / 32 % 4] |= 1 << (d_ % 32);
            }
        }
        panels
    }
}

/// What the CPU form of dropout keeps: with x all ones and A the identity, xa is the mask.
fn mask(cpu: &Device, sizes: Sizes, philox: &Philox, module: u32, rows: &[(u32, u32)]) -> Dense {
    let Sizes { n, d, rate, .. } = sizes;
    let ones = vec![1.0; n * d];
    if rate <= 0.0 {
        return Dense::of(&ones, d);
    }
    let mut identity = cpu.zeros(d, d);
    identity.values_mut().iter_mut().step_by(d + 1).for_each(|one| *one = 1.0);
    let identity = identity.part(0..d * d);
    let factors = Factors { a: identity, b: identity, rank: d, scale: 1.0 };
    let dropout = lora::Dropout { philox, rate, update: UPDATE, module, rows };
    let mut xa = cpu.buffer(n, d);
    let adapter = lora::Adapter { factors, dropout: Some(dropout) };
    lora::forward(cpu, &cpu.upload(&ones, n, d), &[adapter], std::slice::from_mut(&mut xa));
    Dense::of(xa.values(), d).map(|kept| f64::from(u8::from(kept > 0.0)))
}

/// Launches the forward kernel: xa and the keep bits.
fn launch_forward(bench: &Bench, s: &Stack) -> Result<(Slice<bf16>, Slice<u32>)> {
    let Sizes { n, d, stack, rate, .. } = s.sizes;
    let (x, a) = (s.upload(bench, &s.x, d)?, s.upload(bench, &s.a, d)?);
    let mut xa = bench.buffer(n * s.columns())?;
    let mut keep = bench.buffer(stack * cuda::keep_words(n, d))?;
    let places: Vec<u32> = s.rows.iter().flat_map(|&(example, token)| [example, token]).collect();
    let rows = bench.upload(&places)?;
    let dropout =
        Dropout { philox: &s.philox, rate, update: UPDATE, modules: &MODULES[..stack], rows: &rows };
    let dropping = s.drops().then_some((&dropout, &mut keep));
    let into = MatrixMut::new(&mut xa, s.columns());
    cuda::forward(&bench.cuda, into, s.part(&x, d), s.part(&a, d), SCALE, dropping)?;
    Ok((xa, keep))
}

fn xa(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, d, rank, stack, .. } = s.sizes;
    let (xa, keep) = launch_forward(bench, s)?;
    let found = Dense::of(&bench.download_bf16(&xa)?, s.columns());
    let mut comparisons = Vec::new();
    for i in 0..stack {
        let found = found.columns(i * rank, rank).narrowed();
        comparisons.push(Comparison::stored_in_bf16(format!("xa {i}"), &found, &s.xa_of(i).values));
    }
    let mut bytes = 2 * (s.x.len() + s.a.len() + found.values.len());
    if s.drops() {
        let keep = bench.download(&keep)?;
        bytes += 4 * keep.len() + 8 * n;
        for (i, (words, expected)) in keep.chunks(cuda::keep_words(n, d)).zip(&s.keep).enumerate() {
            let found = kept(words, n, d).narrowed();
            comparisons.push(Comparison::exact(format!("keep {i}"), &found, &expected.narrowed()));
        }
    }
    Ok(Outcome::of(comparisons).costing(s.x.len(), bytes))
}

/// y += xa B^T of the last adapter by the product of gemm.cu, from the xa of the kernel.
fn y(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, f, rank, .. } = s.sizes;
    let (xa, _) = launch_forward(bench, s)?;
    let old = normal(50, n * f);
    let (mut y, b) = (bench.bf16(&old)?, bench.bf16(&s.b)?);
    let narrow = Matrix::new(&xa, s.columns()).columns(s.last());
    let into = MatrixMut::new(&mut y, f);
    linear::forward(&bench.cuda, into, narrow, Matrix::new(&b, rank), None, None, Write::Add)?;

    let sum = |xa: Dense| Dense::of(&old, f).zip(&xa.times(&Dense::of(&s.b, rank).t()), |y, part| y + part);
    let xa = s.xa_of(s.sizes.stack - 1);
    let plain = sum(xa.rounded()).rounded().narrowed();
    Ok(Outcome::of([Comparison::new("y", &bench.download_bf16(&y)?, &plain, &sum(xa).values)]))
}

/// Into the last adapter's columns of a stacked dxa.
fn dxa(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, f, rank, rate, .. } = s.sizes;
    let (dy, b) = (s.upload(bench, &s.dy, f)?, s.upload(bench, &s.b, rank)?);
    let others = normal(51, n * s.columns());
    let mut dxa = bench.bf16(&others)?;
    let into = MatrixMut::new(&mut dxa, s.columns()).columns(s.last());
    cuda::gradient_xa(&bench.cuda, into, s.part(&dy, f), s.part(&b, rank), SCALE, rate)?;

    let mut truth = Dense::of(&others, s.columns()).values;
    for (row, part) in truth.chunks_mut(s.columns()).zip(s.dxa().values.chunks(rank)) {
        row[s.last()].copy_from_slice(part);
    }
    let outcome = Outcome::of([Comparison::stored_in_bf16("dxa", &bench.download_bf16(&dxa)?, &truth)]);
    Ok(outcome.costing(s.dy.len(), 2 * (s.dy.len() + s.b.len() + n * rank)))
}

/// Two launches: sums over parts of the tokens, and their sum.
fn db(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, f, rank, .. } = s.sizes;
    let (xa, old) = (normal(52, n * rank), normal(53, f * rank));
    let (dy_, xa_) = (s.upload(bench, &s.dy, f)?, s.upload(bench, &xa, rank)?);
    let mut db = bench.upload(&old)?;
    let mut partial = bench.buffer(cuda::partial_len(n, f, rank))?;
    cuda::gradient_b(&bench.cuda, &mut db, s.part(&dy_, f), s.part(&xa_, rank), &mut partial)?;

    let (dy, xa) = (Dense::of(&s.dy, f).t(), Dense::of(&xa, rank));
    let truth = Dense::of(&old, rank).zip(&dy.times(&xa), |db, part| db + part);
    let plain: Vec<f32> =
        dy.times_on_tensor_cores(&xa).iter().zip(&old).map(|(part, db)| db + part).collect();
    let outcome = Outcome::of([Comparison::new("dB", &bench.download(&db)?, &plain, &truth.values)]);
    let entry = if rank > 16 { "lora_backward_b_wide_bf16" } else { "lora_backward_b_narrow_bf16" };
    Ok(outcome.costing_of(entry, s.dy.len(), 2 * (s.dy.len() + n * rank) + 4 * old.len()).costing_of(
        "lora_backward_sum_f32",
        old.len(),
        8 * old.len() + 4 * partial.len(),
    ))
}

/// Two launches: sums over parts of the tokens, and their sum.
fn da(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, d, rank, stack, .. } = s.sizes;
    let (dxa, old) = (normal(54, n * s.columns()), normal(55, s.columns() * d));
    let (x_, dxa_) = (s.upload(bench, &s.x, d)?, s.upload(bench, &dxa, s.columns())?);
    let mut da = bench.upload(&old)?;
    let keep = bench.upload(&s.panels())?;
    let mut partial = bench.buffer(cuda::partial_len(n, d, s.columns()))?;
    let dropout = s.drops().then(|| Kept { keep: keep.view(), rank });
    let (x, narrow) = (s.part(&x_, d), s.part(&dxa_, s.columns()));
    cuda::gradient_a(&bench.cuda, &mut da, x, narrow, dropout, &mut partial)?;

    let dxa = Dense::of(&dxa, s.columns());
    let (mut truth, mut plain) = (Vec::new(), Vec::new());
    for i in 0..stack {
        let (own, dropped) = (dxa.columns(i * rank, rank).t(), s.dropped(i));
        truth.extend(own.times(&dropped).values);
        plain.extend(own.times_on_tensor_cores(&dropped));
    }
    truth.iter_mut().zip(&old).for_each(|(sum, &old)| *sum += f64::from(old));
    plain.iter_mut().zip(&old).for_each(|(sum, &old)| *sum += old);
    let outcome = Outcome::of([Comparison::new("dA", &bench.download(&da)?, &plain, &truth)]);
    let wide = s.columns() > 16;
    let (entry, bits) = match (s.drops(), wide) {
        (false, false) => ("lora_backward_a_narrow_bf16", 0),
        (false, true) => ("lora_backward_a_wide_bf16", 0),
        (true, false) => ("lora_backward_a_dropout_narrow_bf16", keep.len()),
        (true, true) => ("lora_backward_a_dropout_wide_bf16", keep.len()),
    };
    let bytes = 2 * (s.x.len() + dxa.values.len()) + 4 * (old.len() + bits);
    Ok(outcome.costing_of(entry, s.x.len(), bytes))
}

/// dx = dy W + mask (dxa A) of the last adapter by the product of gemm.cu.
fn dx(bench: &Bench, s: &Stack) -> Result<Outcome> {
    let Sizes { n, d, f, rank, stack, .. } = s.sizes;
    let (w, dxa) = (scaled(56, f * d, 0.1), normal(57, n * s.columns()));
    let (dy_, w_, dxa_, a_) = (bench.bf16(&s.dy)?, bench.bf16(&w)?, bench.bf16(&dxa)?, bench.bf16(&s.a)?);
    let (keep, words) = (bench.upload(&s.panels())?, cuda::keep_words(n, d));
    let mut dx = bench.buffer::<bf16>(n * d)?;
    let adapter = Adapter {
        narrow: Matrix::new(&dxa_, s.columns()).columns(s.last()),
        factor: Matrix::new(&a_, d).rows(s.last()),
        keep: s.drops().then(|| keep.part((stack - 1) * words..stack * words)),
    };
    let (into, dy_, w_) = (MatrixMut::new(&mut dx, d), Matrix::new(&dy_, f), Matrix::new(&w_, d));
    linear::backward(&bench.cuda, into, dy_, w_, Some(adapter), Write::Set)?;

    let own = Dense::of(&dxa, s.columns()).columns(s.last().start, rank);
    let part = own.times(&s.a_of(stack - 1)).zip(&s.keep[stack - 1], |x, kept| x * kept);
    let truth = Dense::of(&s.dy, f).times(&Dense::of(&w, d)).zip(&part, |sum, part| sum + part);
    Ok(Outcome::of([Comparison::stored_in_bf16("dx", &bench.download_bf16(&dx)?, &truth.values)]))
}
