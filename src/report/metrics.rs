//! `metrics.jsonl`: one line per logged step and one per evaluation.
//!
//! A line is written whole by one call, so a killed process tears at most the last one. Lines stand in
//! the order of their steps, so what a resume must forget is a tail, and cutting a tail off is atomic.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

/// What one update did. Every number is finite: a run stops at the first that is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The update, from 1.
    pub step: u64,
    /// Epochs done after this update: 1.0 at the end of the first.
    pub epoch: f64,
    /// This update's own loss, label smoothing included.
    pub loss: f64,
    /// The loss of each source's examples in this update.
    pub loss_by_source: BTreeMap<String, f64>,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Rate of this update.
    pub learning_rate: f64,
    /// Examples in this update.
    pub examples: u64,
    /// Their tokens, shared prefixes counted as often as they occur.
    pub tokens: u64,
    /// Their tokens that carry loss.
    pub trained_tokens: u64,
    /// Tokens that went through the model, shared prefixes counted once.
    pub computed_tokens: u64,
    /// `tokens` per second of this update.
    pub tokens_per_s: f64,
    /// Model FLOPs utilisation against the measured peak, in [0, 1]; unknown without a measured peak.
    pub mfu: Option<f64>,
    /// Peak of the device memory in use.
    pub memory_bytes: u64,
    /// Wall time of this update.
    pub step_ms: f64,
}

/// What one evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalMetrics {
    /// The update after which it ran; 0 is before training.
    pub step: u64,
    /// Share of right answers; unknown for data that is not multiple choice.
    pub eval_accuracy: Option<f64>,
    /// Mean loss over the trained tokens of the evaluation data.
    pub eval_loss: f64,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A logged step.
    Step(StepMetrics),
    /// An evaluation.
    Eval(EvalMetrics),
}

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Starts an empty file at `path`, over any older one.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("create", path, &e))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Continues the file at `path` after update `last_step`: later lines and a torn last one are cut
    /// off. A missing file is started.
    ///
    /// # Errors
    /// A line before the cut is not a metrics line.
    pub fn resume(path: &Path, last_step: u64) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("read", path, &e)),
        };
        let kept = kept_len(&bytes, last_step).map_err(|e| e.file(path))?;
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            file.set_len(kept as u64)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = open().map_err(|e| Error::io("write", path, &e))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends the line of a logged step.
    pub fn step(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.append(metrics)
    }

    /// Appends the line of an evaluation.
    pub fn evaluation(&mut self, metrics: &EvalMetrics) -> Result<()> {
        self.append(metrics)
    }

    /// Waits until the lines so far are on disk. A checkpoint calls this first, or a power cut could
    /// leave a checkpoint whose steps the file does not hold.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, &e))
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line).expect("metrics are numbers under text keys");
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(|e| Error::io("write", &self.path, &e))
    }
}

/// The lines of a `metrics.jsonl`; a torn last one is left out.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    lines(&bytes).map(|(number, line)| parse(number, line).map_err(|e| e.file(path))).collect()
}

/// Bytes of the whole lines up to the first one after `last_step`.
fn kept_len(bytes: &[u8], last_step: u64) -> Result<usize> {
    #[derive(Deserialize)]
    struct Step {
        step: u64,
    }
    let mut kept = 0;
    for (number, line) in lines(bytes) {
        let Step { step } = parse(number, line)?;
        if step > last_step {
            break;
        }
        kept += line.len();
    }
    Ok(kept)
}

/// The lines that end in a newline, newline included, numbered from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1..).zip(bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n")))
}

fn parse<'a, T: Deserialize<'a>>(number: u64, line: &'a [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| {
        Error::input(format!("not a line of metrics: {e}"))
            .line(number)
            .hint("this file is written by `train`; delete the line, or start the run in a new folder")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            epoch: 0.5,
            loss: 1.25,
            loss_by_source: [("exam".to_owned(), 1.25)].into(),
            grad_norm: 0.5,
            learning_rate: 1e-4,
            examples: 8,
            tokens: 800,
            trained_tokens: 16,
            computed_tokens: 700,
            tokens_per_s: 1000.5,
            mfu: None,
            memory_bytes: 1 << 30,
            step_ms: 800.0,
        }
    }

    fn eval(step: u64) -> EvalMetrics {
        EvalMetrics { step, eval_accuracy: Some(0.5), eval_loss: 2.0 }
    }

    #[test]
    fn a_line_holds_the_documented_fields_in_order() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        log.step(&step(1)).unwrap();
        log.evaluation(&eval(1)).unwrap();
        log.sync().unwrap();
        let expected = concat!(
            r#"{"step":1,"epoch":0.5,"loss":1.25,"loss_by_source":{"exam":1.25},"grad_norm":0.5,"#,
            r#""learning_rate":0.0001,"examples":8,"tokens":800,"trained_tokens":16,"computed_tokens":700,"#,
            r#""tokens_per_s":1000.5,"mfu":null,"memory_bytes":1073741824,"step_ms":800.0}"#,
            "\n",
            r#"{"step":1,"eval_accuracy":0.5,"eval_loss":2.0}"#,
            "\n",
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(read(&path).unwrap(), [Line::Step(step(1)), Line::Eval(eval(1))]);
    }

    #[test]
    fn a_resume_leaves_each_step_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(&path).unwrap();
        (1..=3).for_each(|s| log.step(&step(s)).unwrap());
        log.evaluation(&eval(3)).unwrap();
        log.step(&step(4)).unwrap();
        log.file.write_all(br#"{"step":5,"epo"#).unwrap();

        let mut log = MetricsLog::resume(&path, 3).unwrap();
        (4..=5).for_each(|s| log.step(&step(s)).unwrap());
        let steps: Vec<_> = read(&path)
            .unwrap()
            .into_iter()
            .map(|line| match line {
                Line::Step(m) => ("step", m.step),
                Line::Eval(m) => ("eval", m.step),
            })
            .collect();
        assert_eq!(steps, [("step", 1), ("step", 2), ("step", 3), ("eval", 3), ("step", 4), ("step", 5)]);
    }

    #[test]
    fn a_missing_file_starts_and_a_foreign_line_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("metrics.jsonl");
        MetricsLog::resume(&path, 0).unwrap().step(&step(1)).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        fs::write(&path, "{\"step\":1}\nhello\n").unwrap();
        let error = MetricsLog::resume(&path, 3).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:2: "), "{error}");
    }
}
