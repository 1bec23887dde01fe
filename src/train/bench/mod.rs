//! A run's own work, timed: its updates, or its questions. Nothing of it is kept but what the clock said.

mod saved;
mod timeline;

pub use saved::{Comparison, Op, Saved, Tokens, Unit, quartiles};
pub use timeline::Timeline;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::answer::{Answered, Normalization};
use super::score::Scorer;
use super::shots::Shots;
use super::step::Optimizer;
use super::trainer::Job;
use super::updates::Updates;
use crate::base::{Error, Result};
use crate::data::{Dataset, Format};
use crate::device::{self, Device, Peaks};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Updates of the run.
    Train,
    /// Questions answered by letter.
    Letter,
    /// Questions answered by the options' texts.
    OptionText,
}

/// What is timed, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What a unit is.
    pub kind: Kind,
    /// Units that count.
    pub updates: u64,
    /// Units before them: memory is touched and caches are filled.
    pub warmup: u64,
    /// Questions of a unit, where questions are answered.
    pub questions: usize,
}

/// A run that is ready to be timed.
pub struct Bench<'a> {
    updates: Updates<'a>,
    measure: Measure,
    work: Table,
}

impl<'a> Bench<'a> {
    /// Opens everything that the run of `job` opens, but for its folder.
    pub fn open(job: &'a Job<'a>, device: &'a Device, measure: Measure) -> Result<Self> {
        let updates = Updates::open(job, device)?;
        let needed = measure.warmup + measure.updates;
        if measure.kind == Kind::Train && updates.plan.updates < needed {
            let what = format!("the run has {} updates, needed {needed}", updates.plan.updates);
            return Err(Error::input(what)
                .key("train.epochs")
                .hint("ask for fewer by --updates and --warmup, or give the run more epochs"));
        }
        if measure.kind != Kind::Train && questions(&updates).format() != Format::Mcqa {
            return Err(Error::input("the lines are no multiple-choice questions, needed to time answers")
                .file(questions(&updates).path())
                .key("data.format"));
        }
        let work = work(&updates, measure);
        Ok(Self { updates, measure, work })
    }

    /// The settings that decide what is computed: two runs compare where these are the same.
    pub fn work(&self) -> &Table {
        &self.work
    }

    /// Does the work.
    pub fn run(mut self) -> Result<(Saved, Timeline)> {
        let (device, Measure { updates, warmup, .. }) = (self.updates.device, self.measure);
        let trains = self.measure.kind == Kind::Train;
        let mut optimizer = trains.then(|| Optimizer::new(device, self.updates.learner.len()));
        let (mut units, mut starts, mut paces) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..warmup + updates {
            if number == warmup {
                device.trace().start();
            }
            if number >= warmup {
                paces.push(device.measure_pace());
            }
            starts.push(device.trace().elapsed());
            units.push(match &mut optimizer {
                Some(optimizer) => self.update(number, optimizer)?,
                None => self.answer(number)?,
            });
        }
        let spans = device.trace().stop();
        paces.push(device.measure_pace());
        // read before the bandwidth is measured, which needs memory of its own
        let (memory_bytes, process_bytes) = (device.peak_bytes() as u64, device::peak_memory());
        let peaks = Peaks { flops: quartiles(&paces)[1], bytes: device.measure_bandwidth() };
        let counted = warmup as usize..;
        let timeline = Timeline::new(&starts[counted.clone()], &units[counted], spans, peaks);
        let saved = Saved {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.describe(),
            kind: self.measure.kind,
            work: self.work,
            peak_flops: paces,
            peak_bandwidth: peaks.bytes,
            warmup,
            units,
            ops: timeline.ops(),
            memory_bytes,
            process_bytes: process_bytes.map(|bytes| bytes as u64),
        };
        Ok((saved, timeline))
    }

    /// The update `number`, from 0.
    fn update(&mut self, number: u64, optimizer: &mut Optimizer) -> Result<Unit> {
        let started = Instant::now();
        let metrics = self.updates.update(number, optimizer)?;
        let seconds = started.elapsed().as_secs_f64();
        // MFU is told against the peak that was measured first
        let of_peak = metrics.mfu.unwrap_or_default() * metrics.step_ms / 1e3;
        let (real, trained, computed) = (metrics.tokens, metrics.trained_tokens, metrics.computed_tokens);
        Ok(Unit {
            seconds,
            examples: metrics.examples,
            loss: metrics.loss,
            flops: Some(of_peak * self.updates.device.measured_peak()),
            tokens: Some(Tokens { real, trained, computed }),
        })
    }

    /// The block `number` of questions, from 0; after the last question comes the first.
    fn answer(&self, number: u64) -> Result<Unit> {
        let updates = &self.updates;
        let all = questions(updates);
        let count = self.measure.questions.min(all.len());
        let first = (number as usize).wrapping_mul(count) % all.len();
        let block = all.select((0..count).map(|i| (first + i) % all.len()))?;
        let scorer = scorer(updates);
        let started = Instant::now();
        let answers = match self.measure.kind {
            Kind::OptionText => {
                scorer.option_texts(&block, &updates.encoder, &Shots::default(), Normalization::None)?
            }
            _ => scorer.letters(&block, &updates.encoder)?,
        };
        let seconds = started.elapsed().as_secs_f64();
        let nll = |a: &Answered| -a.probabilities[a.answer].ln();
        let loss = answers.iter().map(nll).sum::<f64>() / answers.len() as f64;
        Ok(Unit { seconds, examples: answers.len() as u64, loss, flops: None, tokens: None })
    }
}

/// The questions that a run answers: those it evaluates on, else those it trains on.
fn questions<'a>(updates: &'a Updates<'_>) -> &'a Dataset {
    updates.eval.as_ref().unwrap_or(&updates.data)
}

/// The base with the adapter that training would start from, if that says anything: a new one's B is zero.
fn scorer<'a>(updates: &'a Updates<'_>) -> Scorer<'a> {
    let scorer = updates.scorer();
    let adapter = scorer.adapter.filter(|_| !updates.job.adapter.init_from.is_empty());
    Scorer { adapter, ..scorer }
}

/// The decisive settings without those that say only how the same is computed, and without paths: the data's
/// content counts, wherever it lies.
fn work(updates: &Updates<'_>, measure: Measure) -> Table {
    let mut work: Table = updates.job.decisive.parse().expect("settings are TOML");
    for (table, key) in
        [("train", "share_prefixes"), ("train", "micro_batch_tokens"), ("data", "train"), ("data", "eval")]
    {
        if let Some(Value::Table(table)) = work.get_mut(table) {
            table.remove(key);
        }
    }
    let kind = Value::try_from(measure.kind).expect("a kind is a text");
    let mut bench = Table::from_iter([
        ("kind".to_owned(), kind),
        ("updates".to_owned(), Value::Integer(measure.updates as i64)),
        ("warmup".to_owned(), Value::Integer(measure.warmup as i64)),
    ]);
    if measure.kind == Kind::Train {
        bench.insert("data".into(), updates.data.fingerprint().into());
        bench.insert("order".into(), updates.plan.hash().into());
    } else {
        bench.insert("data".into(), questions(updates).fingerprint().into());
        bench.insert("questions".into(), Value::Integer(measure.questions as i64));
    }
    work.insert("bench".into(), Value::Table(bench));
    work
}
