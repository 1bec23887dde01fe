//! What a cell leaves: its identity before it runs, its answers after.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cells::{Cell, Study};
use super::settings::Scoring;
use crate::base::{Error, Result, files, hash};
use crate::data::line::letter;
use crate::train::same_run;
use crate::train::score::Answered;

const IDENTITY: &str = "cell.json";
const RESULT: &str = "result.json";

/// What decides a cell's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The settings that decide the result, as TOML.
    config: String,
    /// How the questions are answered.
    #[serde(default)]
    scoring: Scoring,
    /// Identity of the training data's lines.
    train: String,
    /// Identity of the questions.
    eval: String,
}

/// `result.json`: the answers after a cell's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The cell's name.
    pub cell: String,
    /// Number of questions.
    pub n: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean accuracy of guessing: the mean of 1 / options.
    pub chance: f64,
    /// Mean -ln of the right option's probability among the options.
    pub nll: f64,
    /// 1 for each question that was answered right, else 0, in the order of the file.
    pub correct: String,
    /// The letters of the chosen options, in the order of the file.
    pub choices: String,
    /// SHA-256 of the options' probabilities, little-endian f64.
    pub probabilities: String,
    /// Wall time of the run and its evaluation in the process that ended it, in seconds.
    pub seconds: f64,
}

impl CellResult {
    /// The result of a cell's answers.
    pub(super) fn new(cell: &Cell, answers: &[Answered], seconds: f64) -> Self {
        let n = answers.len();
        let mean = |of: &dyn Fn(&Answered) -> f64| answers.iter().map(of).sum::<f64>() / n as f64;
        let is_right = |a: &Answered| a.choice() == a.answer;
        let bytes: Vec<u8> =
            answers.iter().flat_map(|a| &a.probabilities).flat_map(|p| p.to_le_bytes()).collect();
        Self {
            cell: cell.name.clone(),
            n,
            accuracy: answers.iter().filter(|a| is_right(a)).count() as f64 / n as f64,
            chance: mean(&|a| 1.0 / a.probabilities.len() as f64),
            nll: mean(&|a| -a.probabilities[a.answer].ln()),
            correct: answers.iter().map(|a| if is_right(a) { '1' } else { '0' }).collect(),
            choices: answers.iter().map(|a| letter(a.choice())).collect(),
            probabilities: hash::sha256(&bytes),
            seconds,
        }
    }

    /// Whether each question was answered right.
    pub(super) fn is_right(&self) -> impl Iterator<Item = bool> {
        self.correct.bytes().map(|b| b == b'1')
    }
}

impl Study {
    /// What decides the result of `cell`.
    fn identity(&self, cell: &Cell) -> Result<Identity> {
        let source = &self.data[cell.data];
        let (config, eval) = (self.config(cell)?.decisive(), source.eval.clone());
        Ok(Identity { config, scoring: self.scoring, train: source.train.clone(), eval })
    }

    /// The result of a cell that is done; an error if it was done with other settings or data.
    pub(super) fn finished(&self, cell: &Cell) -> Result<Option<CellResult>> {
        let path = self.cell_folder(cell).join(RESULT);
        if !path.exists() {
            return Ok(None);
        }
        self.check_identity(cell)?;
        read(&path).map(Some)
    }

    /// Claims the cell's folder; an error if it holds work with other settings or data.
    pub(super) fn claim(&self, cell: &Cell) -> Result<()> {
        let folder = self.cell_folder(cell);
        let has_work = ["adapter", "model", "checkpoints"].iter().any(|part| folder.join(part).exists());
        if has_work {
            return self.check_identity(cell);
        }
        files::create_folder(&folder)?;
        write(&folder.join(IDENTITY), &self.identity(cell)?)
    }

    /// Writes the cell's result: it is done.
    pub(super) fn finish(&self, cell: &Cell, result: &CellResult) -> Result<()> {
        write(&self.cell_folder(cell).join(RESULT), result)
    }

    fn check_identity(&self, cell: &Cell) -> Result<()> {
        let path = self.cell_folder(cell).join(IDENTITY);
        let (then, now): (Identity, _) = (read(&path)?, self.identity(cell)?);
        let hint =
            "go on with the same settings and data, name another `output.dir`, or remove this cell's folder";
        if then.config != now.config {
            return Err(same_run::difference(&then.config, &now.config).file(path).hint(hint));
        }
        if then.scoring != now.scoring {
            let what = format!("the cell {} was started with another scoring", cell.name);
            return Err(Error::input(what).file(path).key("study.scoring").hint(hint));
        }
        let source = &self.data[cell.data].entry;
        for (then, now, file) in [(then.train, now.train, &source.train), (then.eval, now.eval, &source.eval)]
        {
            if then != now {
                let what = format!("the data changed since the cell {} was started", cell.name);
                return Err(Error::input(what).file(file).hint(hint));
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&files::read_text(path)?).map_err(|e| {
        Error::input(format!("not a file that a study wrote: {e}"))
            .file(path)
            .hint("remove this cell's folder; the study makes it again")
    })
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).expect("texts and numbers can be written as JSON");
    files::write_atomic(path, format!("{json}\n").as_bytes())
}
