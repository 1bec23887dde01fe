//! Sums of k = E (scores, dP, row sums), tokens seen (softmax, O, dQ), queries seeing times group (dK, dV)
//! terms.

use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::Device;
use preceptor::ops::attention::{self, Heads, Layout, Saved};
use preceptor::tensor::Forest;

use crate::approx::{Approx, assert_close, assert_gradient, assert_sharp, differences, dot, exact_all};
use crate::attention_truth::{Problem, forest, random_forest};
use crate::inputs::{KINDS, Kind, buffer, device, values};

fn heads(query: usize, key_value: usize, width: usize, window: Option<u32>) -> Heads {
    Heads { query, key_value, width, scale: 1.0 / (width as f32).sqrt(), window }
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_o: Vec<f32>,
}

impl Inputs {
    fn new(problem: &Problem<'_>, kind: Kind) -> Self {
        let Heads { query, key_value, width, .. } = problem.heads;
        let (queries, tokens) = (problem.queries.len(), problem.forest.len());
        Self {
            q: values(kind, 0, queries * query * width),
            k: values(kind, 1, tokens * key_value * width),
            v: values(Kind::Normal, 2, tokens * key_value * width),
            d_o: values(Kind::Normal, 3, queries * query * width),
        }
    }
}

/// O, lse, dQ, dK and dV as the op computes them.
fn run(device: &Device, problem: &Problem<'_>, inputs: &Inputs) -> [Vec<f32>; 5] {
    let Problem { forest, queries, heads } = problem;
    let (wide, narrow) = (heads.query * heads.width, heads.key_value * heads.width);
    let layout = Layout::new(forest, queries.to_vec());
    let q = buffer(device, &inputs.q, wide);
    let (k, v) = (buffer(device, &inputs.k, narrow), buffer(device, &inputs.v, narrow));
    let (mut o, mut lse) = (device.buffer(queries.len(), wide), device.buffer(queries.len(), heads.query));
    attention::forward(device, heads, &layout, &q, &k, &v, &mut o, &mut lse);
    let d_o = buffer(device, &inputs.d_o, wide);
    let (mut dq, mut dk, mut dv) = (
        device.buffer(queries.len(), wide),
        device.buffer(forest.len(), narrow),
        device.buffer(forest.len(), narrow),
    );
    let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
    attention::backward(device, heads, &layout, saved, &d_o, &mut dq, &mut dk, &mut dv);
    [o, lse, dq, dk, dv].map(|b| b.values().to_vec())
}

/// Compares, and returns the truth.
fn check(device: &Device, what: &str, problem: &Problem<'_>, kind: Kind) -> [Vec<Approx>; 5] {
    compare(device, &format!("{what}, {kind:?}"), problem, &Inputs::new(problem, kind))
}

/// As [`check`], with inputs of the test's own.
fn compare(device: &Device, what: &str, problem: &Problem<'_>, inputs: &Inputs) -> [Vec<Approx>; 5] {
    let found = run(device, problem, inputs);
    let [q, k, v, d_o] = [&inputs.q, &inputs.k, &inputs.v, &inputs.d_o].map(|x| exact_all(x));
    let forward = problem.forward(&q, &k, &v);
    let [dq, dk, dv] = problem.backward(&q, &k, &v, &d_o);
    let truth = [forward.o, forward.lse, dq, dk, dv];
    for ((found, truth), name) in found.iter().zip(&truth).zip(["O", "lse", "dQ", "dK", "dV"]) {
        assert_close(&format!("{name}, {what}"), found, truth);
    }
    truth
}

fn all(forest: &Forest) -> Vec<u32> {
    (0..forest.len() as u32).collect()
}

/// Subsets of the tokens as queries: all, every third, each segment's last, the last segment's, one.
fn subsets(forest: &Forest) -> Vec<Vec<u32>> {
    let every_third = all(forest).into_iter().skip(2 % forest.len()).step_by(3).collect();
    let lasts = forest.segments.iter().map(|s| s.start + s.len - 1).collect();
    let leaf = forest.segments.last().expect("a forest has segments").range().map(|t| t as u32).collect();
    vec![all(forest), every_third, lasts, leaf, vec![forest.len() as u32 / 2]]
}

