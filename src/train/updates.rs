//! The updates of a run: its data in its order, its schedule and what is trained. It knows no folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::flops;
use super::learner::Learner;
use super::plan::Plan;
use super::schedule::Schedule;
use super::score::Scorer;
use super::settings::SharePrefixes;
use super::step::{self, Optimizer, SiteLoss};
use super::trainer::Job;
use crate::base::philox::{Philox, Purpose};
use crate::base::{Error, Result};
use crate::data::{self, Dataset, Encoder, Tokenized, pack};
use crate::device::Device;
use crate::model::{DropoutRun, Spec};
use crate::ops::adamw::{self, Constants};
use crate::report::StepMetrics;
use crate::tensor::Forest;

/// A run that has everything its updates need.
pub(super) struct Updates<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) device: &'a Device,
    pub(super) encoder: Encoder,
    pub(super) data: Dataset,
    /// What it evaluates on, if anything.
    pub(super) eval: Option<Dataset>,
    pub(super) plan: Plan,
    pub(super) learner: Learner,
    schedule: Schedule,
    peak_flops: f64,
}

impl<'a> Updates<'a> {
    pub(super) fn open(job: &'a Job<'a>, device: &'a Device) -> Result<Self> {
        let model_folder = Path::new(&job.model.path);
        let spec = Spec::read(model_folder)?;
        let (loss_on, smoothing) = (job.train.loss_on(), job.train.label_smoothing);
        let encoder = Encoder::open(job.data, loss_on, smoothing, model_folder, spec.vocabulary)?;
        let data = open_data(&job.data.train, job.data, &encoder, &spec)?;
        let eval = match &job.data.eval {
            path if path.as_os_str().is_empty() => None,
            path => Some(open_data(path, job.data, &encoder, &spec)?),
        };
        let (epochs, batch_size) = (job.train.epochs, job.train.batch_size);
        let plan = Plan::new(&data, job.sampler, epochs, batch_size, job.train.max_steps)?;
        let schedule = Schedule {
            peak: job.train.learning_rate,
            warmup: job.train.warmup(plan.updates),
            updates: plan.updates,
            decay: job.train.lr_scheduler_type,
        };
        let learner = Learner::start(device, job.model, job.adapter, job.train.seed)?;
        let peak_flops = device.measured_peak();
        Ok(Self { job, device, encoder, data, eval, plan, learner, schedule, peak_flops })
    }

    /// Does the update `number`, from 0; says what it did.
    pub(super) fn update(&mut self, number: u64, optimizer: &mut Optimizer) -> Result<StepMetrics> {
        let started = Instant::now();
        let train = self.job.train;
        let place = self.plan.update(number);
        let examples = self.examples(number)?;
        let forests = self.forests(&examples);
        let dropout = self.dropout(number);
        let losses = step::gradient(
            self.device,
            &self.learner,
            &forests,
            dropout.as_ref(),
            train.recompute,
            &mut optimizer.gradients,
        );
        let (loss, grad_norm) =
            (step::mean_loss(&losses), adamw::global_norm(self.device, &optimizer.gradients));
        if !(loss.is_finite() && grad_norm.is_finite()) {
            return Err(self.not_finite(number, loss, grad_norm, place.examples));
        }
        let epoch = place.epoch;
        let loss_by_source = self.loss_by_source(&losses, place.examples);
        let constants = Constants {
            learning_rate: self.schedule.rate(number),
            beta1: train.adam_beta1,
            beta2: train.adam_beta2,
            epsilon: train.adam_epsilon,
            weight_decay: train.weight_decay,
            update: number + 1,
            clip: 1.0,
        };
        step::apply(self.device, &mut self.learner, optimizer, grad_norm, train.max_grad_norm, constants);

        let seconds = started.elapsed().as_secs_f64();
        let (spec, adapter) = (self.learner.model.spec(), self.learner.adapter.as_ref());
        let flops: f64 = forests.iter().map(|f| flops::training(spec, adapter, f)).sum();
        let tokens: u64 = examples.iter().map(|e| e.input_ids.len() as u64).sum();
        Ok(StepMetrics {
            step: number + 1,
            epoch,
            loss,
            loss_by_source,
            grad_norm,
            learning_rate: constants.learning_rate,
            examples: examples.len() as u64,
            tokens,
            trained_tokens: losses.len() as u64,
            computed_tokens: forests.iter().map(|f| f.len() as u64).sum(),
            tokens_per_s: tokens as f64 / seconds,
            mfu: Some(flops / seconds / self.peak_flops),
            memory_bytes: self.device.peak_bytes() as u64,
            step_ms: seconds * 1e3,
        })
    }

