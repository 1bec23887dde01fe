//! One training run: open everything, update by update, evaluate, checkpoint, stop, resume.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::checkpoint::{Checkpoints, State};
use super::folder::{Folder, Found};
use super::learner::Learner;
use super::plan::Plan;
use super::schedule::Schedule;
use super::score::Scorer;
use super::settings::SharePrefixes;
use super::signals::StopSignal;
use super::step::{self, Optimizer, SiteLoss};
use super::{accuracy, flops, same_run};
use crate::base::philox::{Philox, Purpose};
use crate::base::{Error, Result, files};
use crate::data::{Dataset, Encoder, Format, Tokenized, pack};
use crate::device::Device;
use crate::model::{DropoutRun, Spec};
use crate::ops::adamw::{self, Constants};
use crate::report::{EvalMetrics, EventsFile, MetricsLog, OrderItem, Progress, StepMetrics, metrics, run};
use crate::tensor::Forest;
use crate::{adapter, data, device, model, sampler};

/// What to train: the settings of every part.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// `[model]`
    pub model: &'a model::Settings,
    /// `[adapter]`
    pub adapter: &'a adapter::Settings,
    /// `[data]`
    pub data: &'a data::Settings,
    /// `[sampler]`
    pub sampler: &'a sampler::Settings,
    /// `[train]`
    pub train: &'a super::Settings,
    /// `[device]`
    pub device: &'a device::Settings,
    /// `output.dir`
    pub output: &'a Path,
    /// All settings as TOML, for the record.
    pub config: &'a str,
    /// The settings that decide the result, as TOML: a resumed run must have the same.
    pub decisive: &'a str,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The last update is done and its result written.
    Finished,
    /// It was finished before.
    AlreadyFinished,
    /// A signal of this number stopped it after a checkpoint.
    Stopped(u8),
}

/// Runs `job` to its end, or to a stop signal.
pub fn run(job: &Job<'_>, resume: bool, stop: &StopSignal) -> Result<Outcome> {
    run_on(&Device::open(job.device)?, job, resume, stop)
}

/// As [`run()`], on a device that is open already.
pub fn run_on(device: &Device, job: &Job<'_>, resume: bool, stop: &StopSignal) -> Result<Outcome> {
    let (folder, found) = Folder::open(job.output, resume)?;
    if found == Found::Finished {
        tracing::info!("{}: the run is finished already", job.output.display());
        return Ok(Outcome::AlreadyFinished);
    }
    let mut trainer = Trainer::open(job, device, folder, found)?;
    if trainer.state.step == 0 {
        trainer.write_plan()?;
    }
    while trainer.state.step < trainer.plan.updates {
        let metrics = trainer.update()?;
        let step = trainer.state.step;
        if step.is_multiple_of(job.train.logging_steps) || step == trainer.plan.updates {
            trainer.log.step(&metrics)?;
            trainer.events.step(&metrics)?;
            trainer.progress.step(&metrics);
        }
        trainer.after_update()?;
        if let Some(signal) = stop.received() {
            let path = trainer.checkpoint()?;
            trainer.progress.say(&format!("stopped by signal {signal} after update {step}; {path} holds it"));
            return Ok(Outcome::Stopped(signal));
        }
    }
    trainer.finish()?;
    Ok(Outcome::Finished)
}

/// A run between two updates.
struct Trainer<'a> {
    job: &'a Job<'a>,
    device: &'a Device,
    folder: Folder,
    checkpoints: Checkpoints,
    encoder: Encoder,
    data: Dataset,
    eval: Option<Dataset>,
    plan: Plan,
    schedule: Schedule,
    learner: Learner,
    optimizer: Optimizer,
    state: State,
    log: MetricsLog,
    events: EventsFile,
    progress: Progress,
    peak_flops: f64,
}

