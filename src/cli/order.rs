//! `preceptor order`: the training order alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, value_parser};

use super::output;
use crate::base::{Result, files};
use crate::data::{Dataset, index};
use crate::sampler::{self, Strategy};
use crate::train::plan::Plan;

#[derive(Debug, Args)]
pub(super) struct Order {
    /// JSONL, CSV or Parquet file
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Strategy: sequential, random, curriculum, blocked, interleaved, ...
    #[arg(long, value_name = "NAME")]
    strategy: String,
    /// Names the shuffles
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Parts that the interleaved orders cut each category into
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    parts: u64,
    /// Field that holds the category
    #[arg(long, default_value = "subject", value_name = "KEY")]
    category: String,
    /// Field that holds the difficulty
    #[arg(long, default_value = "difficulty", value_name = "KEY")]
    difficulty: String,
    /// Epochs, one after the other
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    epochs: u32,
    /// Examples per update; `competence` paces by it
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Write the order here instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Order {
    pub(super) fn run(&self) -> Result<ExitCode> {
        if let Some(path) = &self.out {
            files::check_writable(path)?;
        }
        let settings = sampler::Settings {
            strategy: self.strategy.parse::<Strategy>().map_err(|e| e.key("--strategy"))?,
            seed: self.seed,
            parts: self.parts,
            category: self.category.clone(),
            difficulty: self.difficulty.clone(),
            ..sampler::Settings::default()
        };
        let data = Dataset::open(&self.data, index::detect_format(&self.data)?, 0)?;
        let plan = Plan::new(&data, &settings, self.epochs, self.batch_size as usize, 0)?;
        tracing::info!("order {}", plan.hash());
        match &self.out {
            Some(path) => files::write_atomic_with(path, |out| plan.write(out))?,
            None => output::print(|mut out| plan.write(&mut out))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
