//! The cells of a study: which there are, what each is called and which run it asks for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::settings::{DataEntry, File, ModelEntry, ModelTable, Scoring, first_twin};
use crate::base::{Error, Result};
use crate::config::Config;
use crate::data::{self, Dataset, Format};
use crate::model::Spec;
use crate::sampler::{self, Labels, Strategy};
use crate::train::Settings as TrainSettings;

/// A study whose settings, files and columns were checked.
#[derive(Clone, Debug)]
pub struct Study {
    pub(super) base: Config,
    pub(super) models: Vec<ModelTable>,
    pub(super) data: Vec<Source>,
    pub(super) strategies: Vec<Strategy>,
    pub(super) seeds: Vec<u64>,
    pub(super) baseline: Strategy,
    pub(super) scoring: Scoring,
    pub(super) jobs: usize,
    /// All cells; a shard takes every N-th.
    pub(super) cells: Vec<Cell>,
}

/// A data set and the identity of its files.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) entry: DataEntry,
    pub(super) train: String,
    pub(super) eval: String,
}

/// An order as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// The order.
    pub strategy: Strategy,
    /// The column that it goes by, where it goes by difficulty and the data has several.
    pub difficulty: Option<String>,
}

/// One piece of work: a model before training, or one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its name, which is its folder's.
    pub name: String,
    /// Which of the models.
    pub(super) model: usize,
    /// Which of the data sets.
    pub(super) data: usize,
    /// The order and the seed; None: before training.
    pub(super) run: Option<(Arm, u64)>,
}

/// Every N-th cell, from the I-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// All cells.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// Whether the cell at place `cell` of the study is this shard's.
    pub fn holds(self, cell: usize) -> bool {
        cell % self.of == self.index
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// `I/N`, I counted from 0 or from 1: shard N of N is shard 0.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::input(format!("found `{text}`, needed I/N with I at most N, such as 1/3"));
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let [index, of] = [index, of].map(|part| part.trim().parse::<usize>().ok());
        match (index, of) {
            (Some(index), Some(of)) if of > 0 && index <= of => Ok(Self { index: index % of, of }),
            _ => Err(wrong()),
        }
    }
}

impl Arm {
    /// The arms of one data set.
    fn all(strategies: &[Strategy], difficulties: &[String]) -> Vec<Self> {
        let of_strategy = |&strategy: &Strategy| match difficulties {
            [_, _, ..] if strategy.needs_difficulties() => difficulties
                .iter()
                .map(|column| Self { strategy, difficulty: Some(column.clone()) })
                .collect(),
            _ => vec![Self { strategy, difficulty: None }],
        };
        strategies.iter().flat_map(of_strategy).collect()
    }
}

/// The strategy, and the column where it has one.
impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difficulty {
            Some(column) => write!(f, "{} by {column}", self.strategy),
            None => write!(f, "{}", self.strategy),
        }
    }
}

impl Study {
    /// Checks the settings, and that every file and column is there that some cell needs, before any runs.
    pub fn open(file: &File) -> Result<Self> {
        file.study.check()?;
        let base = file.base();
        let mut models = file.study.models.clone();
        if models.is_empty() {
            models.push(ModelEntry::Path(base.model.path.clone()));
        }
        let mut data = file.study.data.clone();
        if data.is_empty() {
            let (train, eval) = (base.data.train.clone(), base.data.eval.clone());
            data.push(DataEntry { train, eval, ..DataEntry::default() });
        }
        let models: Vec<_> = models.iter().map(ModelEntry::named).collect();
        let data: Vec<_> = data.iter().map(|entry| entry.named(&base.sampler)).collect();
        names_differ("models", models.iter().map(|m| &m.name))?;
        names_differ("data", data.iter().map(|d| &d.name))?;

        let (strategies, baseline) = (&file.study.strategies, file.study.baseline);
        let sources: Result<_> = data.into_iter().map(|entry| open(entry, &base, strategies)).collect();
        let mut study = Self {
            base,
            models,
            data: sources?,
            strategies: strategies.clone(),
            seeds: file.study.seeds.clone(),
            baseline,
            scoring: file.study.scoring,
            jobs: file.study.jobs,
            cells: Vec::new(),
        };
        study.check()?;
        study.cells = study.enumerate();
        names_differ("data", study.cells.iter().map(|cell| &cell.name))?;
        Ok(study)
    }

    fn check(&self) -> Result<()> {
        for source in self.data.iter().filter(|_| self.baseline.needs_difficulties()) {
            if source.entry.difficulty.len() > 1 {
                return Err(Error::input(format!(
                    "found `{}`, which goes by difficulty, and {} difficulty columns; needed one order to compare with",
                    self.baseline,
                    source.entry.difficulty.len()
                ))
                .key("study.baseline"));
            }
        }
        if self.base.train.keep_best {
            return Err(Error::input("would choose each adapter by the questions that measure it")
                .key("train.keep_best")
                .hint("leave it out; every cell is measured after its last update"));
        }
        for cell in self.enumerate() {
            let config = self.config(&cell)?;
            config.check()?;
            Spec::read(Path::new(&config.model.path))?;
        }
        Ok(())
    }

