//! The settings of the floors below, joined; reads TOML and `--set`.
//!
//! The defaults are the schema: a key that [`Config::default`] does not have is unknown.

mod keys;
mod load;

pub use load::{Settings, load, locate, parse};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::train::Job;
use crate::{adapter, data, device, model, sampler, train};

/// One training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The base model.
    pub model: model::Settings,
    /// What is trained on it.
    pub adapter: adapter::Settings,
    /// Data and how it becomes tokens.
    pub data: data::Settings,
    /// The order of the data.
    pub sampler: sampler::Settings,
    /// The updates.
    pub train: train::Settings,
    /// Where it computes.
    pub device: device::Settings,
    /// Where results go.
    pub output: Output,
}

/// The `[output]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// The run's folder. Required.
    pub dir: PathBuf,
}

impl Config {
    /// All settings as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are numbers, texts, lists and tables")
    }

    /// The settings that decide the result, as TOML: without the device, the folder and what is only
    /// written or kept on the way.
    pub fn decisive(&self) -> String {
        let mut config = self.clone();
        config.device = device::Settings::default();
        config.output = Output::default();
        config.train = config.train.decisive();
        config.to_toml()
    }

    /// Refuses what is missing, out of range or not in this version, by key.
    pub fn check(&self) -> Result<()> {
        let required = [
            ("model.path", self.model.path.is_empty(), "a Hugging Face directory or a .gguf file"),
            ("data.train", self.data.train.as_os_str().is_empty(), "a JSONL file"),
            ("output.dir", self.output.dir.as_os_str().is_empty(), "a folder for the results"),
        ];
        if let Some((key, _, needed)) = required.iter().find(|(_, missing, _)| *missing) {
            return Err(Error::input(format!("not set, needed {needed}")).key(*key));
        }
        if self.data.format == data::Format::Preference {
            return Err(Error::input("found `preference`, which needs `train.objective = \"dpo\"`; this version has `sft` and `lm`")
                .key("data.format"));
        }
        let asks_for_eval = [("keep_best", self.train.keep_best), ("eval_steps", self.train.eval_steps > 0)];
        let asked = asks_for_eval.iter().find(|(_, asked)| *asked);
        if let (true, Some((key, _))) = (self.data.eval.as_os_str().is_empty(), asked) {
            return Err(Error::input("set, but it needs `data.eval`, which is not")
                .key(format!("train.{key}"))
                .hint("name a JSONL file to evaluate on"));
        }
        self.sampler.check()?;
        self.adapter.check()?;
        self.train.check()
    }

    /// The run that these settings ask for. `config` and `decisive` are their texts.
    pub fn job<'a>(&'a self, config: &'a str, decisive: &'a str) -> Job<'a> {
        Job {
            model: &self.model,
            adapter: &self.adapter,
            data: &self.data,
            sampler: &self.sampler,
            train: &self.train,
            device: &self.device,
            output: &self.output.dir,
            config,
            decisive,
        }
    }
}
