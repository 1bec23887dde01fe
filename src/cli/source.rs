//! What several commands open alike: a model, maybe an adapter, and a data file; or a run's configuration.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::Common;
use crate::adapter::{Lora, peft};
use crate::base::{Error, Result};
use crate::config::{self, Config};
use crate::data::{self, Dataset, Encoder, LossOn, index};
use crate::device::Device;
use crate::model::{Model, Spec, settings::WeightStorage};
use crate::train::{self, generate::Generator, score::Scorer};

/// The configuration of a training run.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configuration file of a training run
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Set a value over the file's: table.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RunArgs {
    /// Reads and checks it.
    pub(super) fn load(&self, common: &Common) -> Result<Config> {
        let mut config = Config::load(&self.config, &self.set)?;
        common.override_device(&mut config.device);
        config.check().map_err(|e| self.locate(e))?;
        Ok(config)
    }

    /// Says where the key that an error names was set.
    pub(super) fn locate(&self, error: Error) -> Error {
        config::locate(error, &self.config, &self.set)
    }
}

/// A base model and the adapter on it.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Hugging Face directory or .gguf file of the base model
    #[arg(long, value_name = "PATH")]
    pub(super) model: PathBuf,
    /// PEFT adapter to put on it
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
}

impl ModelArgs {
    pub(super) fn open(&self, device: &Device) -> Result<(Model, Option<Lora>)> {
        let model = Model::open(&self.model, WeightStorage::Auto)?;
        let linears = model.spec().linears();
        let adapter = self.adapter.as_ref().map(|folder| peft::read(device, folder, &linears)).transpose()?;
        Ok((model, adapter))
    }
}

/// Asks `model` with `adapter` on it, as much at a time as training computes by default.
pub(super) fn scorer<'a>(device: &'a Device, model: &'a Model, adapter: Option<&'a Lora>) -> Scorer<'a> {
    let micro_batch_tokens = train::Settings::default().micro_batch_tokens;
    Scorer { device, model, adapter, micro_batch_tokens }
}

/// Lets `model` with `adapter` on it write, as much of prompts at a time as training computes by default.
pub(super) fn generator<'a>(
    device: &'a Device,
    model: &'a Model,
    adapter: Option<&'a Lora>,
) -> Generator<'a> {
    let tokens_at_a_time = train::Settings::default().micro_batch_tokens;
    Generator { device, model, adapter, tokens_at_a_time }
}

/// A data file and how it becomes tokens.
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// JSONL, CSV or Parquet file
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// What its lines are [default: told by the first line's keys]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// exam, chat (the model's own), or a minijinja file
    #[arg(long, default_value = "exam", value_name = "TEMPLATE")]
    pub(super) template: String,
    /// Most tokens of an example [default: the model's context]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub(super) max_seq_length: Option<usize>,
}

impl DataArgs {
    /// The data, not encoded yet.
    pub(super) fn open(&self) -> Result<Dataset> {
        let format = match &self.format {
            Some(name) => parse_format(name)?,
            None => index::detect_format(&self.data)?,
        };
        Dataset::open(&self.data, format, 0)
    }

    /// The encoder for `data` of the model in `folder`.
    pub(super) fn encoder(&self, data: &Dataset, folder: &Path, append_eos: bool) -> Result<Encoder> {
        let spec = Spec::read(folder)?;
        let settings = data::Settings {
            format: data.format(),
            template: self.template.clone(),
            max_seq_length: self.max_seq_length.unwrap_or(spec.context),
            append_eos,
            ..data::Settings::default()
        };
        Encoder::open(&settings, LossOn::Completion, 0.0, folder, spec.vocabulary)
    }
}

fn parse_format(name: &str) -> Result<data::Format> {
    let value = serde_json::Value::String(name.to_owned());
    serde_json::from_value(value).map_err(|e| Error::input(e.to_string()).key("--format"))
}
