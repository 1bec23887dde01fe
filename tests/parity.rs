//! Whole models against Transformers and PEFT: logits, LoRA gradients, training losses, final adapters, merges.
//!
//! The cases are those of tests/golden and, if `PRECEPTOR_PARITY` names a folder of the same layout, those too.
//! Every tolerance is a multiple of the case's `noise`, which is what rounding alone does to the reference.

use std::path::{Path, PathBuf};

use preceptor::adapter::{Lora, merge, peft};
use preceptor::device::{Device, Settings};
use preceptor::model::settings::WeightStorage;
use preceptor::model::{Batch, Model, Pass, pass::Keep};
use preceptor::ops::adamw::{self, Constants};
use preceptor::ops::cross_entropy;
use preceptor::tensor::{Checkpoint, Forest, Site, StoredFile};
use preceptor::train::schedule::{Decay, Schedule};
use preceptor::train::step::{self, Optimizer};
use serde_json::Value;

struct Case {
    folder: PathBuf,
    reference: Value,
    batches: Vec<Vec<Example>>,
}

struct Example {
    ids: Vec<u32>,
    labels: Vec<i64>,
    weight: f32,
    smoothing: f32,
}

impl Case {
    fn open(folder: &Path) -> Self {
        let json =
            ["case.json", "reference.json"].map(|name| folder.join(name)).into_iter().find(|p| p.exists());
        let reference = serde_json::from_slice(&std::fs::read(json.expect("a reference")).unwrap()).unwrap();
        let file = StoredFile::open(&folder.join("batches.safetensors")).unwrap();
        let i64s = |name: &str| -> Vec<i64> {
            let stored = file.get(name).unwrap();
            file.bytes(stored).chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let mut batches = Vec::new();
        while let Some(shape) =
            file.tensors().get(&format!("b{}.input_ids", batches.len())).map(|t| t.shape.clone())
        {
            let name = |field: &str| format!("b{}.{field}", batches.len());
            let (ids, labels, mask) =
                (i64s(&name("input_ids")), i64s(&name("labels")), i64s(&name("attention_mask")));
            let per_example = |field: &str, default: f32| {
                file.f32s(&name(field)).unwrap_or_else(|_| vec![default; shape[0]])
            };
            let (weight, smoothing) = (per_example("weight", 1.0), per_example("smoothing", 0.0));
            let example = |row: usize| {
                let at = row * shape[1]..(row + 1) * shape[1];
                let len = mask[at.clone()].iter().filter(|&&m| m == 1).count();
                let at = at.start..at.start + len;
                Example {
                    ids: ids[at.clone()].iter().map(|&id| id as u32).collect(),
                    labels: labels[at].to_vec(),
                    weight: weight[row],
                    smoothing: smoothing[row],
                }
            };
            batches.push((0..shape[0]).map(example).collect());
        }
        Self { folder: folder.to_path_buf(), reference, batches }
    }

    fn noise(&self, of: &str) -> f64 {
        self.reference["noise"][of].as_f64().unwrap()
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.reference[key].as_array().into_iter().flatten().map(|v| v.as_f64().unwrap()).collect()
    }

    /// One example a root segment.
    fn forest(&self, batch: usize) -> Forest {
        let examples = &self.batches[batch];
        let mut forest = Forest::of_sequences(examples.iter().map(|e| &e.ids[..]));
        for (index, example) in examples.iter().enumerate() {
            let start = forest.segments[index].start;
            for (i, &label) in example.labels.iter().enumerate().skip(1).filter(|(_, label)| **label >= 0) {
                forest.sites.push(Site {
                    token: start + i as u32 - 1,
                    target: label as u32,
                    weight: example.weight,
                    smoothing: example.smoothing,
                    example: index as u32,
                });
            }
        }
        forest
    }
}

fn cases() -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let other = std::env::var_os("PRECEPTOR_PARITY").map(PathBuf::from);
    let mut folders: Vec<PathBuf> = [Some(own), other]
        .into_iter()
        .flatten()
        .flat_map(|home| std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.join("model").is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 7, "the golden cases are there");
    folders.iter().map(|folder| Case::open(folder)).collect()
}

