//! Attention over forests: every head width, shared prefixes, grouped heads, windows, a subset of the tokens as queries.
//! The truth asks the forest itself who sees whom, pair by pair, and computes in f64.

use half::bf16;
use preceptor::base::Result;
use preceptor::ops::attention::cuda::{self, Kernel, Plan, Saved, WIDTHS};
use preceptor::ops::attention::{Heads, Layout};
use preceptor::tensor::Forest;

use crate::bench::Bench;
use crate::case::{Case, Outcome};
use crate::compare::Comparison;
use crate::dense::Dense;
use crate::inputs::{normal, scaled};

/// The kernels, their files and the head widths that they are for.
const KERNELS: [(Kernel, [&str; 2], &[usize]); 2] = [
    (Kernel::Portable, ["attention/forward", "attention/backward"], &WIDTHS),
    (Kernel::Hopper, ["hopper/attention/forward", "hopper/attention/backward"], &[64, 128]),
];

/// Segments: each one's parent and length.
type Segments = &'static [(Option<u32>, u32)];

/// Sequences that share nothing: one token; one below, at and above a tile.
const ONE: Segments = &[(None, 1)];
const PACKED: Segments = &[(None, 63), (None, 64), (None, 65)];
/// More than one block of rows and keys, with tiles that are seen whole.
const LONG: Segments = &[(None, 230)];
/// Whole tiles, most of them seen whole: for the counters.
const COUNTED: Segments = &[(None, 512)];
/// A shared prompt with answers, one of them a single token; a tree of prompts; a sequence of its own.
const SHARED: Segments = &[
    (None, 97),
    (Some(0), 40),
    (Some(0), 1),
    (Some(0), 30),
    (Some(3), 17),
    (Some(3), 9),
    (None, 33),
    (Some(6), 5),
];
/// Segments shorter than a fragment, so that a tile meets many.
const SHORT: Segments = &[
    (None, 5),
    (Some(0), 3),
    (Some(1), 2),
    (Some(1), 4),
    (Some(0), 7),
    (None, 1),
    (None, 6),
    (Some(6), 6),
    (Some(7), 1),
    (Some(6), 2),
    (None, 11),
    (Some(10), 1),
    (Some(10), 1),
    (None, 8),
];

/// What keys look like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    /// Normal values.
    Normal,
    /// Scores rise along a sequence to hundreds: the top is raised again and again.
    Rising,
}

/// One problem.
#[derive(Clone, Copy, Debug)]
struct Problem {
    segments: Segments,
    heads: Heads,
    /// Every how many-th token asks; the last always does.
    every: usize,
    /// The standard deviation of q.
    spread: f32,
    keys: Keys,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for width in WIDTHS {
        let of = |segments, (query, key_value), window| Problem {
            segments,
            heads: Heads { query, key_value, width, scale: 1.0 / (width as f32).sqrt(), window },
            every: 1,
            spread: 1.0,
            keys: Keys::Normal,
        };
        let problems = [
            of(ONE, (1, 1), None),
            of(PACKED, (2, 2), None),
            of(LONG, (2, 1), None),
            Problem { spread: 4.0, ..of(SHARED, (3, 1), None) },
            of(SHORT, (6, 2), None),
            of(SHARED, (2, 1), Some(17)),
            of(LONG, (1, 1), Some(100)),
            Problem { every: 3, ..of(SHARED, (2, 1), None) },
            Problem { every: 1000, ..of(LONG, (2, 1), Some(60)) },
            Problem { keys: Keys::Rising, ..of(LONG, (1, 1), None) },
        ];
        let problems = problems.into_iter().chain([of(COUNTED, (1, 1), None)]);
        for (kernel, [of_forward, of_backward], widths) in KERNELS {
            if !widths.contains(&width) {
                continue;
            }
            // more pairs of a head and a task than multiprocessors, so that blocks of a fixed number take several
            let many = (kernel == Kernel::Hopper).then(|| of(PACKED, (67, 67), None));
            for problem in problems.clone().chain(many) {
                cases.push(Case::new(of_forward, problem.name(), move |bench| {
                    forward(bench, problem, kernel)
                }));
                cases.push(Case::new(of_backward, problem.name(), move |bench| {
                    backward(bench, problem, kernel)
                }));
            }
        }
    }
    cases
}

