//! What the documentation and the examples show works.

use std::fs;
use std::path::{Path, PathBuf};

use preceptor::adapter::settings::TargetModules;
use preceptor::config::Config;
use preceptor::data::{Dataset, Format, line::Line};
use preceptor::train::schedule::Decay;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The configuration, with what the command line must still say.
fn config(path: &Path) -> Config {
    let sets = ["model.path=m", "data.train=d.jsonl", "output.dir=out"].map(str::to_owned);
    let config = Config::load(path, &sets).unwrap_or_else(|e| panic!("{e}"));
    config.check().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    config
}

#[test]
fn every_example_is_a_configuration_that_runs() {
    let files = fs::read_dir(root("examples")).unwrap().map(|entry| entry.unwrap().path());
    let configs: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    assert!(configs.len() >= 2, "{configs:?}");
    for path in configs {
        config(&path);
    }
    let questions = Dataset::open(&root("examples/questions.jsonl"), Format::Mcqa, 0).unwrap();
    assert_eq!(questions.len(), 48);
    questions.categories("subject").unwrap();
    questions.difficulties("difficulty").unwrap();
}

/// arXiv 2408.07888, but for its 4-bit base.
#[test]
fn the_preset_has_the_papers_settings() {
    let Config { adapter, data, train, .. } = config(&root("examples/lek.toml"));
    assert_eq!((adapter.r, adapter.lora_alpha, adapter.lora_dropout), (16, 64.0, 0.1));
    assert_eq!(adapter.target_modules, TargetModules::Preset("all-linear".into()));
    assert_eq!((train.epochs, train.batch_size, train.learning_rate), (1, 8, 1e-4));
    assert_eq!((train.lr_scheduler_type, data.max_seq_length), (Decay::Linear, 512));
}

/// Blocks that start with "```jsonl FORMAT" hold lines of that format; those with "```json" are JSON.
#[test]
fn the_examples_of_the_formats_are_read() {
    let page = fs::read_to_string(root("docs/formats.md")).unwrap();
    let mut formats = Vec::new();
    for block in page.split("\n```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').unwrap();
        if let Some(name) = kind.strip_prefix("jsonl ") {
            let format: Format = serde_json::from_value(name.into()).unwrap();
            Line::parse(text.as_bytes(), format).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(Format::detect(text.as_bytes()).unwrap(), format, "{text}");
            formats.push(format);
        } else if kind == "json" {
            let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
            assert!(values.inspect(|value| assert!(value.is_ok(), "{text}: {value:?}")).count() > 0);
        }
    }
    assert_eq!(formats.len(), 7, "every format has an example: {formats:?}");
}
