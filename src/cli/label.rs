//! `preceptor label`: the columns that orders need.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, output};
use crate::base::{Error, Result};
use crate::recipes::label::{difficulty, topics};

#[derive(Debug, Args)]
pub(super) struct Label {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// 1 - the mean probability that models give the right letter
    Difficulty(Difficulty),
    /// Clusters of what the lines are about, by a model's hidden states
    Topics(Topics),
}

#[derive(Debug, Args)]
struct Difficulty {
    /// Model to ask; give it again for more
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// PEFT adapter to put on the only model
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Scores made elsewhere, as one more scorer: lines {"id", "p"} or {"id", "difficulty"}; give it again for more
    #[arg(long, value_name = "FILE")]
    scores: Vec<PathBuf>,
    /// JSONL, CSV or Parquet file of multiple-choice questions
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// exam, chat (the model's own), or a minijinja file
    #[arg(long, default_value = "exam", value_name = "TEMPLATE")]
    template: String,
    /// Field to write
    #[arg(long, default_value = "difficulty", value_name = "KEY")]
    column: String,
    /// File to write: the same lines with the field
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Topics {
    /// Model whose hidden states are compared
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// JSONL, CSV or Parquet file
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Number of topics; auto: the one in 6..=20 whose topics stand apart best
    #[arg(long, default_value = "auto", value_name = "K")]
    k: String,
    /// Names the starts of k-means
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Field to write
    #[arg(long, default_value = "subject", value_name = "KEY")]
    column: String,
    /// File to write: the same lines with the field
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Label {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        match &self.what {
            What::Difficulty(label) => label.run(common)?,
            What::Topics(label) => label.run(common)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Difficulty {
    fn run(&self, common: &Common) -> Result<()> {
        let job = difficulty::Job {
            data: &self.data,
            models: &self.model,
            adapter: self.adapter.as_deref(),
            scores: &self.scores,
            template: &self.template,
            column: &self.column,
            out: &self.out,
        };
        let found = difficulty::label(&common.open_device()?, &job)?;
        output::print(|out| {
            if common.json {
                return writeln!(out, "{}", serde_json::json!(found));
            }
            let difficulty::Labelled { n, column, scorers, mean, min, max, agreement } = &found;
            write!(
                out,
                "{n} questions, `{column}` by {scorers} scorers: {min:.3} to {max:.3}, mean {mean:.3}"
            )?;
            match agreement {
                Some(r) => writeln!(out, "; scorers correlate by {r:.2}"),
                None => writeln!(out),
            }
        })
    }
}

impl Topics {
    fn run(&self, common: &Common) -> Result<()> {
        let topics = match self.k.as_str() {
            "auto" => None,
            k => Some(k.parse().map_err(|_| {
                Error::input(format!("found `{k}`, needed a number of topics or `auto`")).key("--k")
            })?),
        };
        let job = topics::Job {
            data: &self.data,
            model: &self.model,
            topics,
            seed: self.seed,
            column: &self.column,
            out: &self.out,
        };
        let found = topics::label(&common.open_device()?, &job)?;
        output::print(|out| {
            if common.json {
                return writeln!(out, "{}", serde_json::json!(found));
            }
            for topics::Topic { name, n, words } in &found.topics {
                writeln!(out, "{name}  {n:>6}  {}", words.join(", "))?;
            }
            writeln!(out, "{} lines, `{}`; silhouette {:.3}", found.n, found.column, found.silhouette)
        })
    }
}