/// One sequence of a length below, at and above a tile of 64 and two tiles; a prime; one token.
#[test]
fn one_sequence() {
    let device = device();
    for kind in KINDS {
        for len in [1, 63, 64, 65, 127, 128, 129, 101] {
            let forest = forest(&[(None, len)]);
            for window in [None, Some(64)] {
                let mut heads = heads(2, 1, 5, window);
                if kind == Kind::Large {
                    heads.scale *= 1e-3; // scores in the thousands, not in the millions
                }
                let problem = Problem { forest: &forest, queries: &all(&forest), heads };
                check(&device, &format!("{len} tokens, window {window:?}"), &problem, kind);
            }
        }
    }
}

/// Three levels, segments around a tile, several roots; windows shorter than segments, cutting into
/// ancestors, and longer than everything; groups of 1, 3 and all query heads; subsets of queries.
#[test]
fn forests() {
    let device = device();
    let deep = forest(&[
        (None, 70),
        (Some(0), 5),
        (Some(1), 66),
        (Some(1), 1),
        (Some(0), 64),
        (Some(4), 3),
        (None, 13),
        (Some(6), 63),
        (Some(6), 2),
        (None, 1),
    ]);
    for window in [None, Some(1), Some(3), Some(64), Some(71), Some(100), Some(4096)] {
        let queries = all(&deep);
        let problem = Problem { forest: &deep, queries: &queries, heads: heads(3, 1, 4, window) };
        check(&device, &format!("window {window:?}"), &problem, Kind::Normal);
    }
    for (query, key_value) in [(1, 1), (4, 4), (6, 2), (5, 1)] {
        let queries = all(&deep);
        let problem =
            Problem { forest: &deep, queries: &queries, heads: heads(query, key_value, 3, Some(72)) };
        check(&device, &format!("{query} heads over {key_value}"), &problem, Kind::Normal);
    }
    for queries in subsets(&deep) {
        for window in [None, Some(2), Some(72)] {
            let problem = Problem { forest: &deep, queries: &queries, heads: heads(2, 1, 4, window) };
            check(&device, &format!("{} queries, window {window:?}", queries.len()), &problem, Kind::Normal);
        }
    }
}

#[test]
fn random_forests() {
    let device = device();
    let mut numbers = Philox::new(5, Purpose::Sampling).stream([0; 3]);
    for round in 0..60 {
        let forest = random_forest(&mut numbers, [4, 40, 150][round % 3]);
        let mut queries = all(&forest);
        queries.retain(|_| round % 2 == 0 || numbers.below(4) == 0);
        let window = [None, Some(1 + numbers.below(9)), Some(1 + numbers.below(200))][round / 3 % 3];
        let key_value = 1 + numbers.below(2) as usize;
        let heads = heads(key_value * (1 + numbers.below(3) as usize), key_value, 2, window);
        let problem = Problem { forest: &forest, queries: &queries, heads };
        check(&device, &format!("round {round}: {:?}, {heads:?}", forest.segments), &problem, Kind::Normal);
    }
}

/// Tokens of a block of keys, whose sums the CPU brings to a new scale where a later block has a larger score.
const KEYS: usize = 128;

/// Sequences of several blocks, the last whole or short; a prompt of two blocks with answers of one token to two
/// blocks, that are asked everywhere or only at their ends; windows shorter and longer than a block.
#[test]
fn several_blocks_of_keys() {
    let device = device();
    let sequences = [384, 389].map(|len| forest(&[(None, len)]));
    let shared =
        forest(&[(None, 200), (Some(0), 1), (Some(0), 140), (Some(2), 30), (Some(0), 9), (None, 70)]);
    for window in [None, Some(50), Some(200)] {
        for forest in sequences.iter().chain([&shared]) {
            let ends = forest.segments.iter().map(|s| s.start + s.len - 1).collect();
            for queries in [all(forest), ends] {
                let problem = Problem { forest, queries: &queries, heads: heads(2, 1, 4, window) };
                let what = format!("{} queries of {} tokens, window {window:?}", queries.len(), forest.len());
                check(&device, &what, &problem, Kind::Normal);
            }
        }
    }
}

