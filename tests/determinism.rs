//! Same inputs, same bits: for any number of threads, from run to run, recomputed or kept. And the same
//! update within rounding, however it is cut into micro-batches.

mod golden;

use preceptor::adapter::{Linear, Lora};
use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::Device;
use preceptor::device::cpu::{Cpu, Mat};
use preceptor::model::DropoutRun;
use preceptor::model::settings::WeightStorage;
use preceptor::ops::adamw::{self, Constants};
use preceptor::tensor::{Forest, Site};
use preceptor::train::Learner;
use preceptor::train::step::{self, Optimizer, SiteLoss};

use golden::{Case, Trained, cases, cpu, gap, parameters};

const THREADS: [usize; 4] = [1, 2, 3, 8];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Shapes (m, n, k) from one value to SmolLM2's feed-forward block and LM head, thin and deep ones among them.
#[test]
fn a_product_has_the_same_bits_for_any_number_of_threads() {
    let mut numbers = Philox::new(1, Purpose::Sampling).stream([0; 3]);
    let mut random = |len: usize| (0..len).map(|_| numbers.next_f32() - 0.5).collect::<Vec<f32>>();
    let pools = THREADS.map(|threads| Cpu::new(threads).expect("a pool of threads"));
    for (m, n, k) in [
        (1, 1, 1),
        (1, 576, 576),
        (576, 1, 1536),
        (65, 63, 64),
        (16, 1536, 257),
        (257, 16, 1536),
        (16, 16, 20_011),
        (101, 103, 4099),
        (256, 1536, 576),
        (64, 4099, 576),
        (16, 49_152, 576),
    ] {
        let (a, b, start) = (random(m * k), random(k * n), random(m * n));
        let operands = [
            (Mat::new(&a, m, k), Mat::new(&b, k, n)),
            (Mat::new(&a, m, k), Mat::new(&b, n, k).t()),
            (Mat::new(&a, k, m).t(), Mat::new(&b, k, n)),
        ];
        for ((form, (a, b)), accumulate) in operands.into_iter().enumerate().zip([false, true, true]) {
            let runs = pools.iter().chain(&pools).map(|pool| {
                let mut out = start.clone();
                pool.gemm(&mut out, a, b, 0.3, accumulate);
                bits(&out)
            });
            let runs: Vec<_> = runs.collect();
            assert!(runs.iter().all(|run| *run == runs[0]), "{m} x {n} x {k}, form {form}");
        }
    }
}

fn dropout() -> DropoutRun {
    DropoutRun { philox: Philox::new(4, Purpose::Dropout), rate: 0.25, update: 7 }
}

/// The bits of the losses, the gradients' norm and what is trained after each of three updates.
fn three_updates(device: &Device, mut learner: Learner, case: &Case) -> Vec<(Vec<u64>, u64, Vec<u32>)> {
    let mut optimizer = Optimizer::new(device, learner.len());
    let mut update = |update: u64| {
        let forests = [case.forest(0)];
        let dropout = DropoutRun { update: update as u32, ..dropout() };
        let gradients = &mut optimizer.gradients;
        let losses = step::gradient(device, &learner, &forests, Some(&dropout), false, gradients);
        let norm = adamw::global_norm(device, gradients);
        let constants = Constants {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            update,
            clip: 1.0,
        };
        step::apply(device, &mut learner, &mut optimizer, norm, 1.0, constants);
        let losses = losses.iter().map(|l| l.loss.to_bits()).collect();
        (losses, norm.to_bits(), bits(&parameters(&learner)))
    };
    (1..=3).map(&mut update).collect()
}

#[test]
fn training_has_the_same_bits_for_any_number_of_threads_and_every_run() {
    for case in cases() {
        for &trained in case.trained() {
            let of = |device: &Device| three_updates(device, case.learner(device, trained), &case);
            let first = of(&cpu(1));
            assert_ne!(first[0].2, first[2].2, "what is trained moves");
            for threads in THREADS {
                let device = cpu(threads);
                for run in ["a fresh device", "used memory"] {
                    let what = format!("{}, {trained:?}: {threads} threads, {run}", case.folder.display());
                    assert!(of(&device) == first, "{what}");
                }
            }
        }
    }
}

/// Losses and gradient of an update that consists of `forests`.
fn gradient(
    device: &Device,
    learner: &Learner,
    forests: &[Forest],
    dropout: Option<&DropoutRun>,
    recompute: bool,
) -> (Vec<SiteLoss>, Vec<f32>) {
    let mut gradients = device.zeros(1, learner.len());
    let losses = step::gradient(device, learner, forests, dropout, recompute, &mut gradients);
    (losses, gradients.values().to_vec())
}