    /// What is trained so far, as it is asked.
    pub(super) fn scorer(&self) -> Scorer<'_> {
        Scorer {
            device: self.device,
            model: &self.learner.model,
            adapter: self.learner.adapter.as_ref(),
            micro_batch_tokens: self.job.train.micro_batch_tokens,
        }
    }

    /// The examples of the update `number`, in order.
    pub(super) fn examples(&self, number: u64) -> Result<Vec<Tokenized>> {
        let mut examples = Vec::new();
        for &index in self.plan.update(number).examples {
            examples.extend(self.data.tokenized(index as usize, &self.encoder)?);
        }
        Ok(examples)
    }

    /// The dropout of the update `number`, if there is any.
    pub(super) fn dropout(&self, number: u64) -> Option<DropoutRun> {
        let rate = self.dropout_rate();
        let philox = Philox::new(self.job.train.seed, Purpose::Dropout);
        (rate > 0.0).then_some(DropoutRun { philox, rate, update: number as u32 })
    }

    /// Only adapters drop inputs.
    fn dropout_rate(&self) -> f32 {
        if self.learner.adapter.is_some() { self.job.adapter.lora_dropout as f32 } else { 0.0 }
    }

    /// The micro-batches of an update's examples.
    pub(super) fn forests(&self, examples: &[Tokenized]) -> Vec<Forest> {
        let share = match self.job.train.share_prefixes {
            SharePrefixes::Auto => self.dropout_rate() == 0.0,
            SharePrefixes::On => true,
            SharePrefixes::Off => false,
        };
        let placed: Vec<(u32, &Tokenized)> = (0..).zip(examples).collect();
        let groups = pack::micro_batches(&placed, self.job.train.micro_batch_tokens, share);
        groups.into_iter().map(|group| pack::forest(&placed[group], share)).collect()
    }

    fn loss_by_source(&self, losses: &[SiteLoss], examples: &[u32]) -> BTreeMap<String, f64> {
        let mut by_source: BTreeMap<&str, Vec<SiteLoss>> = BTreeMap::new();
        for loss in losses {
            let source = self.data.source(examples[loss.example as usize] as usize);
            by_source.entry(source.unwrap_or("")).or_default().push(*loss);
        }
        by_source.into_iter().map(|(source, losses)| (source.to_owned(), step::mean_loss(&losses))).collect()
    }

    fn not_finite(&self, number: u64, loss: f64, grad_norm: f64, examples: &[u32]) -> Error {
        let ids: Vec<&str> = examples.iter().map(|&i| self.data.id(i as usize)).collect();
        let update = number + 1;
        Error::input(format!(
            "update {update}: loss {loss}, gradient norm {grad_norm}; needed finite numbers. Examples: {}",
            ids.join(", ")
        ))
        .file(self.data.path())
        .hint(
            "nothing was changed by this update; try a lower train.learning_rate, or look at these examples",
        )
    }
}

fn open_data(path: &Path, settings: &data::Settings, encoder: &Encoder, spec: &Spec) -> Result<Dataset> {
    let mut data = Dataset::open(path, settings.format, settings.skip_bad)?;
    let counts = data.prepare(encoder)?;
    if counts.longest > spec.context {
        return Err(Error::input(format!(
            "the longest example has {} tokens, the model's context {}",
            counts.longest, spec.context
        ))
        .file(path)
        .key("data.max_seq_length")
        .hint(format!("set it to at most {}", spec.context)));
    }
    Ok(data)
}