impl<'a> Trainer<'a> {
    fn open(job: &'a Job<'a>, device: &'a Device, folder: Folder, found: Found) -> Result<Self> {
        let model_folder = Path::new(&job.model.path);
        let spec = Spec::read(model_folder)?;
        let (loss_on, smoothing) = (job.train.loss_on(), job.train.label_smoothing);
        let encoder = Encoder::open(job.data, loss_on, smoothing, model_folder, spec.vocabulary)?;
        let data = open_data(&job.data.train, job.data, &encoder, &spec)?;
        let eval = if job.data.eval.as_os_str().is_empty() {
            None
        } else {
            Some(open_data(&job.data.eval, job.data, &encoder, &spec)?)
        };
        let (epochs, batch_size) = (job.train.epochs, job.train.batch_size);
        let plan = Plan::new(&data, job.sampler, epochs, batch_size, job.train.max_steps)?;
        let schedule = Schedule {
            peak: job.train.learning_rate,
            warmup: job.train.warmup(plan.updates),
            updates: plan.updates,
            decay: job.train.lr_scheduler_type,
        };

        let mut learner = Learner::start(device, job.model, job.adapter, job.train.seed)?;
        let checkpoints = Checkpoints::new(folder.checkpoints(), job.train.save_total_limit);
        let started = State {
            order_hash: plan.hash(),
            data: data.fingerprint(),
            config: job.decisive.to_owned(),
            ..State::default()
        };
        let restored = match found {
            Found::Unfinished => checkpoints.newest(device, &mut learner, |state| {
                same_run::check(state, &started, &folder.config(), &job.data.train)
            })?,
            Found::Fresh | Found::Finished => None,
        };
        let (state, optimizer) = match restored {
            Some(restored) => {
                tracing::info!("resuming after update {}", restored.0.step);
                restored
            }
            None => (started, Optimizer::new(device, learner.len())),
        };
        let model = &learner.model;
        tracing::info!("{} model in {}, {}", model.spec().model_type, model.dtype(), learner.describe());
        let log = MetricsLog::resume(&folder.metrics(), state.step)?;
        let events = EventsFile::create(folder.path(), folder.metrics().exists().then_some(state.step))?;
        let peak_flops = device.measured_peak();
        tracing::info!(
            "{} of {} updates to do on {}; order {}",
            plan.updates - state.step,
            plan.updates,
            device.describe(),
            state.order_hash,
        );
        let progress = Progress::new(state.step, plan.updates);
        Ok(Self {
            job,
            device,
            folder,
            checkpoints,
            encoder,
            data,
            eval,
            plan,
            schedule,
            learner,
            optimizer,
            state,
            log,
            events,
            progress,
            peak_flops,
        })
    }

    /// What is known before the first update: the settings and the order.
    fn write_plan(&self) -> Result<()> {
        files::write_atomic(&self.folder.config(), self.job.config.as_bytes())?;
        let path = self.folder.order();
        files::write_atomic_with(&path, |out| self.plan.write(out))
    }

    /// One update and what it did.
    fn update(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let (train, number) = (self.job.train, self.state.step);
        let place = self.plan.update(number);
        let mut examples = Vec::with_capacity(place.examples.len());
        for &index in place.examples {
            examples.extend(self.data.tokenized(index as usize, &self.encoder)?);
        }
        let forests = self.forests(&examples);
        let rate = self.dropout_rate();
        let dropout = (rate > 0.0).then(|| DropoutRun {
            philox: Philox::new(train.seed, Purpose::Dropout),
            rate,
            update: number as u32,
        });

        let losses = step::gradient(
            self.device,
            &self.learner,
            &forests,
            dropout.as_ref(),
            train.recompute,
            &mut self.optimizer.gradients,
        );
        let (loss, grad_norm) =
            (step::mean_loss(&losses), adamw::global_norm(self.device, &self.optimizer.gradients));
        let examples_of_update = place.examples;
        if !(loss.is_finite() && grad_norm.is_finite()) {
            return Err(self.not_finite(loss, grad_norm, examples_of_update));
        }
        let epoch = place.epoch;
        let loss_by_source = self.loss_by_source(&losses, examples_of_update);
        let constants = Constants {
            learning_rate: self.schedule.rate(number),
            beta1: train.adam_beta1,
            beta2: train.adam_beta2,
            epsilon: train.adam_epsilon,
            weight_decay: train.weight_decay,
            update: number + 1,
            clip: 1.0,
        };
        step::apply(
            self.device,
            &mut self.learner,
            &mut self.optimizer,
            grad_norm,
            train.max_grad_norm,
            constants,
        );

        let seconds = started.elapsed().as_secs_f64();
        let (spec, adapter) = (self.learner.model.spec(), self.learner.adapter.as_ref());
        let flops: f64 = forests.iter().map(|f| flops::training(spec, adapter, f)).sum();
        let tokens: u64 = examples.iter().map(|e| e.input_ids.len() as u64).sum();
        self.state.step += 1;
        let metrics = StepMetrics {
            step: self.state.step,
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
        };
        let totals = &mut self.state.totals;
        totals.examples += metrics.examples;
        totals.tokens += metrics.tokens;
        totals.trained_tokens += metrics.trained_tokens;
        totals.seconds += seconds;
        Ok(metrics)
    }

    /// Only adapters drop inputs.
    fn dropout_rate(&self) -> f32 {
        if self.learner.adapter.is_some() { self.job.adapter.lora_dropout as f32 } else { 0.0 }
    }

