//! What a run will compute and hold, known before it runs: its own updates on a device that computes nothing.
//!
//! So the arena's fullest moment is that of the run itself, not of a model of it. An update that is smaller in every
//! respect than one before needs no more memory and is only counted.

use serde::Serialize;

use super::flops;
use super::step::{self, Optimizer};
use super::trainer::Job;
use super::updates::Updates;
use crate::adapter::settings::Method;
use crate::base::Result;
use crate::device::Device;
use crate::model::settings::WeightStorage;
use crate::model::{self, Batch, Pass, pass::Keep};
use crate::tensor::Forest;

/// What a run will need.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// Number of updates.
    pub updates: u64,
    /// Examples of all updates.
    pub examples: u64,
    /// Tokens of all updates.
    pub tokens: u64,
    /// Those that carry loss.
    pub trained_tokens: u64,
    /// Those that are computed, each shared prefix once.
    pub computed_tokens: u64,
    /// What all updates need, as MFU counts.
    pub flops: f64,
    /// The micro-batch that holds the most.
    pub largest: MicroBatch,
    /// Memory that does not depend on the batch.
    pub fixed: Vec<Item>,
    /// What the largest micro-batch keeps for its backward pass.
    pub kept: Vec<Item>,
    /// Everything else of the arena at its fullest, logits and gradients of activations.
    pub working_bytes: usize,
    /// The arena at its fullest: `memory_bytes` of a run's metrics.
    pub arena_bytes: usize,
}

/// A row of the memory table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub name: &'static str,
    /// How many tensors.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Whether the arena holds them.
    pub in_arena: bool,
}

/// A micro-batch's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MicroBatch {
    /// Tokens that are computed.
    pub tokens: usize,
    /// Tokens whose next token carries a loss.
    pub loss_rows: usize,
}

/// Goes through the updates of `job` without computing them.
pub fn forecast(job: &Job<'_>) -> Result<Forecast> {
    let device = Device::blank()?;
    // The bytes of weights are known from their files; no copy is made for a plan.
    let storage = job.model.weights;
    let as_stored = match job.adapter.method {
        Method::Full => storage,
        Method::Lora => WeightStorage::Stored,
    };
    let settings = model::Settings { weights: as_stored, ..job.model.clone() };
    let job = Job { model: &settings, ..*job };
    let updates = Updates::open(&job, &device)?;
    let mut fixed = weights(&updates, storage);
    let learner = &updates.learner;
    let optimizer = Optimizer::new(&device, learner.len());
    let Optimizer { gradients, m, v } = &optimizer;
    let trained = learner.adapter.as_ref().map(|adapter| ("adapter", 1, adapter.params().bytes()));
    let of_trained =
        [("gradients of what is trained", 1, gradients.bytes()), ("moments", 2, m.bytes() + v.bytes())];
    for (name, count, bytes) in trained.into_iter().chain(of_trained) {
        fixed.push(Item { name, count, bytes, in_arena: true });
    }
    let in_arena = device.used_bytes();

    let mut arena = Arena { device: &device, updates: &updates, optimizer, seen: Vec::new() };
    let (mut forecast, mut kept) = (Forecast::of(&updates, fixed), Vec::new());
    for number in 0..updates.plan.updates {
        let examples = updates.examples(number)?;
        let forests = updates.forests(&examples);
        forecast.examples += examples.len() as u64;
        forecast.tokens += examples.iter().map(|e| e.input_ids.len() as u64).sum::<u64>();
        for forest in &forests {
            forecast.trained_tokens += forest.sites.len() as u64;
            forecast.computed_tokens += forest.len() as u64;
            forecast.flops += flops::training(learner.model.spec(), learner.adapter.as_ref(), forest);
            if let Some(table) = arena.grow(number, forest) {
                (kept, forecast.largest) = (table, micro_batch(forest));
            }
        }
    }
    forecast.arena_bytes = device.peak_bytes();
    let kept_bytes: usize = kept.iter().map(|item| item.bytes).sum();
    forecast.working_bytes = forecast.arena_bytes - in_arena - kept_bytes;
    forecast.kept = kept;
    Ok(forecast)
}

impl Forecast {
    fn of(updates: &Updates<'_>, fixed: Vec<Item>) -> Self {
        Self {
            updates: updates.plan.updates,
            examples: 0,
            tokens: 0,
            trained_tokens: 0,
            computed_tokens: 0,
            flops: 0.0,
            largest: MicroBatch::default(),
            fixed,
            kept: Vec::new(),
            working_bytes: 0,
            arena_bytes: 0,
        }
    }
}

/// The arena and the sizes that went through it.
struct Arena<'a> {
    device: &'a Device,
    updates: &'a Updates<'a>,
    optimizer: Optimizer,
    /// Tokens, loss rows and longest position.
    seen: Vec<[usize; 3]>,
}

impl Arena<'_> {
    /// Takes a micro-batch through an update's memory; the table of what it keeps, if it made the arena grow.
    fn grow(&mut self, number: u64, forest: &Forest) -> Option<Vec<Item>> {
        let longest = forest.positions.iter().max().map_or(0, |&position| position as usize);
        let MicroBatch { tokens, loss_rows } = micro_batch(forest);
        let size = [tokens, loss_rows, longest];
        if self.seen.iter().any(|seen| seen.iter().zip(size).all(|(&seen, size)| size <= seen)) {
            return None;
        }
        self.seen.push(size);
        let (device, learner, before) = (self.device, &self.updates.learner, self.device.peak_bytes());
        let (recompute, dropout) = (self.updates.job.train.recompute, self.updates.dropout(number));
        let forests = std::slice::from_ref(forest);
        let gradients = &mut self.optimizer.gradients;
        step::gradient(device, learner, forests, dropout.as_ref(), recompute, gradients);
        if device.peak_bytes() == before {
            return None;
        }
        let keep = if recompute { Keep::BlockInputs } else { Keep::All };
        let batch = Batch::at_sites(forest);
        let (model, adapter) = (&learner.model, learner.adapter.as_ref());
        let pass = Pass::forward(device, model, adapter, &batch, dropout.as_ref(), keep);
        let item = |(name, count, bytes)| Item { name, count, bytes, in_arena: true };
        Some(pass.kept().into_iter().map(item).collect())
    }
}

fn micro_batch(forest: &Forest) -> MicroBatch {
    MicroBatch { tokens: forest.len(), loss_rows: forest.site_tokens().len() }
}

/// The base's weights: in their file, and in memory where that holds a copy.
fn weights(updates: &Updates<'_>, storage: WeightStorage) -> Vec<Item> {
    let learner = &updates.learner;
    let parameters = learner.model.parameters();
    let values = |p: &model::Parameter| p.shape.iter().product::<usize>();
    let stored = parameters.iter().map(|p| p.stored.bytes(values(p))).sum();
    let mut items =
        vec![Item { name: "weights, mapped file", count: parameters.len(), bytes: stored, in_arena: false }];
    let full = learner.adapter.is_none();
    let copied = |p: &&model::Parameter| full || (p.shape.len() == 2 && !p.weight.is_f32());
    let copies: Vec<usize> = parameters.iter().filter(copied).map(|p| values(p) * size_of::<f32>()).collect();
    let bytes = copies.iter().sum();
    if !copies.is_empty() && (full || storage.widens(bytes)) {
        items.push(Item { name: "weights, f32 copy", count: copies.len(), bytes, in_arena: false });
    }
    items
}
