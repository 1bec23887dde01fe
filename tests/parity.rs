//! Whole models against Transformers and PEFT: logits, LoRA gradients, training losses, final adapters, merges.
//!
//! Every tolerance is a multiple of the case's `noise`, which is what rounding alone does to the reference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "measured gaps are worth a look beside the noise")]

mod golden;

use std::path::Path;

use preceptor::adapter::{Lora, merge};
use preceptor::device::Device;
use preceptor::model::settings::WeightStorage;
use preceptor::model::{Batch, Model, Pass, pass::Keep};
use preceptor::ops::adamw::{self, Constants};
use preceptor::ops::cross_entropy;
use preceptor::tensor::{Checkpoint, DType, Forest, StoredFile};
use preceptor::train::Learner;
use preceptor::train::schedule::{Decay, Schedule};
use preceptor::train::step::{self, Optimizer};

use golden::{Case, cases, cpu, gap};

impl Case {
    fn numbers(&self, key: &str) -> Vec<f64> {
        self.reference[key].as_array().into_iter().flatten().map(|v| v.as_f64().unwrap()).collect()
    }
}

/// Our logits of batch 0 at all real tokens, one row a token, examples one after the other.
fn logits(device: &Device, model: &Model, adapter: Option<&Lora>, forest: &Forest) -> Vec<f32> {
    let batch = Batch::new(forest, (0..forest.len() as u32).collect());
    let pass = Pass::forward(device, model, adapter, &batch, None, Keep::Nothing);
    cross_entropy::logits(device, &pass.hidden, model.head()).values().to_vec()
}

/// The reference's logits of one name, with our logits of the same tokens.
fn pairs(case: &Case, file: &str, name: &str, ours: &[f32]) -> Option<(Vec<f32>, Vec<f32>)> {
    let file = StoredFile::open(&case.folder.join(file)).ok()?;
    let stored = file.tensors().get(name)?;
    let theirs = file.f32s(name).unwrap();
    let width = *stored.shape.last().unwrap();
    let starts: Vec<usize> = case.batches[0]
        .iter()
        .scan(0, |at, e| {
            *at += e.ids.len();
            Some(*at - e.ids.len())
        })
        .collect();
    let row_of = |example: usize, token: usize| {
        let row = starts[example] + token;
        ours[row * width..(row + 1) * width].to_vec()
    };
    if let Some(positions) = file.tensors().get("positions") {
        let numbers: Vec<i64> = file
            .bytes(positions)
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let ours = numbers.chunks(2).flat_map(|p| row_of(p[0] as usize, p[1] as usize)).collect();
        return Some((theirs, ours));
    }
    let longest = stored.shape[1];
    let mut rows = (Vec::new(), Vec::new());
    for (e, example) in case.batches[0].iter().enumerate() {
        for token in 0..example.ids.len() {
            let at = (e * longest + token) * width;
            rows.0.extend_from_slice(&theirs[at..at + width]);
            rows.1.extend(row_of(e, token));
        }
    }
    Some(rows)
}

#[test]
fn logits_of_the_base_model() {
    let device = cpu(2);
    for case in cases() {
        for storage in [WeightStorage::F32, WeightStorage::Stored] {
            let ours = logits(&device, &case.model(storage), None, &case.forest(0));
            let (theirs, ours) = pairs(&case, "forward.safetensors", "logits", &ours).unwrap();
            let (gap, noise) = (gap(&theirs, &ours), case.noise("logits"));
            println!("{}: logits {gap:.1e}, noise {noise:.1e}", case.folder.display());
            assert!(gap <= 10.0 * noise, "{}: {gap:e} > 10 * {noise:e}", case.folder.display());
        }
    }
}

#[test]
fn gradients_of_every_lora_matrix() {
    let device = cpu(2);
    for case in cases() {
        let model = case.model(WeightStorage::Auto);
        let adapter = case.adapter(&device, &model, "adapter_random");
        let truth = StoredFile::open(&case.folder.join("grads_random.safetensors")).unwrap();
        let mut gradients = device.zeros(1, adapter.len());
        let learner = Learner { model, adapter: Some(adapter) };
        let losses = step::gradient(&device, &learner, &[case.forest(0)], None, false, &mut gradients);
        let loss_gap = (step::mean_loss(&losses) - case.reference["loss_random"].as_f64().unwrap()).abs();
        let mut worst = 0.0_f64;
        let adapter = learner.adapter.unwrap();
        for module in adapter.modules() {
            for (matrix, range) in [("A", module.a.clone()), ("B", module.b.clone())] {
                let theirs =
                    truth.f32s(&format!("base_model.model.{}.lora_{matrix}.weight", module.linear)).unwrap();
                let ours = &gradients.values()[range];
                assert!(ours.iter().any(|g| *g != 0.0), "{}: a gradient that is all zero", module.linear);
                worst = worst.max(gap(&theirs, ours));
            }
        }
        assert_eq!(truth.tensors().len(), 2 * adapter.modules().len());
        let noise = case.noise("grads");
        println!("{}: gradients {worst:.1e}, noise {noise:.1e}, loss {loss_gap:.1e}", case.folder.display());
        assert!(worst <= 10.0 * noise, "{}: {worst:e} > 10 * {noise:e}", case.folder.display());
        assert!(
            loss_gap <= 10.0 * case.noise("losses"),
            "{}: loss off by {loss_gap:e}",
            case.folder.display()
        );
    }
}