    /// The update's micro-batches.
    fn forests(&self, examples: &[Tokenized]) -> Vec<Forest> {
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

    fn not_finite(&self, loss: f64, grad_norm: f64, examples: &[u32]) -> Error {
        let ids: Vec<&str> = examples.iter().map(|&i| self.data.id(i as usize)).collect();
        let update = self.state.step + 1;
        Error::input(format!(
            "update {update}: loss {loss}, gradient norm {grad_norm}; needed finite numbers. Examples: {}",
            ids.join(", ")
        ))
        .file(self.data.path())
        .hint(
            "nothing was changed by this update; try a lower train.learning_rate, or look at these examples",
        )
    }

    /// Evaluation and checkpoint where they are due.
    fn after_update(&mut self) -> Result<()> {
        let (step, train) = (self.state.step, self.job.train);
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if due(train.eval_steps) || step == self.plan.updates {
            self.evaluate()?;
        }
        if due(train.save_steps) {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<()> {
        let Some(eval) = &self.eval else { return Ok(()) };
        let scorer = Scorer {
            device: self.device,
            model: &self.learner.model,
            adapter: self.learner.adapter.as_ref(),
            micro_batch_tokens: self.job.train.micro_batch_tokens,
        };
        let eval_loss = scorer.loss(eval, &self.encoder)?;
        let eval_accuracy = match eval.format() {
            Format::Mcqa => Some(accuracy::report(&scorer.letters(eval, &self.encoder)?).accuracy),
            _ => None,
        };
        let metrics = EvalMetrics { step: self.state.step, eval_accuracy, eval_loss };
        self.log.evaluation(&metrics)?;
        self.events.evaluation(&metrics)?;
        let accuracy = eval_accuracy.map(|a| format!(", accuracy {a:.4}")).unwrap_or_default();
        self.progress.say(&format!("after update {}: eval loss {eval_loss:.4}{accuracy}", self.state.step));

        let score = eval_accuracy.unwrap_or(-eval_loss);
        if self.job.train.keep_best && self.state.best.is_none_or(|(_, best)| score > best) {
            let path = self.folder.best(self.state.step);
            if !path.exists() {
                files::write_folder_atomic(&path, |folder| self.write_result(folder))?;
            }
            self.state.best = Some((self.state.step, score));
        }
        Ok(())
    }

    /// Writes a checkpoint; returns its path for the log.
    fn checkpoint(&self) -> Result<String> {
        // A checkpoint must not know of steps that a power cut could take from the metrics.
        self.log.sync()?;
        let (learner, optimizer) = (&self.learner, &self.optimizer);
        let (base, dropout) = (&self.job.model.path, self.job.adapter.lora_dropout);
        let path = self.checkpoints.write(self.state.clone(), learner, optimizer, base, dropout)?;
        if let Some((best, _)) = self.state.best {
            self.folder.remove_other_bests(best)?;
        }
        Ok(path.display().to_string())
    }

    fn write_result(&self, folder: &Path) -> Result<()> {
        self.learner.write_result(folder, &self.job.model.path, self.job.adapter.lora_dropout)
    }

    /// The report and, last, the result: once it is there, the run is finished.
    fn finish(&mut self) -> Result<()> {
        self.log.sync()?;
        self.write_report()?;
        let (what, path) = (self.learner.result(), self.folder.result(self.learner.adapter.is_none()));
        let best = self.state.best.filter(|_| self.job.train.keep_best);
        if let Some((best, _)) = best {
            self.learner.read(self.device, &self.folder.best(best))?;
        }
        files::write_folder_atomic(&path, |folder| self.write_result(folder))?;
        let which = best.map(|(best, _)| format!(" of update {best}, the best")).unwrap_or_default();
        self.progress.say(&format!("{} holds the {what}{which}", path.display()));
        Ok(())
    }

    fn write_report(&self) -> Result<()> {
        let labels = self.plan.labels();
        let item = |&i: &u32| OrderItem {
            category: labels.categories.map(|c| c[i as usize].as_str()),
            difficulty: labels.difficulties.map(|d| d[i as usize]),
        };
        let order: Vec<OrderItem<'_>> = self.plan.epoch(0).iter().map(item).collect();
        let page = run::report(&run::Run {
            title: &format!("{} on {}", self.job.sampler.strategy, self.data.path().display()),
            config: self.job.config,
            lines: &metrics::read(&self.folder.metrics())?,
            order: &order,
            totals: self.state.totals,
            facts: &[
                ("updates", self.plan.updates.to_string()),
                ("trained parameters", self.learner.len().to_string()),
                ("device", self.device.describe()),
                ("order (SHA-256)", self.state.order_hash.clone()),
            ],
        });
        files::write_atomic(&self.folder.report(), page.as_bytes())
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
