//! The numbers of a study: accuracies over questions and seeds, and every order against the baseline.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cells::{Arm, Study};
use super::result::CellResult;
use crate::base::Result;
use crate::recipes::statistics::{McNemar, bootstrap, detectable, holm, mcnemar, seeds};
use crate::train::accuracy::wilson_of;

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The order that the others are compared with.
    pub baseline: String,
    /// Comparisons over which Holm's correction holds: all of the study.
    pub comparisons: usize,
    /// One for each model and data set.
    pub groups: Vec<Group>,
    /// The names of the cells that are not done.
    pub missing: Vec<String>,
}

/// A model on a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The model's name.
    pub model: String,
    /// The data set's name.
    pub data: String,
    /// Accuracy of guessing.
    pub chance: Option<f64>,
    /// Before training.
    pub before: Option<Measured>,
    /// One for each order.
    pub rows: Vec<Row>,
    /// Which model and data set, by number.
    #[serde(skip)]
    pub(super) place: (usize, usize),
}

/// How often answers were right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Share of right answers; over several seeds, their mean.
    pub accuracy: f64,
    /// Its 95 % Wilson interval for other questions, as if of one run: a mean over seeds is at least as sure.
    pub interval: [f64; 2],
    /// Number of questions.
    pub n: usize,
    /// Number of runs.
    pub seeds: usize,
    /// 95 % interval of the mean for other seeds (Student's t); None for one seed.
    pub seeds_interval: Option<[f64; 2]>,
    /// The accuracy of each run.
    pub accuracies: Vec<f64>,
    /// Mean -ln of the right option's probability among the options.
    pub nll: f64,
    /// The letter that all runs together named most; of equals the first.
    pub most_named: char,
    /// Its share of their answers.
    pub most_named_share: f64,
}

/// An order's runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The order.
    pub strategy: String,
    /// The difficulty column that it goes by, where the data has several.
    pub difficulty: Option<String>,
    /// After training.
    #[serde(flatten)]
    pub after: Measured,
    /// Against the baseline, with the seeds that both have; None for the baseline itself.
    pub versus_baseline: Option<Comparison>,
    #[serde(skip)]
    pub(super) arm: Arm,
}

/// An order against the baseline, question by question and seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Mean difference of accuracy, this order's less the baseline's.
    pub difference: f64,
    /// Its 95 % interval for other questions and other seeds, by the paired bootstrap.
    pub interval: [f64; 2],
    /// McNemar's test; for several seeds its form for answers that belong together.
    #[serde(flatten)]
    pub mcnemar: McNemar,
    /// The p-value after Holm's correction.
    pub p_holm: f64,
    /// The smallest difference that would have shown with a chance of 80 %; None where none would.
    pub detectable: Option<f64>,
}

/// Names the resamples; a constant, so that a table can be made again.
const BOOTSTRAP_SEED: u64 = 1;

impl Study {
    /// The summary of the cells that are done.
    pub fn summary(&self) -> Result<Summary> {
        let (mut groups, mut missing) = (Vec::new(), Vec::new());
        for cell in &self.cells {
            if self.finished(cell)?.is_none() {
                missing.push(cell.name.clone());
            }
        }
        for model in 0..self.models.len() {
            for data in 0..self.data.len() {
                groups.push(self.group(model, data)?);
            }
        }
        let all = || groups.iter().flat_map(|g: &Group| &g.rows).filter_map(|r| r.versus_baseline.as_ref());
        let adjusted = holm(&all().map(|c| c.mcnemar.p).collect::<Vec<_>>());
        let comparisons = adjusted.len();
        let rows = groups.iter_mut().flat_map(|g| &mut g.rows).filter_map(|r| r.versus_baseline.as_mut());
        rows.zip(adjusted).for_each(|(comparison, p)| comparison.p_holm = p);
        Ok(Summary { baseline: self.baseline.to_string(), comparisons, groups, missing })
    }

    fn group(&self, model: usize, data: usize) -> Result<Group> {
        let before = self.finished(&self.cell(model, data, None))?;
        let mut arms = Vec::new();
        for arm in self.arms(data) {
            let result = |&seed: &u64| self.finished(&self.cell(model, data, Some((arm.clone(), seed))));
            let runs = self.seeds.iter().map(result).collect::<Result<Vec<_>>>()?;
            arms.push((arm, runs));
        }
        let baseline = arms.iter().find(|(arm, _)| arm.strategy == self.baseline);
        let (_, baseline) = baseline.expect("the baseline is one of the strategies").clone();
        let chance = before.iter().chain(arms.iter().flat_map(|(_, runs)| runs).flatten()).next();
        let chance = chance.map(|result| result.chance);
        let rows = arms.into_iter().filter_map(|(arm, runs)| {
            let versus_baseline =
                if arm.strategy == self.baseline { None } else { compare(&runs, &baseline) };
            Some(Row {
                strategy: arm.strategy.to_string(),
                difficulty: arm.difficulty.clone(),
                after: measured(&runs.into_iter().flatten().collect::<Vec<_>>())?,
                versus_baseline,
                arm,
            })
        });
        Ok(Group {
            model: self.models[model].name.clone(),
            data: self.data[data].entry.name.clone(),
            chance,
            before: before.and_then(|result| measured(&[result])),
            rows: rows.collect(),
            place: (model, data),
        })
    }
}

/// None without a run.
fn measured(runs: &[CellResult]) -> Option<Measured> {
    let n = runs.first()?.n;
    let accuracies: Vec<f64> = runs.iter().map(|run| run.accuracy).collect();
    let accuracy = seeds::mean(&accuracies);
    let (most_named, most_named_share) = most_named(runs)?;
    Some(Measured {
        accuracy,
        interval: wilson_of(accuracy, n),
        n,
        seeds: runs.len(),
        seeds_interval: seeds::interval(&accuracies),
        nll: seeds::mean(&runs.iter().map(|run| run.nll).collect::<Vec<_>>()),
        accuracies,
        most_named,
        most_named_share,
    })
}

/// None without an answer.
fn most_named(runs: &[CellResult]) -> Option<(char, f64)> {
    let mut counts = BTreeMap::new();
    runs.iter()
        .flat_map(|run| run.choices.chars())
        .for_each(|letter| *counts.entry(letter).or_insert(0) += 1);
    let all: u32 = counts.values().sum();
    // of equals, the last in this order counts
    let (letter, count) = counts.into_iter().rev().max_by_key(|&(_, count)| count)?;
    Some((letter, f64::from(count) / f64::from(all)))
}

/// None where no seed has both runs. Holm's correction is still to come.
fn compare(runs: &[Option<CellResult>], baseline: &[Option<CellResult>]) -> Option<Comparison> {
    let pairs = runs.iter().zip(baseline).filter_map(|(run, base)| Some((run.as_ref()?, base.as_ref()?)));
    let differences: Vec<Vec<i8>> = pairs
        .map(|(run, base)| run.is_right().zip(base.is_right()).map(|(a, b)| a as i8 - b as i8).collect())
        .collect();
    let n = differences.first()?.len();
    let of_question: Vec<i32> =
        (0..n).map(|question| differences.iter().map(|seed| i32::from(seed[question])).sum()).collect();
    let mcnemar = mcnemar(&of_question);
    Some(Comparison {
        difference: f64::from(of_question.iter().sum::<i32>()) / (n * differences.len()) as f64,
        interval: bootstrap::interval(&differences, bootstrap::RESAMPLES, BOOTSTRAP_SEED),
        p_holm: mcnemar.p,
        mcnemar,
        detectable: detectable(&of_question, differences.len()),
    })
}