/// Scores that climb with the position, by about 2.5 a block: each block raises the largest, and what earlier ones
/// summed keeps a part of the result. And scores that fall: the largest stays the first block's.
#[test]
fn scores_that_climb_or_fall_from_block_to_block() {
    let device = device();
    let sequence = forest(&[(None, 400)]);
    let shared = forest(&[(None, 300), (Some(0), 150), (Some(0), 20)]);
    for (forest, window) in [(&sequence, None), (&sequence, Some(300)), (&shared, None)] {
        for slope in [0.02, -0.02] {
            let queries = all(forest);
            let problem = Problem { forest, queries: &queries, heads: heads(2, 1, 4, window) };
            let mut inputs = Inputs::new(&problem, Kind::Normal);
            inputs.q.fill(0.5);
            for (k, &position) in inputs.k.chunks_mut(4).zip(&forest.positions) {
                k.iter_mut().for_each(|k| *k = 0.1 * *k + slope * position as f32);
            }
            let score = |k: &[f32]| k.iter().sum::<f32>() * 0.5 * problem.heads.scale;
            let scores: Vec<f32> = inputs.k.chunks(4).map(score).collect();
            let largest = scores[..forest.segments[0].len as usize]
                .chunks(KEYS)
                .map(|block| block.iter().copied().fold(f32::MIN, f32::max));
            assert!(largest.is_sorted_by(|a, b| if slope > 0.0 { a < b } else { a > b }), "{slope}");
            let what = format!("{} tokens, window {window:?}, slope {slope}", forest.len());
            let [o, lse, ..] = compare(&device, &what, &problem, &inputs);
            assert_sharp(&what, &o);
            assert_sharp(&what, &lse);
        }
    }
}

#[test]
fn smollm2s_heads() {
    let forest = forest(&[(None, 66), (Some(0), 40), (Some(0), 23), (None, 30)]);
    let queries = all(&forest);
    let problem = Problem { forest: &forest, queries: &queries, heads: heads(9, 3, 64, None) };
    for truth in check(&device(), "9 heads over 3, 64 wide", &problem, Kind::Normal) {
        assert_sharp("9 heads over 3, 64 wide", &truth);
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let forest = forest(&[(None, 3), (Some(0), 2), (Some(1), 1), (Some(0), 3), (None, 2)]);
    for (queries, window) in [(all(&forest), None), (vec![1, 5, 8, 10], Some(3))] {
        let problem = Problem { forest: &forest, queries: &queries, heads: heads(2, 1, 3, window) };
        let Inputs { q, k, v, d_o } = Inputs::new(&problem, Kind::Normal);
        let [of_q, of_k, of_v, d_o] = [&q, &k, &v, &d_o].map(|x| exact_all(x));
        let loss =
            |q: &[Approx], k: &[Approx], v: &[Approx]| dot(problem.forward(q, k, v).o.iter().zip(&d_o));
        let [dq, dk, dv] = problem.backward(&of_q, &of_k, &of_v, &d_o);
        assert_gradient("dQ", &dq, &differences(&q, |q| loss(q, &of_k, &of_v)));
        assert_gradient("dK", &dk, &differences(&k, |k| loss(&of_q, k, &of_v)));
        assert_gradient("dV", &dv, &differences(&v, |v| loss(&of_q, &of_k, v)));
    }
}

/// A token that no query sees gets a gradient of exactly zero, not what the memory held.
#[test]
fn unseen_tokens_have_no_gradient() {
    let device = device();
    let forest = forest(&[(None, 70), (Some(0), 65), (None, 67)]);
    let problem = Problem { forest: &forest, queries: &[69, 80], heads: heads(1, 1, 3, Some(20)) };
    let [.., dk, dv] = run(&device, &problem, &Inputs::new(&problem, Kind::Normal));
    let seen = problem.seen().concat();
    for token in 0..forest.len() {
        let at = token * 3..(token + 1) * 3;
        let zero = dk[at.clone()].iter().chain(&dv[at]).all(|&g| g == 0.0);
        assert_eq!(zero, !seen.contains(&token), "token {token}");
    }
}
