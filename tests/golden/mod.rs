//! The golden cases: small models and what Transformers and PEFT compute with them (README.md here).
//!
//! If `PRECEPTOR_PARITY` names a folder of the same layout, its cases are run, too.

#![allow(dead_code, reason = "each test uses its part")]

use std::ops::Range;
use std::path::{Path, PathBuf};

use preceptor::adapter::{Lora, Module, peft};
use preceptor::device::{Device, Settings};
use preceptor::model::Model;
use preceptor::model::settings::WeightStorage;
use preceptor::tensor::{Forest, Site, StoredFile};
use preceptor::train::Learner;
use serde_json::Value;

/// One folder.
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) reference: Value,
    pub(crate) batches: Vec<Vec<Example>>,
}

/// What a test trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trained {
    /// The case's adapter.
    Adapter,
    /// Every weight of its model.
    Weights,
}

impl Trained {
    /// What rounding alone does to the reference's gradients.
    pub(crate) fn noise(self) -> &'static str {
        if self == Self::Adapter { "grads" } else { "grads_full" }
    }
}

/// Names of all that is trained, and where their gradients stand.
pub(crate) fn parts(learner: &Learner) -> Vec<(String, Range<usize>)> {
    match &learner.adapter {
        Some(adapter) => {
            let of = |m: &Module| {
                [("A", &m.a), ("B", &m.b)]
                    .map(|(x, at)| (format!("base_model.model.{}.lora_{x}.weight", m.linear), at.clone()))
            };
            adapter.modules().iter().flat_map(of).collect()
        }
        None => learner.model.parameters().iter().map(|p| (p.name.clone(), p.range.clone())).collect(),
    }
}

/// The values of all that is trained.
pub(crate) fn parameters(learner: &Learner) -> Vec<f32> {
    match &learner.adapter {
        Some(adapter) => adapter.params().values().to_vec(),
        None => learner.model.parameters().iter().flat_map(|p| p.weight.f32().into_owned()).collect(),
    }
}

/// A line of a batch.
pub(crate) struct Example {
    pub(crate) ids: Vec<u32>,
    labels: Vec<i64>,
    weight: f32,
    smoothing: f32,
}

impl Case {
    pub(crate) fn open(folder: &Path) -> Self {
        let json =
            ["case.json", "reference.json"].map(|name| folder.join(name)).into_iter().find(|p| p.exists());
        let json = std::fs::read(json.expect("a reference")).expect("a readable reference");
        let reference = serde_json::from_slice(&json).expect("a reference in JSON");
        let file = StoredFile::open(&folder.join("batches.safetensors")).expect("the case's batches");
        let i64s = |name: &str| -> Vec<i64> {
            let (numbers, rest) = file.bytes(file.get(name).expect("ids and labels")).as_chunks();
            assert!(rest.is_empty(), "{name} holds i64");
            numbers.iter().map(|&b| i64::from_le_bytes(b)).collect()
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

    /// What rounding alone does to the reference.
    pub(crate) fn noise(&self, of: &str) -> f64 {
        self.reference["noise"][of].as_f64().expect("a number")
    }

    pub(crate) fn model(&self, storage: WeightStorage) -> Model {
        Model::open(&self.folder.join("model"), storage).expect("the case's model")
    }

    pub(crate) fn adapter(&self, device: &Device, model: &Model, name: &str) -> Lora {
        peft::read(device, &self.folder.join(name), &model.spec().linears()).expect("the case's adapter")
    }

    /// What the reference trained.
    pub(crate) fn trained(&self) -> &'static [Trained] {
        if self.trains_weights() { &[Trained::Adapter, Trained::Weights] } else { &[Trained::Adapter] }
    }

    /// Whether the reference trained every weight, too.
    pub(crate) fn trains_weights(&self) -> bool {
        self.folder.join("grads_full.safetensors").exists()
    }

    /// The model and, where it is trained, `adapter_random`.
    pub(crate) fn learner(&self, device: &Device, trained: Trained) -> Learner {
        let model = self.model(WeightStorage::Auto);
        let adapter = (trained == Trained::Adapter).then(|| self.adapter(device, &model, "adapter_random"));
        Learner { model, adapter }
    }

    /// One example a root segment.
    pub(crate) fn forest(&self, batch: usize) -> Forest {
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

pub(crate) fn cases() -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let other = std::env::var_os("PRECEPTOR_PARITY").map(PathBuf::from);
    let mut folders: Vec<PathBuf> = [Some(own), other]
        .into_iter()
        .flatten()
        .flat_map(|home| std::fs::read_dir(home).expect("a folder of cases"))
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.join("model").is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 7, "the golden cases are there");
    folders.iter().map(|folder| Case::open(folder)).collect()
}

pub(crate) fn cpu(threads: usize) -> Device {
    Device::open(&Settings { threads, ..Settings::default() }).expect("a CPU is always there")
}

/// The largest |x - y|; NaN counts as infinite, since `max` would ignore it.
pub(crate) fn gap(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len());
    let gaps = x.iter().zip(y).map(|(x, y)| f64::from((x - y).abs()));
    gaps.map(|g| if g.is_nan() { f64::INFINITY } else { g }).fold(0.0, f64::max)
}
