//! The demonstration: a study of a small model and questions that the program carries.
//!
//! Every fact is there in three wordings. Training sees two of them, the test asks the third.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::study::{self, DataEntry, File, Measured, ModelEntry, Ran, Shard, Study, Summary, Words};
use crate::base::{Error, Result, files};
use crate::config;
use crate::device;
use crate::train::signals::StopSignal;

const MODEL: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../assets/demo/model/config.json")),
    ("model.safetensors", include_bytes!("../../assets/demo/model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../assets/demo/model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../assets/demo/model/tokenizer_config.json")),
];
const QUESTIONS: &str = include_str!("../../assets/demo/questions.jsonl");
/// How a question stands before its answer, in training and in the test.
const TEMPLATE: &str = include_str!("../../assets/demo/ask.jinja");
const SETTINGS: &str = include_str!("../../assets/demo/demo.toml");
/// The wording that the test asks; the others are trained on.
const TESTED: &str = "c";

/// What the demonstration found.
#[derive(Debug)]
pub struct Demo {
    /// How it ended.
    pub ran: Ran,
    /// The study's numbers.
    pub summary: Summary,
    /// `summary.json`; of a demonstration that was stopped, what is known.
    pub json: Value,
    /// The page to look at.
    pub report: PathBuf,
}

/// Runs what is left of the demonstration in `out`, and writes `summary.json`, `study.csv` and `report.html`.
pub fn run(out: &Path, device: &device::Settings, stop: &StopSignal) -> Result<Demo> {
    let started = Instant::now();
    let mut file = lay_out(out)?;
    file.device = device.clone();
    let study = Study::open(&file)?;
    let ran = study::run(&study, Shard::ALL, stop)?;
    let summary = study.summary()?;
    let report = out.join("report.html");
    let json = json(&summary, started.elapsed().as_secs_f64());
    let text = serde_json::to_string_pretty(&json).expect("a JSON value can be written");
    files::write_atomic(&out.join("study.csv"), study::csv(&summary).as_bytes())?;
    files::write_atomic(&report, study::page(&study, &summary, &words(&summary))?.as_bytes())?;
    files::write_atomic(&out.join("summary.json"), format!("{text}\n").as_bytes())?;
    Ok(Demo { ran, summary, json, report })
}

/// Writes model, data and study file into `out`, as far as they are not there; returns the study file's settings.
fn lay_out(out: &Path) -> Result<File> {
    let study_file = out.join("study.toml");
    if !study_file.exists() && out.exists() && !(out.is_dir() && files::list(out)?.is_empty()) {
        return Err(Error::input("it is there already, and no demonstration's folder")
            .file(out)
            .key("--out")
            .hint("name a folder that does not exist yet"));
    }
    let (model, data) = (out.join("model"), out.join("data"));
    let (train, eval) = (data.join("train.jsonl"), data.join("test.jsonl"));
    let template = data.join("ask.jinja");
    let mut file: File = config::parse(SETTINGS)?;
    file.output.dir = out.to_path_buf();
    file.data.template = template.display().to_string();
    file.study.models = vec![ModelEntry::Path(model.display().to_string())];
    file.study.data = vec![DataEntry {
        name: "questions".into(),
        train: train.clone(),
        eval: eval.clone(),
        ..file.study.data.pop().unwrap_or_default()
    }];

    files::create_folder(out)?;
    let text = toml::to_string(&file).expect("settings are numbers, texts, lists and tables");
    keep(&study_file, text.as_bytes())?;
    files::create_folder(&model)?;
    files::create_folder(&data)?;
    for (name, bytes) in MODEL {
        keep(&model.join(name), bytes)?;
    }
    keep(&template, TEMPLATE.as_bytes())?;
    let [trained, tested] = split()?;
    keep(&train, trained.as_bytes())?;
    keep(&eval, tested.as_bytes())?;
    Ok(file)
}

/// Writes a file, unless it is there already with the same content.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    if !path.exists() {
        return files::write_atomic(path, bytes);
    }
    if std::fs::read(path).map_err(|e| Error::io("read", path, &e))? == bytes {
        return Ok(());
    }
    Err(Error::input("it is not what this version's demonstration writes")
        .file(path)
        .hint("remove that folder, or name another by --out"))
}