fn cpu() -> Device {
    Device::open(&Settings { threads: 2, ..Settings::default() }).unwrap()
}

fn open(case: &Case, storage: WeightStorage) -> Model {
    Model::open(&case.folder.join("model"), storage).unwrap()
}

fn adapter(device: &Device, case: &Case, model: &Model, name: &str) -> Lora {
    peft::read(device, &case.folder.join(name), &model.spec().linears()).unwrap()
}

/// The largest |x - y|; NaN counts as infinite, since `max` would ignore it.
fn gap(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len());
    let gaps = x.iter().zip(y).map(|(x, y)| f64::from((x - y).abs()));
    gaps.map(|g| if g.is_nan() { f64::INFINITY } else { g }).fold(0.0, f64::max)
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
    let device = cpu();
    for case in cases() {
        for storage in [WeightStorage::F32, WeightStorage::Stored] {
            let ours = logits(&device, &open(&case, storage), None, &case.forest(0));
            let (theirs, ours) = pairs(&case, "forward.safetensors", "logits", &ours).unwrap();
            let (gap, noise) = (gap(&theirs, &ours), case.noise("logits"));
            println!("{}: logits {gap:.1e}, noise {noise:.1e}", case.folder.display());
            assert!(gap <= 10.0 * noise, "{}: {gap:e} > 10 * {noise:e}", case.folder.display());
        }
    }
}

#[test]
fn gradients_of_every_lora_matrix() {
    let device = cpu();
    for case in cases() {
        let model = open(&case, WeightStorage::Auto);
        let adapter = adapter(&device, &case, &model, "adapter_random");
        let truth = StoredFile::open(&case.folder.join("grads_random.safetensors")).unwrap();
        let mut gradients = device.zeros(1, adapter.len());
        let losses =
            step::gradient(&device, &model, &adapter, &[case.forest(0)], None, false, &mut gradients);
        let loss_gap = (step::mean_loss(&losses) - case.reference["loss_random"].as_f64().unwrap()).abs();
        let mut worst = 0.0_f64;
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
        assert!(loss_gap <= 5e-6, "{}: loss off by {loss_gap:e}", case.folder.display());
    }
}

#[test]
fn training_losses_final_adapter_and_merge() {
    let device = cpu();
    for case in cases().iter().filter(|case| !case.numbers("losses").is_empty()) {
        let model = open(case, WeightStorage::Auto);
        let settings = &case.reference["settings"];
        let number = |key: &str| settings[key].as_f64().unwrap();
        let mut adapter =
            adapter(&device, case, &model, settings["start"].as_str().unwrap_or("adapter_init"));
        let mut optimizer = Optimizer::new(&device, adapter.len());
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
                step::gradient(&device, &model, &adapter, &[forest], None, false, &mut optimizer.gradients);
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
            step::apply(&device, &mut adapter, &mut optimizer, norm, number("clip"), constants);
        }
        let theirs =
            peft::read(&device, &case.folder.join("adapter_final"), &model.spec().linears()).unwrap();
        let final_gap = gap(theirs.params().values(), adapter.params().values());
        let final_noise = case.noise("adapter_final").max(1e-5);
        println!(
            "{}: losses {worst_loss:.1e}, norms {worst_norm:.1e}, final adapter {final_gap:.1e} (noise {:.1e})",
            case.folder.display(),
            case.noise("adapter_final"),
        );
        assert!(worst_loss <= 5e-5, "{}: losses off by {worst_loss:e}", case.folder.display());
        assert!(worst_norm <= 1e-4, "{}: norms off by {worst_norm:e}", case.folder.display());
        assert!(
            final_gap <= 10.0 * final_noise,
            "{}: final adapter off by {final_gap:e}",
            case.folder.display()
        );
        merged_logits(&device, case, &model, &theirs);
    }
}

/// The merged model computes what base and adapter compute.
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
    if base.find("model.norm.weight").unwrap().1.weight_dtype() == Some(preceptor::tensor::DType::F32) {
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
