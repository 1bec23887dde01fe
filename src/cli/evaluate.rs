//! `preceptor evaluate`: multiple-choice accuracy.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::source::{self, DataArgs, ModelArgs};
use super::{Common, output};
use crate::base::{Error, Result, files};
use crate::data::{Dataset, Format};
use crate::train::accuracy::{self, Report};
use crate::train::score::Answered;

#[derive(Debug, Args)]
pub(super) struct Evaluate {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// How an option is chosen
    #[arg(long, value_enum, default_value = "letter")]
    scoring: Scoring,
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
}

impl Evaluate {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let Scoring::Letter = self.scoring;
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
        let encoder = self.data.encoder(&data, &self.model.model, false)?;
        data.prepare(&encoder)?;
        let (model, adapter) = self.model.open(&device)?;
        let scorer = source::scorer(&device, &model, adapter.as_ref());
        let answers = scorer.letters(&data, &encoder)?;
        let report = accuracy::report(&answers);
        let json = serde_json::to_string_pretty(&report).expect("measures can be written as JSON");
        if let Some(path) = &self.out {
            files::write_atomic(path, format!("{json}\n").as_bytes())?;
        }
        if let Some(path) = &self.predictions {
            write_predictions(path, &data, &answers)?;
        }
        output::print(|out| if common.json { writeln!(out, "{json}") } else { table(out, &report) })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write_predictions(path: &Path, data: &Dataset, answers: &[Answered]) -> Result<()> {
    files::write_atomic_with(path, |out: &mut BufWriter<&File>| {
        for (index, answer) in answers.iter().enumerate() {
            let choice = answer.choice();
            let line = json!({
                "id": data.id(index),
                "probabilities": answer.probabilities,
                "choice": choice,
                "answer": answer.answer,
                "correct": choice == answer.answer,
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
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
    writeln!(
        out,
        "weighted F1 {:.4}, calibration error {:.4}, NLL {:.4} (interval: 95 % Wilson)",
        report.f1_weighted, report.ece, report.nll
    )
}
