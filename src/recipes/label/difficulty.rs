//! Difficulty: how little models believe in the right answer.
//!
//! ```text
//! difficulty = 1 - mean over scorers of the probability of the right option
//! ```
//!
//! A scorer is a model that is asked by letter, or a file of values made elsewhere.
//! Source: arXiv 2408.07888, where six models that are not the trained ones score each question.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::column;
use crate::adapter::peft;
use crate::base::{Error, Result, files};
use crate::data::{self, Dataset, Encoder, Format, LossOn};
use crate::device::Device;
use crate::model::{Model, settings::WeightStorage};
use crate::train::{self, score::Scorer};

/// What to score, and by what.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Multiple-choice questions.
    pub data: &'a Path,
    /// Models to ask.
    pub models: &'a [PathBuf],
    /// An adapter on the only model.
    pub adapter: Option<&'a Path>,
    /// Files of lines `{"id", "p"}` or `{"id", "difficulty"}`.
    pub scores: &'a [PathBuf],
    /// How a question becomes a prompt.
    pub template: &'a str,
    /// The field to write.
    pub column: &'a str,
    /// The file to write.
    pub out: &'a Path,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Labelled {
    /// Number of questions.
    pub n: usize,
    /// The field.
    pub column: String,
    /// Models and files.
    pub scorers: usize,
    /// Mean difficulty.
    pub mean: f64,
    /// The least difficulty.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Mean correlation (Pearson's) of two scorers; None for one, or where a scorer says the same of all.
    pub agreement: Option<f64>,
}

/// Scores every question and writes the column.
pub fn label(device: &Device, job: &Job<'_>) -> Result<Labelled> {
    column::check(job.column, job.out)?;
    if job.models.is_empty() && job.scores.is_empty() {
        return Err(Error::input("found no scorer").hint("give at least one --model or --scores"));
    }
    if job.adapter.is_some() && job.models.len() != 1 {
        let what = format!("found {} models, needed one for the adapter", job.models.len());
        return Err(Error::input(what).key("--adapter"));
    }
    let data = Dataset::open(job.data, Format::Mcqa, 0)?;
    let mut scorers = Vec::new();
    for path in job.scores {
        scorers.push(imported(path, &data)?);
    }
    for model in job.models {
        tracing::info!("asking {} about {} questions", model.display(), data.len());
        scorers.push(asked(device, model, job, &data)?);
    }
    let of_question = |i: usize| 1.0 - scorers.iter().map(|s| s[i]).sum::<f64>() / scorers.len() as f64;
    let difficulties: Vec<f64> = (0..data.len()).map(of_question).collect();
    let values: Vec<_> = difficulties.iter().map(|&d| d.into()).collect();
    column::write(&data, job.out, job.column, &values)?;
    Ok(Labelled {
        n: data.len(),
        column: job.column.to_owned(),
        scorers: scorers.len(),
        mean: difficulties.iter().sum::<f64>() / data.len() as f64,
        min: difficulties.iter().copied().fold(f64::INFINITY, f64::min),
        max: difficulties.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        agreement: agreement(&scorers),
    })
}

/// The probability of each question's right option, by letter.
fn asked(device: &Device, folder: &Path, job: &Job<'_>, data: &Dataset) -> Result<Vec<f64>> {
    let model = Model::open(folder, WeightStorage::Auto)?;
    let spec = model.spec();
    let settings = data::Settings {
        template: job.template.to_owned(),
        max_seq_length: spec.context,
        append_eos: false,
        ..data::Settings::default()
    };
    let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, folder, spec.vocabulary)?;
    let adapter = job.adapter.map(|path| peft::read(device, path, &spec.linears())).transpose()?;
    let micro_batch_tokens = train::Settings::default().micro_batch_tokens;
    let scorer = Scorer { device, model: &model, adapter: adapter.as_ref(), micro_batch_tokens };
    let answers = scorer.letters(data, &encoder)?;
    Ok(answers.iter().map(|a| a.probabilities[a.answer]).collect())
}

/// A line of imported scores.
#[derive(Deserialize)]
struct Score {
    id: serde_json::Value,
    p: Option<f64>,
    difficulty: Option<f64>,
}

/// The probability of each question's right option, from a file; other ids and other fields in it are passed over.
fn imported(path: &Path, data: &Dataset) -> Result<Vec<f64>> {
    let mut by_id = HashMap::new();
    for (number, line) in (1..).zip(files::read_text(path)?.lines()).filter(|(_, l)| !l.trim().is_empty()) {
        let at = |e: Error| e.file(path).line(number);
        let hint = r#"needed lines such as {"id": "a1", "p": 0.7} or {"id": "a1", "difficulty": 0.3}"#;
        let score: Score =
            serde_json::from_str(line).map_err(|e| at(Error::input(e.to_string()).hint(hint)))?;
        let p = match (score.p, score.difficulty) {
            (Some(p), None) => p,
            (None, Some(difficulty)) => 1.0 - difficulty,
            _ => return Err(at(Error::input("needed one of `p` and `difficulty`").hint(hint))),
        };
        if !(0.0..=1.0).contains(&p) {
            return Err(at(Error::input(format!("found a probability of {p}, needed 0 to 1")).hint(hint)));
        }
        let id = score.id.as_str().map_or_else(|| score.id.to_string(), str::to_owned);
        if by_id.insert(id.clone(), p).is_some() {
            return Err(at(Error::input(format!("found the id {id:?} again")).key("id")));
        }
    }
    let of_example = |i: usize| {
        by_id.get(data.id(i)).copied().ok_or_else(|| {
            let place = format!("{}:{}", data.path().display(), data.line_number(i));
            Error::input(format!("has no score for {:?} of {place}", data.id(i))).file(path)
        })
    };
    (0..data.len()).map(of_example).collect()
}

/// The mean of Pearson's correlation over all pairs.
fn agreement(scorers: &[Vec<f64>]) -> Option<f64> {
    let standard: Option<Vec<Vec<f64>>> = scorers
        .iter()
        .map(|values| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let norm = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
            (norm > 0.0).then(|| values.iter().map(|v| (v - mean) / norm).collect())
        })
        .collect();
    let standard = standard?;
    let pairs = || (0..standard.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let product =
        |(a, b): (usize, usize)| -> f64 { standard[a].iter().zip(&standard[b]).map(|(x, y)| x * y).sum() };
    let count = pairs().count();
    (count > 0).then(|| pairs().map(product).sum::<f64>() / count as f64)
}
