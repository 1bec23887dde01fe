//! One training run: open everything, update by update, evaluate, checkpoint, stop, resume.

use std::path::Path;

use super::checkpoint::{Checkpoints, State};
use super::folder::{Folder, Found};
use super::signals::StopSignal;
use super::step::Optimizer;
use super::updates::Updates;
use super::{accuracy, same_run};
use crate::base::{Result, files};
use crate::data::Format;
use crate::device::Device;
use crate::report::{EvalMetrics, EventsFile, MetricsLog, OrderItem, Progress, StepMetrics, metrics, run};
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
    while trainer.state.step < trainer.updates.plan.updates {
        let metrics = trainer.update()?;
        let step = trainer.state.step;
        if step.is_multiple_of(job.train.logging_steps) || step == trainer.updates.plan.updates {
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
    updates: Updates<'a>,
    folder: Folder,
    checkpoints: Checkpoints,
    optimizer: Optimizer,
    state: State,
    log: MetricsLog,
    events: EventsFile,
    progress: Progress,
}

impl<'a> Trainer<'a> {
    fn open(job: &'a Job<'a>, device: &'a Device, folder: Folder, found: Found) -> Result<Self> {
        let mut updates = Updates::open(job, device)?;
        let checkpoints = Checkpoints::new(folder.checkpoints(), job.train.save_total_limit);
        let started = State {
            order_hash: updates.plan.hash(),
            data: updates.data.fingerprint(),
            config: job.decisive.to_owned(),
            ..State::default()
        };
        let restored = match found {
            Found::Unfinished => checkpoints.newest(device, &mut updates.learner, |state| {
                same_run::check(state, &started, &folder.config(), &job.data.train)
            })?,
            Found::Fresh | Found::Finished => None,
        };
        let (learner, total) = (&updates.learner, updates.plan.updates);
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
        tracing::info!(
            "{} of {total} updates to do on {}; order {}",
            total - state.step,
            device.describe(),
            state.order_hash,
        );
        let progress = Progress::new(state.step, total);
        Ok(Self { updates, folder, checkpoints, optimizer, state, log, events, progress })
    }

    /// What is known before the first update: the settings and the order.
    fn write_plan(&self) -> Result<()> {
        files::write_atomic(&self.folder.config(), self.updates.job.config.as_bytes())?;
        let path = self.folder.order();
        files::write_atomic_with(&path, |out| self.updates.plan.write(out))
    }

    /// One update and what it did.
    fn update(&mut self) -> Result<StepMetrics> {
        let metrics = self.updates.update(self.state.step, &mut self.optimizer)?;
        self.state.step = metrics.step;
        let totals = &mut self.state.totals;
        totals.examples += metrics.examples;
        totals.tokens += metrics.tokens;
        totals.trained_tokens += metrics.trained_tokens;
        totals.seconds += metrics.step_ms / 1e3;
        Ok(metrics)
    }

    /// Evaluation and checkpoint where they are due.
    fn after_update(&mut self) -> Result<()> {
        let (step, train) = (self.state.step, self.updates.job.train);
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if due(train.eval_steps) || step == self.updates.plan.updates {
            self.evaluate()?;
        }
        if due(train.save_steps) {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<()> {
        let Some(eval) = &self.updates.eval else { return Ok(()) };
        let (scorer, encoder) = (self.updates.scorer(), &self.updates.encoder);
        let eval_loss = scorer.loss(eval, encoder)?;
        let eval_accuracy = match eval.format() {
            Format::Mcqa => Some(accuracy::report(&scorer.letters(eval, encoder)?).accuracy),
            _ => None,
        };
        let metrics = EvalMetrics { step: self.state.step, eval_accuracy, eval_loss };
        self.log.evaluation(&metrics)?;
        self.events.evaluation(&metrics)?;
        let accuracy = eval_accuracy.map(|a| format!(", accuracy {a:.4}")).unwrap_or_default();
        self.progress.say(&format!("after update {}: eval loss {eval_loss:.4}{accuracy}", self.state.step));

        let score = eval_accuracy.unwrap_or(-eval_loss);
        if self.updates.job.train.keep_best && self.state.best.is_none_or(|(_, best)| score > best) {
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
        let Updates { job, learner, .. } = &self.updates;
        let (base, dropout) = (&job.model.path, job.adapter.lora_dropout);
        let path = self.checkpoints.write(self.state.clone(), learner, &self.optimizer, base, dropout)?;
        if let Some((best, _)) = self.state.best {
            self.folder.remove_other_bests(best)?;
        }
        Ok(path.display().to_string())
    }

    fn write_result(&self, folder: &Path) -> Result<()> {
        let Updates { job, learner, .. } = &self.updates;
        learner.write_result(folder, &job.model.path, job.adapter.lora_dropout)
    }

    /// The report and, last, the result: once it is there, the run is finished.
    fn finish(&mut self) -> Result<()> {
        self.log.sync()?;
        self.write_report()?;
        let Updates { job, device, learner, .. } = &mut self.updates;
        let (what, path) = (learner.result(), self.folder.result(learner.adapter.is_none()));
        let best = self.state.best.filter(|_| job.train.keep_best);
        if let Some((best, _)) = best {
            learner.read(device, &self.folder.best(best))?;
        }
        files::write_folder_atomic(&path, |folder| self.write_result(folder))?;
        let which = best.map(|(best, _)| format!(" of update {best}, the best")).unwrap_or_default();
        self.progress.say(&format!("{} holds the {what}{which}", path.display()));
        Ok(())
    }

    fn write_report(&self) -> Result<()> {
        let Updates { job, device, data, plan, learner, .. } = &self.updates;
        let labels = plan.labels();
        let item = |&i: &u32| OrderItem {
            category: labels.categories.map(|c| c[i as usize].as_str()),
            difficulty: labels.difficulties.map(|d| d[i as usize]),
        };
        let order: Vec<OrderItem<'_>> = plan.epoch(0).iter().map(item).collect();
        let page = run::report(&run::Run {
            title: &format!("{} on {}", job.sampler.strategy, data.path().display()),
            config: job.config,
            lines: &metrics::read(&self.folder.metrics())?,
            order: &order,
            totals: self.state.totals,
            facts: &[
                ("updates", plan.updates.to_string()),
                ("trained parameters", learner.len().to_string()),
                ("device", device.describe()),
                ("order (SHA-256)", self.state.order_hash.clone()),
            ],
        });
        files::write_atomic(&self.folder.report(), page.as_bytes())
    }
}
