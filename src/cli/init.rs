//! `preceptor init`: a new model, to be trained from the start by `adapter.method = "full"`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::{Common, output};
use crate::base::{Error, Result, files};
use crate::data::{Dataset, Template, Vocabulary, WordCounts, file, index, vocabulary};
use crate::model::init::NewModel;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Sizes and family: a Hugging Face config.json
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Text that the tokenizer learns from: .jsonl, .csv or .parquet data as `exam` writes it, or plain text
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Tokens of the vocabulary [default: vocab_size of the configuration]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(vocabulary::SMALLEST as u64..))]
    vocabulary: Option<usize>,
    /// Names the random weights
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// New directory for the model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Init {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        if self.out.exists() {
            return Err(Error::input("it exists already").file(&self.out).hint("name a new directory"));
        }
        let model = NewModel::read(&self.config, self.vocabulary, vocabulary::END_ID)?;
        let mut words = WordCounts::default();
        self.text.iter().try_for_each(|path| count_words(path, &mut words))?;
        let spec = model.spec();
        let vocabulary = Vocabulary::learn(&words, spec.vocabulary).map_err(|e| match self.vocabulary {
            Some(_) => e.key("--vocabulary"),
            None => e.file(&self.config).key("vocab_size"),
        })?;
        files::write_folder_atomic(&self.out, |folder| {
            vocabulary.write(folder, spec.context)?;
            model.write(self.seed, folder)
        })?;
        output::print(|out| {
            if common.json {
                let result =
                    serde_json::json!({"parameters": model.parameters(), "vocabulary": spec.vocabulary});
                return writeln!(out, "{result}");
            }
            let parameters = model.parameters();
            writeln!(out, "{}: {parameters} parameters, {} tokens", self.out.display(), spec.vocabulary)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Counts the words of a file: of data what training would read, else all of it.
fn count_words(path: &Path, words: &mut WordCounts) -> Result<()> {
    if !file::names_data(path) {
        files::read_text(path)?.lines().for_each(|line| words.add(line));
        return Ok(());
    }
    let data = Dataset::open(path, index::detect_format(path)?, 0)?;
    for example in 0..data.len() {
        let rendered = Template::Exam.line(&data.line(example)?);
        words.add(&rendered.map_err(|e| e.at(path, data.line_number(example)))?.text);
    }
    Ok(())
}
