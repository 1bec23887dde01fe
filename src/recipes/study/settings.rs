//! A study file: the tables of a run's configuration, which hold for every cell, and `[study]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::config::{Config, Output};
use crate::sampler::Strategy;
use crate::{adapter, data, device, model, sampler, train};

/// A study file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The base model, where `[study]` names none.
    pub model: model::Settings,
    /// What is trained.
    pub adapter: adapter::Settings,
    /// How data becomes tokens; its files, where `[study]` names none.
    pub data: data::Settings,
    /// The orders' settings, but for what a cell says itself.
    pub sampler: sampler::Settings,
    /// The updates.
    pub train: train::Settings,
    /// Where it computes; `threads` are those of all jobs together.
    pub device: device::Settings,
    /// The study's folder.
    pub output: Output,
    /// What is compared.
    pub study: Settings,
}

impl File {
    /// The configuration that all cells start from.
    pub fn base(&self) -> Config {
        let Self { model, adapter, data, sampler, train, device, output, study: _ } = self.clone();
        Config { model, adapter, data, sampler, train, device, output }
    }
}

/// The `[study]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The models; empty: the one of `[model]`.
    pub models: Vec<ModelEntry>,
    /// The data sets; empty: the one of `[data]`.
    pub data: Vec<DataEntry>,
    /// The orders; one that goes by difficulty is run once for each difficulty column of the data.
    pub strategies: Vec<Strategy>,
    /// Each names the shuffles of the order, the adapter's start and its dropout.
    pub seeds: Vec<u64>,
    /// The order that the others are compared with.
    pub baseline: Strategy,
    /// How a question is answered.
    pub scoring: Scoring,
    /// Cells that run at the same time, sharing the threads; 0 = as many as threads. Results do not depend on it.
    pub jobs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            data: Vec::new(),
            strategies: vec![
                Strategy::Sequential,
                Strategy::Random,
                Strategy::Curriculum,
                Strategy::Blocked,
                Strategy::BlockedCurriculum,
                Strategy::Interleaved,
                Strategy::InterleavedCurriculum,
            ],
            seeds: vec![1, 2, 3, 4, 5],
            baseline: Strategy::Random,
            scoring: Scoring::Letter,
            jobs: 1,
        }
    }
}

/// How a question is answered, as by `preceptor evaluate --scoring`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scoring {
    /// By the most probable letter.
    #[default]
    Letter,
    /// By the option whose text is the most probable answer.
    OptionText,
}

/// A model of a study: its path, or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "needed a model's path, or a table { path, name, set }")]
pub enum ModelEntry {
    /// Its path.
    Path(String),
    /// Its path and what is its own.
    Table(ModelTable),
}

/// A model with a name or settings of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// A Hugging Face directory.
    pub path: String,
    /// Its name in cells and tables; empty: the path's last part.
    #[serde(default)]
    pub name: String,
    /// Settings for this model only, each `table.key=value`, such as `train.learning_rate=5e-4`.
    #[serde(default)]
    pub set: Vec<String>,
}

/// A data set of a study.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataEntry {
    /// Its name in cells and tables; empty: the name of its training file.
    pub name: String,
    /// The JSONL file to train on.
    pub train: PathBuf,
    /// The multiple-choice questions to measure on.
    pub eval: PathBuf,
    /// The field that holds the category; empty: `sampler.category`.
    pub category: String,
    /// The fields that hold a difficulty; empty: `sampler.difficulty`.
    pub difficulty: Vec<String>,
}

impl ModelEntry {
    /// The entry as a table with a name.
    pub(super) fn named(&self) -> ModelTable {
        let mut table = match self {
            Self::Path(path) => ModelTable { path: path.clone(), name: String::new(), set: Vec::new() },
            Self::Table(table) => table.clone(),
        };
        if table.name.is_empty() {
            table.name = last_part(PathBuf::from(&table.path).file_name());
        }
        table
    }
}

impl DataEntry {
    /// The entry with everything said that `[sampler]` says for it.
    pub(super) fn named(&self, sampler: &sampler::Settings) -> Self {
        let mut entry = self.clone();
        if entry.name.is_empty() {
            entry.name = last_part(entry.train.file_stem());
        }
        if entry.category.is_empty() {
            entry.category.clone_from(&sampler.category);
        }
        if entry.difficulty.is_empty() {
            entry.difficulty = vec![sampler.difficulty.clone()];
        }
        entry
    }
}

fn last_part(name: Option<&std::ffi::OsStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Settings {
    /// Refuses what no data could make right, by key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::input(what).key(format!("study.{key}")));
        if self.seeds.is_empty() {
            return fail("seeds", "found none, needed at least one seed".into());
        }
        if let Some(twin) = first_twin(&self.seeds) {
            return fail("seeds", format!("lists {twin} twice; equal seeds make equal runs"));
        }
        if let Some(twin) = first_twin(&self.strategies) {
            return fail("strategies", format!("lists `{twin}` twice"));
        }
        if !self.strategies.contains(&self.baseline) {
            let what = format!("found `{}`, which is not among `study.strategies`", self.baseline);
            return fail("baseline", what);
        }
        Ok(())
    }
}

/// The first entry that was there before.
pub(super) fn first_twin<T: PartialEq>(list: &[T]) -> Option<&T> {
    list.iter().enumerate().find(|(i, entry)| list[..*i].contains(entry)).map(|(_, entry)| entry)
}