#[test]
fn training_losses_final_adapter_and_merge() {
    let device = cpu(2);
    for case in cases().iter().filter(|case| !case.numbers("losses").is_empty()) {
        let model = case.model(WeightStorage::Auto);
        let settings = &case.reference["settings"];
        let number = |key: &str| settings[key].as_f64().unwrap();
        let adapter = case.adapter(&device, &model, settings["start"].as_str().unwrap_or("adapter_init"));
        let mut learner = Learner { model, adapter: Some(adapter) };
        let mut optimizer = Optimizer::new(&device, learner.len());
        let schedule = Schedule {
            peak: number("peak_lr"),
            warmup: number("warmup") as u64,
            updates: number("steps") as u64,
            decay: match settings["scheduler"].as_str() {
                None | Some("cosine") => Decay::Cosine,
                Some("linear") => Decay::Linear,
                Some("constant") => Decay::Constant,
                Some(other) => panic!("unknown scheduler {other}"),
            },
        };
        let (losses, norms) = (case.numbers("losses"), case.numbers("grad_norms"));
        let (mut worst_loss, mut worst_norm) = (0.0_f64, 0.0_f64);
        for update in 0..schedule.updates {
            let forest = case.forest(update as usize % case.batches.len());
            let of_sites =
                step::gradient(&device, &learner, &[forest], None, false, &mut optimizer.gradients);
            let norm = adamw::global_norm(&device, &optimizer.gradients);
            worst_loss = worst_loss.max((step::mean_loss(&of_sites) - losses[update as usize]).abs());
            worst_norm = worst_norm.max((norm / norms[update as usize] - 1.0).abs());
            let constants = Constants {
                learning_rate: schedule.rate(update),
                beta1: 0.9,
                beta2: 0.999,
                epsilon: number("eps"),
                weight_decay: number("weight_decay"),
                update: update + 1,
                clip: 1.0,
            };
            step::apply(&device, &mut learner, &mut optimizer, norm, number("clip"), constants);
        }
        let Learner { model, adapter } = learner;
        let (adapter, theirs) = (adapter.unwrap(), case.adapter(&device, &model, "adapter_final"));
        let final_gap = gap(theirs.params().values(), adapter.params().values());
        let final_noise = case.noise("adapter_final").max(1e-5);
        println!(
            "{}: losses {worst_loss:.1e}, norms {worst_norm:.1e}, final adapter {final_gap:.1e} (noise {:.1e})",
            case.folder.display(),
            case.noise("adapter_final"),
        );
        assert!(worst_loss <= 5e-5, "{}: losses off by {worst_loss:e}", case.folder.display());
        // The limit of the losses, 5e-5, as a share of losses of about 5.
        assert!(worst_norm <= 1e-5, "{}: norms off by {worst_norm:e}", case.folder.display());
        assert!(
            final_gap <= 10.0 * final_noise,
            "{}: final adapter off by {final_gap:e}",
            case.folder.display()
        );
        merged_logits(&device, case, &model, &theirs);
    }
}

/// The largest |w| of the merged weights in `folder`.
fn largest_merged(folder: &Path, adapter: &Lora) -> f64 {
    let merged = Checkpoint::open(folder).unwrap();
    let of = |name: String| {
        let (file, _) = merged.find(&name).unwrap();
        file.f32s(&name).unwrap().into_iter().fold(0.0, |max: f64, w| max.max(f64::from(w.abs())))
    };
    adapter.modules().iter().map(|m| of(format!("{}.weight", m.linear))).fold(0.0, f64::max)
}

/// Merging rounds as it must and, where weights are f32, the merged model computes what base and adapter
/// compute; a coarser type moves the logits by what its rounding took.
fn merged_logits(device: &Device, case: &Case, model: &Model, adapter: &Lora) {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("merged");
    let base = Checkpoint::open(&case.folder.join("model")).unwrap();
    let error = merge::merge(device, &base, adapter, &out).unwrap();
    assert_eq!(error.merged, adapter.modules().len());
    let forest = case.forest(0);
    let apart = logits(device, model, Some(adapter), &forest);
    let merged = logits(device, &Model::open(&out, WeightStorage::Auto).unwrap(), None, &forest);
    let noise = case.noise("logits");
    let dtype = base.find("model.norm.weight").unwrap().1.weight_dtype().unwrap();
    // Each merged weight is the nearest of its type to a sum in f32: off by at most these shares of it.
    let (unit_roundoff, of_the_sum) = match dtype {
        DType::F32 => (0.0, 2.0_f64.powi(-24)),
        DType::F16 => (2.0_f64.powi(-11), 2.0_f64.powi(-23)),
        DType::BF16 => (2.0_f64.powi(-8), 2.0_f64.powi(-23)),
        DType::Block(block) => panic!("a Hugging Face directory holds no {} blocks", block.name()),
    };
    let largest = largest_merged(&out, adapter);
    println!("{}: merge error {:.1e} of weights to {largest:.1e}", case.folder.display(), error.largest);
    assert!(error.largest > 0.0 && error.largest <= (unit_roundoff + of_the_sum) * largest, "{error:?}");
    if dtype == DType::F32 {
        assert!(gap(&apart, &merged) <= 10.0 * noise.max(1e-6), "{}", case.folder.display());
        for (name, ours) in [("logits_adapter", &apart), ("logits_merged", &merged)] {
            if let Some((theirs, ours)) = pairs(case, "final.safetensors", name, ours) {
                let gap = gap(&theirs, &ours);
                println!("{}: {name} {gap:.1e}, noise {noise:.1e}", case.folder.display());
                assert!(gap <= 10.0 * noise, "{}: {name} off by {gap:e}", case.folder.display());
            }
        }
    }
}
