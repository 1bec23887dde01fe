//! The cached forward pass gives what the whole forward pass gives, for every family, bare and adapted.

mod golden;

use preceptor::adapter::Lora;
use preceptor::device::{Buffer, Device};
use preceptor::model::settings::WeightStorage;
use preceptor::model::{Batch, Cache, Model, Pass, pass::Keep};
use preceptor::ops::cross_entropy;
use preceptor::tensor::Forest;
use preceptor::train::generate::{Generator, Prompt, Sampling};

use golden::{Case, cases, cpu, gap};

/// Logits at every token of the sequences by the whole forward pass, one after the other.
fn whole(device: &Device, model: &Model, adapter: Option<&Lora>, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
    let forest = Forest::of_sequences(sequences.iter().copied());
    let batch = Batch::new(&forest, (0..forest.len() as u32).collect());
    let pass = Pass::forward(device, model, adapter, &batch, None, Keep::Nothing);
    rows(&cross_entropy::logits(device, &pass.hidden, model.head()))
}

fn rows(logits: &Buffer) -> Vec<Vec<f32>> {
    (0..logits.rows()).map(|row| logits.row(row).to_vec()).collect()
}

/// Two sequences that leave a common trunk at different tokens, and one that shares nothing.
struct Plan {
    trunk: Vec<u32>,
    leaves: [u32; 2],
    branches: [Vec<u32>; 2],
    alone: Vec<u32>,
}

impl Plan {
    fn new(case: &Case) -> Self {
        let mut ids = case.forest(0).tokens.into_iter().cycle();
        let mut take = |n: usize| ids.by_ref().take(n).collect::<Vec<_>>();
        // a trunk around attention's tile, branches beyond the windows; at most 63 positions fit every case
        let (trunk, branches, alone) = (take(41), [take(22), take(17)], take(9));
        Self { trunk, leaves: [40, 25], branches, alone }
    }

    fn sequences(&self) -> [Vec<u32>; 3] {
        let branch = |i: usize| [&self.trunk[..=self.leaves[i] as usize], &self.branches[i]].concat();
        [branch(0), branch(1), self.alone.clone()]
    }
}

#[test]
fn cached_logits_are_those_of_the_whole_pass() {
    let device = cpu(2);
    for case in cases() {
        let model = case.model(WeightStorage::F32);
        let plan = Plan::new(&case);
        let sequences = plan.sequences();
        let random = case.adapter(&device, &model, "adapter_random");
        for adapter in [None, Some(&random)] {
            let truth = whole(&device, &model, adapter, &sequences.each_ref().map(|s| &s[..]));
            let starts = [0, sequences[0].len(), sequences[0].len() + sequences[1].len()];

            let mut cache = Cache::new(&device, &model, adapter, 100, 64);
            let trunk = cache.reserve(None, plan.trunk.len());
            let branches = [0, 1].map(|i| cache.reserve(Some(plan.leaves[i]), plan.branches[i].len()));
            let alone = cache.reserve(None, plan.alone.len());
            let mut worst = 0.0_f64;
            let mut compared = 0;
            // (sequence, place of its first token) of each part, as they are appended
            let mut step = |parts: &[(usize, &[u32])], places: &[(usize, usize)], last_only: bool| {
                let mut wanted = Vec::new();
                let mut expected = Vec::new();
                for ((run, tokens), (sequence, first)) in parts.iter().zip(places) {
                    for i in (0..tokens.len()).filter(|i| !last_only || i + 1 == tokens.len()) {
                        wanted.push(cache.next_row(*run) + i as u32);
                        expected.push(&truth[starts[*sequence] + first + i]);
                    }
                }
                let hidden = cache.extend(parts, &wanted);
                let found = rows(&cross_entropy::logits(&device, &hidden, model.head()));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    worst = worst.max(gap(found, expected));
                    compared += 1;
                }
            };
            // the trunk in two parts, the second with the start of what shares nothing
            step(&[(trunk, &plan.trunk[..7])], &[(0, 0)], false);
            step(&[(trunk, &plan.trunk[7..]), (alone, &plan.alone[..4])], &[(0, 7), (2, 0)], true);
            // both branches at once, first by several tokens and then by one
            let [a, b] = &plan.branches;
            let at = plan.leaves.map(|leaf| leaf as usize + 1);
            step(&[(branches[0], &a[..5]), (branches[1], &b[..3])], &[(0, at[0]), (1, at[1])], false);
            for i in 0..14 {
                step(
                    &[(branches[0], &a[5 + i..6 + i]), (branches[1], &b[3 + i..4 + i])],
                    &[(0, at[0] + 5 + i), (1, at[1] + 3 + i)],
                    false,
                );
            }
            step(&[(branches[0], &a[19..]), (alone, &plan.alone[4..])], &[(0, at[0] + 19), (2, 4)], false);
            assert_eq!(compared, 7 + 2 + 8 + 28 + 8);
            // both sides round; each is within 10 * noise of the truth (tests/parity.rs)
            let noise = case.noise("logits");
            let name = case.folder.display();
            assert!(worst <= 20.0 * noise, "{name}: {worst:e} > 20 * {noise:e}");
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let device = cpu(2);
    for case in cases() {
        let numbers = |key: &str| -> Vec<u32> {
            let list = case.reference[key].as_array().into_iter().flatten();
            list.map(|id| id.as_u64().expect("an id") as u32).collect()
        };
        let (prompt, expected) = (numbers("greedy_prompt"), numbers("greedy_tokens"));
        if prompt.is_empty() {
            continue; // a case of another layout
        }
        let model = case.model(WeightStorage::F32);
        // alone, then beside prompts that share its start, its whole, and nothing; in chunks and at once
        for (tokens_at_a_time, others) in [(4096, 0), (7, 3)] {
            let generator = Generator { device: &device, model: &model, adapter: None, tokens_at_a_time };
            let longer = [&prompt[..], &[5, 6]].concat();
            let tokens = [&prompt[..], &prompt[..11], &longer[..], &longer[20..]];
            let prompts: Vec<Prompt<'_>> = tokens[..=others]
                .iter()
                .map(|tokens| Prompt { tokens, place: 0, samples: 2, most: expected.len() })
                .collect();
            let mut found = vec![[Vec::new(), Vec::new()]; prompts.len()];
            generator.run(&prompts, &Sampling::GREEDY, |prompt, sample, drawn| {
                found[prompt][sample].push(drawn.token);
                true
            });
            assert_eq!(found[0], [&expected[..]; 2], "{}", case.folder.display());
            assert!(found.iter().all(|[one, two]| one == two && one.len() == expected.len()));
        }
    }
}