#[test]
fn recomputed_blocks_have_the_same_bits() {
    let device = cpu(2);
    for case in cases() {
        for (trained, dropout) in
            [(Trained::Adapter, None), (Trained::Adapter, Some(&dropout())), (Trained::Weights, None)]
        {
            let learner = case.learner(&device, trained);
            let [kept, recomputed] = [false, true]
                .map(|recompute| gradient(&device, &learner, &[case.forest(0)], dropout, recompute));
            assert_eq!(kept.0, recomputed.0, "{}", case.folder.display());
            assert_eq!(bits(&kept.1), bits(&recomputed.1), "{}", case.folder.display());
        }
    }
}

/// An adapter on one linear alone gets the gradient that the linear gets when every linear has one and all others
/// are zero: what the backward pass leaves out below the lowest adapter is what nobody needs.
#[test]
fn an_adapter_on_one_linear_has_the_bits_it_has_among_all() {
    let device = cpu(2);
    for case in cases() {
        let linears = case.model(WeightStorage::Auto).spec().linears();
        for linear in &linears {
            let mut numbers = Philox::new(2, Purpose::Sampling).stream([linear.number(), 0, 0]);
            let mut of = |linears: &[Linear], values: &mut Vec<f32>| {
                let shapes: Vec<_> = linears.iter().map(|&linear| (linear, 3, 6.0)).collect();
                let mut adapter = Lora::zeros(&device, &shapes, false);
                let module = adapter.module(linear.layer, linear.projection).expect("it was asked for");
                let range = module.a.start..module.b.end;
                values.resize_with(range.len(), || numbers.next_f32() - 0.5);
                adapter.params_mut().values_mut()[range.clone()].copy_from_slice(values);
                let learner = Learner { model: case.model(WeightStorage::Auto), adapter: Some(adapter) };
                let (losses, gradients) = gradient(&device, &learner, &[case.forest(0)], None, false);
                (losses, bits(&gradients[range]))
            };
            let mut values = Vec::new();
            let alone = of(&[*linear], &mut values);
            let among_all = of(&linears, &mut values);
            assert!(alone.1.iter().any(|&g| g != 0), "{linear}: a gradient that is all zero");
            assert!(alone == among_all, "{}, {linear}", case.folder.display());
        }
    }
}

/// The root segments of some examples, which keep their places in the update.
fn part(forest: &Forest, examples: &[u32]) -> Forest {
    let mut part = Forest::default();
    for segment in forest.segments.iter().filter(|s| examples.contains(&s.example)) {
        let (old, new) = (segment.start, part.len() as u32);
        part.push(&forest.tokens[segment.range()], None, 0, segment.example);
        let sites = forest.sites.iter().filter(|site| site.example == segment.example);
        part.sites.extend(sites.map(|site| Site { token: site.token - old + new, ..*site }));
    }
    part
}

/// Each of two results is at most ten times the reference's own rounding from the truth (tests/parity.rs), so
/// they are at most twenty times it from each other. Dropout at rate p makes what it keeps, and so its
/// rounding, larger by 1/(1 - p), once on the way forward and once on the way back.
#[test]
fn micro_batches_do_not_change_an_update() {
    let device = cpu(2);
    for case in cases() {
        let whole = case.forest(0);
        let examples: Vec<u32> = whole.segments.iter().map(|s| s.example).collect();
        let (first, rest) = examples.split_at(1);
        let cuts: [Vec<&[u32]>; 3] = [vec![first, rest], vec![rest, first], examples.chunks(1).collect()];
        let runs = [(Trained::Adapter, None), (Trained::Adapter, Some(&dropout())), (Trained::Weights, None)];
        for (trained, dropout) in runs.into_iter().filter(|(trained, _)| case.trained().contains(trained)) {
            let learner = case.learner(&device, trained);
            let growth = dropout.map_or(1.0, |d| 1.0 / f64::from((1.0 - d.rate) * (1.0 - d.rate)));
            let (mut losses, one) = gradient(&device, &learner, std::slice::from_ref(&whole), dropout, false);
            losses.sort_by_key(|l| l.example);
            for cut in &cuts {
                let forests: Vec<Forest> = cut.iter().map(|examples| part(&whole, examples)).collect();
                let (mut of_parts, parts) = gradient(&device, &learner, &forests, dropout, false);
                of_parts.sort_by_key(|l| l.example);
                let (name, drops) = (case.folder.display(), dropout.is_some());
                let what = format!("{name}, {trained:?}, {cut:?}, dropout {drops}");
                assert_eq!(losses.len(), of_parts.len(), "{what}");
                // a loss is at most twice as far off as the logits
                let allowed = 2.0 * 20.0 * growth * case.noise("logits");
                for (x, y) in losses.iter().zip(&of_parts) {
                    assert_eq!((x.example, x.weight), (y.example, y.weight), "{what}");
                    assert!((x.loss - y.loss).abs() <= allowed, "{what}: {x:?} {y:?} +- {allowed:e}");
                }
                let (gap, allowed) = (gap(&one, &parts), 20.0 * growth * case.noise(trained.noise()));
                println!("{what}: gradients {gap:.1e}, allowed {allowed:.1e}");
                assert!(gap <= allowed, "{what}: gradients {gap:e} > {allowed:e}");
            }
        }
    }
}