impl Problem {
    fn name(&self) -> String {
        let Heads { query, key_value, width, window, .. } = self.heads;
        let tokens: u32 = self.segments.iter().map(|(_, len)| len).sum();
        let window = window.map_or_else(String::new, |window| format!(", window {window}"));
        let every = if self.every > 1 { format!(", every {}th asks", self.every) } else { String::new() };
        let (segments, keys) = (self.segments.len(), if self.keys == Keys::Rising { ", rising" } else { "" });
        let spread = if self.spread > 1.0 { format!(", q of size {}", self.spread) } else { String::new() };
        format!(
            "{query}:{key_value} heads of {width}, {tokens} tokens in {segments} segments{window}{every}{keys}{spread}"
        )
    }

    fn forest(&self) -> Forest {
        let mut forest = Forest::default();
        for (index, &(parent, len)) in self.segments.iter().enumerate() {
            let position = parent.map_or(0, |parent| {
                let parent = forest.segments[parent as usize];
                forest.positions[parent.start as usize] + parent.len
            });
            forest.push(&vec![0; len as usize], parent, position, index as u32);
        }
        forest
    }

    fn queries(&self, forest: &Forest) -> Vec<u32> {
        let last = forest.len() - 1;
        (0..=last)
            .filter(|token| token % self.every == 0 || *token == last)
            .map(|token| token as u32)
            .collect()
    }
}

/// Inputs, and for each query head what the truth and the plain form share.
struct Setting {
    heads: Heads,
    layout: Layout,
    /// 1 where a query row sees a token.
    seen: Dense,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_o: Vec<f32>,
}

impl Setting {
    fn new(problem: Problem) -> Self {
        let heads = problem.heads;
        let forest = problem.forest();
        let queries = problem.queries(&forest);
        let (asked, tokens) =
            (queries.len() * heads.query * heads.width, forest.len() * heads.key_value * heads.width);
        let (mut q, mut k) = (scaled(0, asked, problem.spread), normal(1, tokens));
        if problem.keys == Keys::Rising {
            q.iter_mut().for_each(|q| *q = q.abs());
            let rise = 8.0 / forest.len() as f32;
            for (at, k) in k.iter_mut().enumerate() {
                *k = bf16::from_f32(rise * (at / (heads.key_value * heads.width)) as f32).to_f32();
            }
        }
        let sees = |&query: &u32| -> Vec<f32> {
            (0..forest.len())
                .map(|key| f32::from(u8::from(sees(&forest, &heads, query as usize, key))))
                .collect()
        };
        let seen = Dense::of(&queries.iter().flat_map(sees).collect::<Vec<_>>(), forest.len());
        let layout = Layout::new(&forest, queries);
        Self { heads, layout, seen, q, k, v: normal(2, tokens), d_o: normal(3, asked) }
    }

    /// One query head's part of a tensor that holds `heads` heads.
    fn part(&self, values: &[f32], heads: usize, head: usize) -> Dense {
        let Heads { query, width, .. } = self.heads;
        Dense::of(values, heads * width).columns(head * heads / query * width, width)
    }

    fn of_rows(&self, values: &[f32], head: usize) -> Dense {
        self.part(values, self.heads.query, head)
    }

    fn of_keys(&self, values: &[f32], head: usize) -> Dense {
        self.part(values, self.heads.key_value, head)
    }

    /// The scores of a head, -infinity where a key is not seen.
    fn scores(&self, head: usize) -> Dense {
        let scores = self.of_rows(&self.q, head).times(&self.of_keys(&self.k, head).t());
        let scale = f64::from(self.heads.scale);
        scores.zip(&self.seen, |score, seen| if seen > 0.0 { scale * score } else { f64::NEG_INFINITY })
    }
}

/// Whether `query` sees `key`: an ancestor or itself, inside the window.
fn sees(forest: &Forest, heads: &Heads, query: usize, key: usize) -> bool {
    let of = |token: usize| forest.segments.iter().position(|s| s.range().contains(&token));
    let mut segment = of(query);
    while segment != of(key) {
        let Some(parent) = segment.and_then(|s| forest.segments[s].parent) else { return false };
        segment = Some(parent as usize);
    }
    let apart = i64::from(forest.positions[query]) - i64::from(forest.positions[key]);
    key <= query && heads.window.is_none_or(|window| apart < i64::from(window))
}

/// Every value of a row combined into one.
fn of_each_row(matrix: &Dense, combine: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    matrix.values.chunks(matrix.cols).map(combine).collect()
}

