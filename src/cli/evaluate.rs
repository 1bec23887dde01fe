//! `preceptor evaluate`: multiple-choice accuracy.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::source::{self, DataArgs, ModelArgs};
use super::{Common, output};
use crate::base::{Error, Result, files};
use crate::data::{Dataset, Encoder, Format};
use crate::train::accuracy::{self, Report};
use crate::train::answer::{self, Answered, Written};
use crate::train::score::Scorer;
use crate::train::shots::Shots;

#[derive(Debug, Args)]
pub(super) struct Evaluate {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// How an option is chosen
    #[arg(long, value_enum, default_value = "letter")]
    scoring: Scoring,
    /// How options of different lengths are compared (option-text)
    #[arg(long, value_enum, default_value = "none")]
    normalization: Normalization,
    /// Most tokens of a written answer (generate)
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_new_tokens: usize,
    /// Solved questions before each question: of its subject, if the file has as many of it
    #[arg(long, default_value_t = 0, value_name = "K", requires = "shots_from")]
    shots: usize,
    /// JSONL, CSV or Parquet file of solved questions
    #[arg(long, value_name = "FILE", requires = "shots")]
    shots_from: Option<PathBuf>,
    /// Write the measures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write each question's probabilities and choice to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scoring {
    /// The most probable letter after the prompt
    Letter,
    /// The option whose text is the most probable answer
    OptionText,
    /// The first letter of an option in what the model writes
    Generate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Normalization {
    /// The likelihood of the whole text
    None,
    /// The likelihood a token
    Tokens,
    /// The likelihood a byte of the text
    Bytes,
}

/// What was found of all questions: the measures, and a line of predictions for each.
struct Found {
    report: Report,
    predictions: Vec<Value>,
}

impl Evaluate {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        for path in [&self.out, &self.predictions].into_iter().flatten() {
            files::check_writable(path)?;
        }
        let device = common.open_device()?;
        let mut data = self.data.open()?;
        if data.format() != Format::Mcqa {
            return Err(Error::input("the lines are no multiple-choice questions")
                .file(data.path())
                .hint("needed in each line: question, options, answer"));
        }
        let shots = match &self.shots_from {
            None => Shots::default(),
            Some(path) => Shots::new(&Dataset::open(path, Format::Mcqa, 0)?, self.shots)?,
        };
        let encoder = self.data.encoder(&data, &self.model.model, false)?;
        data.prepare(&encoder)?;
        let (model, adapter) = self.model.open(&device)?;
        let scorer = source::scorer(&device, &model, adapter.as_ref());
        let Found { report, predictions } = self.ask(&scorer, &data, &encoder, &shots)?;
        let json = serde_json::to_string_pretty(&report).expect("measures can be written as JSON");
        if let Some(path) = &self.out {
            files::write_atomic(path, format!("{json}\n").as_bytes())?;
        }
        if let Some(path) = &self.predictions {
            write_predictions(path, &predictions)?;
        }
        output::print(|out| if common.json { writeln!(out, "{json}") } else { table(out, &report) })?;
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self, scorer: &Scorer<'_>, data: &Dataset, encoder: &Encoder, shots: &Shots) -> Result<Found> {
        let normalization = match self.normalization {
            Normalization::None => answer::Normalization::None,
            Normalization::Tokens => answer::Normalization::Tokens,
            Normalization::Bytes => answer::Normalization::Bytes,
        };
        let answers = match self.scoring {
            Scoring::Letter => scorer.letters_after(data, encoder, shots)?,
            Scoring::OptionText => scorer.option_texts(data, encoder, shots, normalization)?,
            Scoring::Generate => {
                let written = scorer.written(data, encoder, shots, self.max_new_tokens)?;
                let line = |(index, w): (usize, &Written)| {
                    json!({
                        "id": data.id(index),
                        "text": w.text,
                        "choice": w.choice,
                        "answer": w.answer,
                        "correct": w.choice == Some(w.answer),
                    })
                };
                let predictions = written.iter().enumerate().map(line).collect();
                return Ok(Found { report: accuracy::report_written(&written), predictions });
            }
        };
        let line = |(index, a): (usize, &Answered)| {
            let choice = a.choice();
            json!({
                "id": data.id(index),
                "probabilities": a.probabilities,
                "choice": choice,
                "answer": a.answer,
                "correct": choice == a.answer,
            })
        };
        let predictions = answers.iter().enumerate().map(line).collect();
        Ok(Found { report: accuracy::report(&answers), predictions })
    }
}

fn write_predictions(path: &Path, predictions: &[Value]) -> Result<()> {
    files::write_atomic_with(path, |out: &mut BufWriter<&File>| {
        predictions.iter().try_for_each(|line| writeln!(out, "{line}"))
    })
}

fn table(out: &mut dyn Write, report: &Report) -> std::io::Result<()> {
    let width = report.by_subject.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
    let row = |name: &str, n: usize, accuracy: f64, [low, high]: [f64; 2]| {
        format!(
            "{name:<width$}  {n:>6}  {:>6.2} %  [{:.2}, {:.2}]",
            100.0 * accuracy,
            100.0 * low,
            100.0 * high
        )
    };
    if report.by_subject.len() > 1 {
        for (name, s) in &report.by_subject {
            writeln!(
                out,
                "{}",
                row(if name.is_empty() { "(none)" } else { name }, s.n, s.accuracy, s.interval)
            )?;
        }
    }
    writeln!(out, "{}", row("accuracy", report.n, report.accuracy, report.interval))?;
    write!(out, "weighted F1 {:.4}", report.f1_weighted)?;
    if let (Some(ece), Some(nll)) = (report.ece, report.nll) {
        write!(out, ", calibration error {ece:.4}, NLL {nll:.4}")?;
    }
    if let Some(unparsed) = report.unparsed {
        write!(out, ", {unparsed} answers name no option")?;
    }
    writeln!(out, " (interval: 95 % Wilson)")
}