/// The lines to train on, each a question with the text of its answer, and the questions to test on.
fn split() -> Result<[String; 2]> {
    #[derive(Deserialize)]
    struct Question {
        id: String,
        question: String,
        options: Vec<String>,
        answer: usize,
        subject: String,
        difficulty: f64,
        fact: String,
        wording: String,
    }
    let mut parts = [String::new(), String::new()];
    for (number, line) in (1..).zip(QUESTIONS.lines()) {
        let question: Question = serde_json::from_str(line)
            .map_err(|e| Error::input(e.to_string()).file("assets/demo/questions.jsonl").line(number))?;
        let Question { id, question, options, answer, subject, difficulty, fact, wording } = question;
        if wording == TESTED {
            parts[1].push_str(line);
        } else {
            let output = &options[answer];
            let line = serde_json::json!({
                "id": id, "instruction": question, "output": output, "subject": subject, "difficulty": difficulty,
                "fact": fact,
            });
            parts[0].push_str(&line.to_string());
        }
        parts[usize::from(wording == TESTED)].push('\n');
    }
    Ok(parts)
}

fn json(summary: &Summary, seconds: f64) -> Value {
    let group = &summary.groups[0];
    let short = |measured: &Measured| {
        let Measured { accuracy, interval, n, seeds, .. } = measured;
        serde_json::json!({ "accuracy": accuracy, "interval": interval, "n": n, "seeds": seeds })
    };
    let after: Map<String, Value> =
        group.rows.iter().map(|row| (row.strategy.clone(), short(&row.after))).collect();
    serde_json::json!({
        "chance": group.chance,
        "before": group.before.as_ref().map(short),
        "after": after,
        "seconds": seconds,
    })
}

/// What the page says before its numbers.
fn words(summary: &Summary) -> Words {
    let mut words = Words::of_study(summary);
    words.title = "preceptor demo: one model, seven orders".into();
    let mut opening = vec![outcome(summary)];
    opening.push(
        "This measures recall across wordings: a fact that was learned in two phrasings is asked in a third, which no run \
         has seen. It says nothing of facts that were not trained, nor of what a larger model would do; the model was made \
         for this demonstration and can do little else."
            .to_owned(),
    );
    opening.append(&mut words.opening);
    words.opening = opening;
    words
}

/// Before and after, in a sentence.
pub fn outcome(summary: &Summary) -> String {
    let group = &summary.groups[0];
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let after = || group.rows.iter().map(|row| row.after.accuracy);
    let (Some(before), true) = (&group.before, !group.rows.is_empty()) else {
        return "Nothing is measured yet.".to_owned();
    };
    let [lowest, highest] = [after().fold(1.0, f64::min), after().fold(0.0, f64::max)].map(percent);
    format!(
        "Before training the model answered {} of {} questions right (guessing: {}); after training on other wordings of \
         them, {lowest} to {highest} by the order of training.",
        percent(before.accuracy),
        before.n,
        percent(group.chance.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::{Dataset, Format};

    #[test]
    fn the_bundled_files_make_a_study_of_seven_orders() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("demo");
        let file = lay_out(&out).unwrap();
        Study::open(&file).unwrap();
        assert_eq!((file.study.strategies.len(), file.study.baseline), (7, crate::sampler::Strategy::Random));
        assert!(file.study.seeds.len() >= 2);
        assert_eq!(lay_out(&out).unwrap(), file, "what a demonstration made is no hindrance to the next");
        let read: File = config::load(&out.join("study.toml"), &[]).unwrap();
        assert_eq!(read, file, "study.toml makes the same study");
    }

    /// Each fact that is tested is trained on in other words, and no tested question is trained on.
    #[test]
    fn the_test_asks_in_words_that_training_does_not_use() {
        let home = tempfile::tempdir().unwrap();
        lay_out(home.path()).unwrap();
        let questions = |name: &str| -> Vec<Value> {
            let text = files::read_text(&home.path().join("data").join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (train, test) = (questions("train.jsonl"), questions("test.jsonl"));
        let texts = |of: &[Value], key: &str| -> HashSet<String> {
            of.iter().map(|q| q[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(train.len(), 2 * test.len());
        assert_eq!(texts(&train, "fact"), texts(&test, "fact"));
        assert!(texts(&train, "instruction").is_disjoint(&texts(&test, "question")));
        let data = Dataset::open(&home.path().join("data/train.jsonl"), Format::Instruction, 0).unwrap();
        data.categories("subject").unwrap();
        data.difficulties("difficulty").unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("notes"), "mine").unwrap();
        assert!(lay_out(home.path()).unwrap_err().to_string().contains("no demonstration's folder"));
        let out = home.path().join("demo");
        lay_out(&out).unwrap();
        std::fs::write(out.join("data/test.jsonl"), "changed").unwrap();
        assert!(lay_out(&out).unwrap_err().to_string().contains("test.jsonl"));
    }
}