    /// All cells: first what is measured before training, then seed by seed, so that a study that was stopped
    /// has as many seeds of every order as it can.
    fn enumerate(&self) -> Vec<Cell> {
        let pairs = || (0..self.models.len()).flat_map(|m| (0..self.data.len()).map(move |d| (m, d)));
        let mut cells: Vec<_> = pairs().map(|(model, data)| self.cell(model, data, None)).collect();
        for &seed in &self.seeds {
            for (model, data) in pairs() {
                let arms = self.arms(data).into_iter();
                cells.extend(arms.map(|arm| self.cell(model, data, Some((arm, seed)))));
            }
        }
        cells
    }

    /// The arms of a data set.
    pub(super) fn arms(&self, data: usize) -> Vec<Arm> {
        Arm::all(&self.strategies, &self.data[data].entry.difficulty)
    }

    /// The cell of a model, a data set and maybe a run.
    pub(super) fn cell(&self, model: usize, data: usize, run: Option<(Arm, u64)>) -> Cell {
        let mut name = format!("{}.{}", self.models[model].name, self.data[data].entry.name);
        match &run {
            None => name += ".before",
            Some((Arm { strategy, difficulty }, seed)) => {
                let column = difficulty.as_ref().map(|column| format!(".{column}")).unwrap_or_default();
                name += &format!(".{strategy}{column}.seed-{seed}");
            }
        }
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        Cell { name: name.chars().map(plain).collect(), model, data, run }
    }

    /// The study's folder.
    pub fn folder(&self) -> &Path {
        &self.base.output.dir
    }

    /// A cell's folder.
    pub(super) fn cell_folder(&self, cell: &Cell) -> PathBuf {
        self.folder().join("cells").join(&cell.name)
    }

    /// The run that a cell asks for; before training, what matters for an evaluation, all else by default.
    pub(super) fn config(&self, cell: &Cell) -> Result<Config> {
        let model = &self.models[cell.model];
        let wrong = |e: Error| {
            let error = Error::input(format!("{e}; it is `set` for `{}`", model.name)).key("study.models");
            error.hint(e.advice().unwrap_or("write it as `table.key=value`"))
        };
        let mut config = self.base.clone().with_sets(&model.set).map_err(wrong)?;
        let source = &self.data[cell.data].entry;
        config.model.path.clone_from(&model.path);
        config.data.train.clone_from(&source.train);
        config.data.eval.clone_from(&source.eval);
        config.output.dir = self.cell_folder(cell);
        let Some((arm, seed)) = &cell.run else {
            config.adapter = crate::adapter::Settings::default();
            config.sampler = sampler::Settings::default();
            config.train = TrainSettings::default();
            return Ok(config);
        };
        if config.train.eval_steps == 0 {
            config.data.eval = PathBuf::new(); // the cell is measured after its run
        }
        config.sampler.strategy = arm.strategy;
        config.sampler.category.clone_from(&source.category);
        config.sampler.difficulty.clone_from(arm.difficulty.as_ref().unwrap_or(&source.difficulty[0]));
        config.sampler.seed = *seed;
        config.train.seed = *seed;
        Ok(config)
    }
}

fn names_differ<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let names: Vec<_> = names.collect();
    match first_twin(&names) {
        None => Ok(()),
        Some(twin) => Err(Error::input(format!("two are called `{twin}`, needed a name for each"))
            .key(format!("study.{key}"))
            .hint("give each a `name` of its own")),
    }
}

/// Opens a data set's files and looks for the columns that some order needs.
fn open(entry: DataEntry, base: &Config, strategies: &[Strategy]) -> Result<Source> {
    for (key, path) in [("train", &entry.train), ("eval", &entry.eval)] {
        if path.as_os_str().is_empty() {
            let what = format!("`{key}` is not set, needed a JSONL file");
            return Err(Error::input(what)
                .key("study.data")
                .hint("name both files in each entry of `study.data`, or in `[data]`"));
        }
    }
    let data::Settings { format, skip_bad, .. } = base.data;
    let train = Dataset::open(&entry.train, format, skip_bad)?;
    let eval = Dataset::open(&entry.eval, Format::Mcqa, skip_bad)?;
    let categories = match strategies.iter().any(|s| s.needs_categories()) {
        true => Some(train.categories(&entry.category)?),
        false => None,
    };
    let by_difficulty = strategies.iter().any(|s| s.needs_difficulties());
    let mut said = Vec::new();
    for column in &entry.difficulty {
        let difficulties = match by_difficulty {
            true => Some(train.difficulties(column)?),
            false => None,
        };
        let labels = Labels {
            n: train.len(),
            categories: categories.as_deref(),
            difficulties: difficulties.as_deref(),
        };
        for &strategy in strategies {
            let settings = sampler::Settings { strategy, ..base.sampler.clone() };
            for warning in sampler::warnings(&settings, &labels, base.train.epochs) {
                if !said.contains(&warning) {
                    tracing::warn!("{warning}");
                    said.push(warning);
                }
            }
        }
    }
    let (train, eval) = (train.fingerprint(), eval.fingerprint());
    Ok(Source { entry, train, eval })
}
