//! Runs the cells that are not done yet, several at a time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::cells::{Cell, Shard, Study};
use super::result::CellResult;
use super::settings::Scoring;
use crate::adapter::{peft, settings::Method};
use crate::base::{Error, Result};
use crate::config::Config;
use crate::data::{self, Dataset, Encoder, Format, LossOn};
use crate::device::{self, Device};
use crate::model::Model;
use crate::recipes::quiet::quietly;
use crate::train::answer::{Answered, Normalization};
use crate::train::score::Scorer;
use crate::train::shots::Shots;
use crate::train::signals::StopSignal;
use crate::train::{self, Outcome};

/// How the work on a study ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Every cell of the shard is done.
    Finished,
    /// A signal of this number stopped it; finished cells stay, a run in progress has a checkpoint.
    Stopped(u8),
}

/// Does the cells of `shard` that are not done yet.
pub fn run(study: &Study, shard: Shard, stop: &StopSignal) -> Result<Ran> {
    let mut todo = Vec::new();
    let mut ours = 0;
    for (_, cell) in study.cells.iter().enumerate().filter(|(i, _)| shard.holds(*i)) {
        ours += 1;
        if study.finished(cell)?.is_none() {
            todo.push(cell);
        }
    }
    tracing::info!("{} of {ours} cells to do in {}", todo.len(), study.folder().display());
    if todo.is_empty() {
        return Ok(Ran::Finished);
    }
    let threads = match study.base.device.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let jobs = if study.jobs == 0 { threads } else { study.jobs }.min(todo.len());
    let settings = device::Settings { threads: (threads / jobs).max(1), ..study.base.device.clone() };
    let work = Work {
        study,
        stop,
        todo: &todo,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        error: Mutex::new(None),
        started: Instant::now(),
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work.help(&settings));
        }
    });
    if let Some((_, error)) = work.error.into_inner().expect("no worker panicked while it held the lock") {
        return Err(error);
    }
    Ok(stop.received().map_or(Ran::Finished, Ran::Stopped))
}

/// The cells to do, shared by the workers.
struct Work<'a> {
    study: &'a Study,
    stop: &'a StopSignal,
    todo: &'a [&'a Cell],
    next: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicBool,
    /// The error of the earliest cell that failed, and its place.
    error: Mutex<Option<(usize, Error)>>,
    started: Instant,
}

impl Work<'_> {
    /// One worker: takes the next cell until none is left, one failed, or a signal came.
    fn help(&self, settings: &device::Settings) {
        let device = match Device::open(settings) {
            Ok(device) => device,
            Err(error) => return self.fail(0, error),
        };
        while !self.failed.load(Ordering::Relaxed) && self.stop.received().is_none() {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = self.todo.get(place) else { return };
            match quietly(|| self.study.complete(&device, cell, self.stop)) {
                Ok(Some(result)) => self.say(&result),
                Ok(None) => return,
                Err(error) => return self.fail(place, error),
            }
        }
    }

    fn fail(&self, place: usize, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        let mut first = self.error.lock().expect("no worker panicked while it held the lock");
        if first.as_ref().is_none_or(|(earlier, _)| place < *earlier) {
            *first = Some((place, error));
        }
    }

    fn say(&self, CellResult { cell, accuracy, n, seconds, .. }: &CellResult) {
        let (done, all) = (self.done.fetch_add(1, Ordering::Relaxed) + 1, self.todo.len());
        let left = self.started.elapsed().mul_f64((all - done) as f64 / done as f64);
        tracing::info!(
            "{done}/{all} {cell}: {:.1} % of {n} right, {seconds:.1} s{}",
            100.0 * accuracy,
            if done < all { format!("; about {} left", rounded(left)) } else { String::new() },
        );
    }
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", seconds / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

impl Study {
    /// Runs a cell to its result; None where a signal stopped it.
    fn complete(&self, device: &Device, cell: &Cell, stop: &StopSignal) -> Result<Option<CellResult>> {
        let started = Instant::now();
        self.claim(cell)?;
        let config = self.config(cell)?;
        let (mut model, mut adapter) = (PathBuf::from(&config.model.path), None);
        if cell.run.is_some() {
            let (text, decisive) = (config.to_toml(), config.decisive());
            let outcome = train::run_on(device, &config.job(&text, &decisive), true, stop)?;
            if let Outcome::Stopped(_) = outcome {
                return Ok(None);
            }
            match config.adapter.method {
                Method::Lora => adapter = Some(config.output.dir.join("adapter")),
                Method::Full => model = config.output.dir.join("model"),
            }
        }
        let questions = &self.data[cell.data].entry.eval;
        let answers = answers(device, &config, questions, &model, adapter.as_deref(), self.scoring)?;
        let result = CellResult::new(cell, &answers, started.elapsed().as_secs_f64());
        self.finish(cell, &result)?;
        Ok(Some(result))
    }
}

/// The answers of the model in `folder` to every question of the file.
fn answers(
    device: &Device,
    config: &Config,
    questions: &Path,
    folder: &Path,
    adapter: Option<&Path>,
    scoring: Scoring,
) -> Result<Vec<Answered>> {
    let model = Model::open(folder, config.model.weights)?;
    let spec = model.spec();
    // as `preceptor evaluate` reads questions: a prompt is cut only by the model's context
    let settings = data::Settings {
        format: Format::Mcqa,
        max_seq_length: spec.context,
        append_eos: false,
        ..config.data.clone()
    };
    let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, folder, spec.vocabulary)?;
    let mut data = Dataset::open(questions, Format::Mcqa, settings.skip_bad)?;
    data.prepare(&encoder)?;
    let adapter = adapter.map(|path| peft::read(device, path, &spec.linears())).transpose()?;
    let micro_batch_tokens = config.train.micro_batch_tokens;
    let scorer = Scorer { device, model: &model, adapter: adapter.as_ref(), micro_batch_tokens };
    match scoring {
        Scoring::Letter => scorer.letters(&data, &encoder),
        Scoring::OptionText => scorer.option_texts(&data, &encoder, &Shots::default(), Normalization::None),
    }
}