/// Each value with the one of its row.
fn with_rows(matrix: &Dense, rows: &[f64], combine: impl Fn(f64, f64) -> f64) -> Dense {
    let values = matrix.values.iter().enumerate().map(|(at, &value)| combine(value, rows[at / matrix.cols]));
    Dense { values: values.collect(), ..*matrix }
}

/// O and lse of one head; probabilities pass through `round` before they meet V.
fn softmax(setting: &Setting, head: usize, round: impl Fn(f64) -> f64) -> (Dense, Vec<f64>) {
    let scores = setting.scores(head);
    let top = of_each_row(&scores, |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let weights = with_rows(&scores, &top, |score, top| (score - top).exp());
    let sums = of_each_row(&weights, |row| row.iter().sum());
    let o = with_rows(&weights, &sums, |weight, sum| round(weight / sum))
        .times(&setting.of_keys(&setting.v, head));
    (o, top.iter().zip(&sums).map(|(top, sum): (&f64, &f64)| top + sum.ln()).collect())
}

/// The log-sum-exp of one head in f32, one term after the other, of scores that tensor cores make.
fn plain_lse(setting: &Setting, head: usize) -> Vec<f32> {
    let (q, k) = (setting.of_rows(&setting.q, head), setting.of_keys(&setting.k, head).t());
    let (scores, tokens) = (q.times_on_tensor_cores(&k), k.cols);
    let rows = scores.chunks(tokens).zip(setting.seen.values.chunks(tokens));
    rows.map(|(scores, seen)| {
        let scores = scores.iter().zip(seen).filter(|(_, seen)| **seen > 0.0);
        let scores: Vec<f32> = scores.map(|(score, _)| score * setting.heads.scale).collect();
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        top + scores.iter().map(|score| (score - top).exp()).sum::<f32>().ln()
    })
    .collect()
}

fn to_bf16(x: f64) -> f64 {
    bf16::from_f64(x).to_f64()
}

/// Adds one head's part to a tensor of several heads.
fn add_part(whole: &mut [f64], part: &Dense, heads: usize, head: usize) {
    for (row, part) in whole.chunks_mut(heads * part.cols).zip(part.values.chunks(part.cols)) {
        row[head * part.len()..][..part.len()].iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
}

fn narrowed(values: &[f64], round: impl Fn(f64) -> f64) -> Vec<f32> {
    values.iter().map(|&x| round(x) as f32).collect()
}

fn forward(bench: &Bench, problem: Problem, kernel: Kernel) -> Result<Outcome> {
    let setting = Setting::new(problem);
    let heads = setting.heads;
    let rows = setting.seen.rows;
    let plan = Plan::by(kernel, &bench.cuda, &setting.layout, &heads)?;
    let (mut o, mut lse) = (bench.buffer(setting.q.len())?, bench.buffer(rows * heads.query)?);
    let [q, k, v] = [&setting.q, &setting.k, &setting.v].map(|values| bench.bf16(values));
    cuda::forward(&bench.cuda, &plan, &heads, &mut o, &mut lse, &q?, &k?, &v?)?;

    let (mut truth, mut plain) = (vec![0.0; setting.q.len()], vec![0.0; setting.q.len()]);
    let (mut lse_truth, mut lse_plain) = (Vec::new(), Vec::new());
    for head in 0..heads.query {
        let (o, lse) = softmax(&setting, head, |x| x);
        add_part(&mut truth, &o, heads.query, head);
        add_part(&mut plain, &softmax(&setting, head, to_bf16).0, heads.query, head);
        lse_truth.extend(lse);
        lse_plain.extend(plain_lse(&setting, head));
    }
    let outcome = Outcome::of([
        Comparison::new("o", &bench.download_bf16(&o)?, &narrowed(&plain, to_bf16), &truth),
        Comparison::new("lse", &bench.download(&lse)?, &lse_plain, &lse_truth),
    ]);
    if problem.segments != COUNTED {
        return Ok(outcome);
    }
    let bytes = 4 * (setting.q.len() + setting.k.len()) + 4 * rows * heads.query;
    Ok(outcome.costing(setting.q.len(), bytes))
}

fn backward(bench: &Bench, problem: Problem, kernel: Kernel) -> Result<Outcome> {
    let setting = Setting::new(problem);
    let heads = setting.heads;
    let (asked, seen) = (setting.q.len(), setting.k.len());
    // What the forward pass leaves: o in bf16, lse in f32.
    let (mut o, mut lse) = (vec![0.0; asked], Vec::new());
    for head in 0..heads.query {
        let (of_head, of_lse) = softmax(&setting, head, |x| x);
        add_part(&mut o, &of_head, heads.query, head);
        lse.extend(narrowed(&of_lse, |x| x));
    }
    let o = narrowed(&o, to_bf16);
    let found = launch_backward(bench, &setting, kernel, &o, &lse)?;

    let truth = gradients(&setting, None);
    let plain = gradients(&setting, Some((&o, &lse)));
    let comparisons: Vec<Comparison> = ["dq", "dk", "dv"]
        .into_iter()
        .zip(found.iter().zip(plain.iter().zip(&truth)))
        .map(|(name, (found, (plain, truth)))| Comparison::new(name, found, &narrowed(plain, to_bf16), truth))
        .collect();
    let outcome = Outcome::of(comparisons);
    if problem.segments != COUNTED {
        return Ok(outcome);
    }
    let (rows, e) = (8 * setting.seen.rows * heads.query, heads.width);
    let by = if kernel == Kernel::Hopper { "_wgmma" } else { "" };
    Ok(outcome
        .costing_of(&format!("attention_delta_bf16_e{e}"), asked, 4 * asked + 2 * rows)
        .costing_of(&format!("attention{by}_backward_q_bf16_e{e}"), asked, 2 * (3 * asked + 2 * seen) + rows)
        .costing_of(&format!("attention{by}_backward_kv_bf16_e{e}"), seen, 2 * (2 * asked + 4 * seen) + rows))
}

/// dQ, dK and dV as the GPU makes them.
fn launch_backward(
    bench: &Bench,
    setting: &Setting,
    kernel: Kernel,
    o: &[f32],
    lse: &[f32],
) -> Result<[Vec<f32>; 3]> {
    let (asked, seen) = (setting.q.len(), setting.k.len());
    let plan = Plan::by(kernel, &bench.cuda, &setting.layout, &setting.heads)?;
    let (q, k, v) = (bench.bf16(&setting.q)?, bench.bf16(&setting.k)?, bench.bf16(&setting.v)?);
    let (o, lse, d_o) = (bench.bf16(o)?, bench.upload(lse)?, bench.bf16(&setting.d_o)?);
    let (mut dq, mut dk, mut dv) = (bench.buffer(asked)?, bench.buffer(seen)?, bench.buffer(seen)?);
    let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
    cuda::backward(&bench.cuda, &plan, &setting.heads, saved, &d_o, &mut dq, &mut dk, &mut dv)?;
    Ok([bench.download_bf16(&dq)?, bench.download_bf16(&dk)?, bench.download_bf16(&dv)?])
}

/// dQ, dK and dV: the truth, or the plain form that starts from the kept O and lse and rounds p and dS.
fn gradients(setting: &Setting, kept: Option<(&[f32], &[f32])>) -> [Vec<f64>; 3] {
    let Heads { query, key_value, scale, .. } = setting.heads;
    let scale = f64::from(scale);
    let round = |x: f64| if kept.is_some() { to_bf16(x) } else { x };
    let mut gradients = [setting.q.len(), setting.k.len(), setting.v.len()].map(|len| vec![0.0; len]);
    for head in 0..query {
        let (o, lse) = match kept {
            Some((o, lse)) => {
                let lse = &lse[head * setting.seen.rows..][..setting.seen.rows];
                (setting.of_rows(o, head), lse.iter().copied().map(f64::from).collect())
            }
            None => softmax(setting, head, |x| x),
        };
        let d_o = setting.of_rows(&setting.d_o, head);
        let delta = of_each_row(&d_o.zip(&o, |d_o, o| d_o * o), |row| row.iter().sum());
        let p = with_rows(&setting.scores(head), &lse, |score, lse| (score - lse).exp());
        let dp = d_o.times(&setting.of_keys(&setting.v, head).t());
        let ds = p.zip(&with_rows(&dp, &delta, |dp, delta| dp - delta), |p, x| p * x).map(round);
        let parts = [
            ds.times(&setting.of_keys(&setting.k, head)).map(|x| scale * x),
            ds.t().times(&setting.of_rows(&setting.q, head)).map(|x| scale * x),
            p.map(round).t().times(&d_o),
        ];
        add_part(&mut gradients[0], &parts[0], query, head);
        for (gradient, part) in gradients[1..].iter_mut().zip(&parts[1..]) {
            add_part(gradient, part, key_value, head * key_value / query);
        }
    }
    gradients
}
