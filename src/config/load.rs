//! A configuration file and `--set` become a [`Config`]; every error names its line or its option.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::Config;
use super::keys::{Known, find, nearest};
use crate::base::{Error, Result, files};

impl Config {
    /// Reads the file at `path`, then applies `sets`, each `a.b=value`.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        load(path, sets)
    }

    /// Reads the text of a configuration file.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text)
    }

    /// The settings with `sets` applied, each `a.b=value`; a value that is no TOML is a text.
    pub fn with_sets(self, sets: &[String]) -> Result<Self> {
        with_sets(self, sets)
    }
}

/// Settings whose defaults are the schema: a key that they do not have is unknown.
pub trait Settings: Default + Serialize + DeserializeOwned {}

impl<T: Default + Serialize + DeserializeOwned> Settings for T {}

/// Reads the settings in the file at `path`, then applies `sets`, each `a.b=value`.
pub fn load<T: Settings>(path: &Path, sets: &[String]) -> Result<T> {
    let text = files::read_text(path)?;
    parse(&text).and_then(|settings| with_sets(settings, sets)).map_err(|e| e.file(path))
}

/// Reads settings from the text of a file.
pub fn parse<T: Settings>(text: &str) -> Result<T> {
    let table = DeTable::parse(text).map_err(|e| located(text, &e))?;
    check_keys(text, &schema::<T>(), "", table.get_ref())?;
    toml::from_str(text).map_err(|e| located(text, &e))
}

fn with_sets<T: Settings>(settings: T, sets: &[String]) -> Result<T> {
    let schema = schema::<T>();
    let mut value = Value::try_from(settings).expect("settings are TOML values");
    for set in sets {
        let option = format!("--set {set}");
        let (key, text) = set
            .split_once('=')
            .ok_or_else(|| Error::input("found no `=`, needed `table.key=value`").key(option.clone()))?;
        let new = match find(&schema, key.trim()) {
            Known::Value(Value::String(_)) => text_value(text),
            Known::Value(_) | Known::Free => any_value(text),
            Known::Table | Known::No => {
                let hint = format!("the nearest key is `{}`", nearest(&schema, key.trim()));
                return Err(Error::input("no such setting").key(option).hint(hint));
            }
        };
        insert(&mut value, key.trim(), new);
        // Checked one by one, so that a wrong value is told with its own option.
        let checked: std::result::Result<T, _> = value.clone().try_into();
        checked.map_err(|e| Error::input(e.message().trim().to_owned()).key(option))?;
    }
    Ok(value.try_into().expect("the last of the options was checked"))
}

/// Names the file at `path` in an error that names none, and the line of the setting at fault, unless one of
/// `sets` wins over that line.
pub fn locate(error: Error, path: &Path, sets: &[String]) -> Error {
    if error.names_file() {
        return error;
    }
    let line = error
        .named_key()
        .filter(|key| !sets.iter().any(|set| set.split('=').next().is_some_and(|set| set.trim() == *key)))
        .and_then(|key| line_of(&files::read_text(path).ok()?, key));
    match line {
        Some(line) => error.line(line).file(path),
        None => error.file(path),
    }
}

/// The line of a dotted key.
fn line_of(text: &str, key: &str) -> Option<u64> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut line) = (Some(root.get_ref()), None);
    for part in key.split('.') {
        let (name, value) = table?.iter().find(|(name, _)| name.get_ref() == part)?;
        line = Some(place(text, name.span().start).0);
        table = if let DeValue::Table(inner) = value.get_ref() { Some(inner) } else { None };
    }
    line
}

fn schema<T: Settings>() -> Value {
    Value::try_from(T::default()).expect("settings are TOML values")
}

fn check_keys(text: &str, schema: &Value, prefix: &str, table: &DeTable<'_>) -> Result<()> {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        match (find(schema, &name), value.get_ref()) {
            (Known::No, _) => {
                return Err(at(text, key.span().start, "unknown key")
                    .key(&name)
                    .hint(format!("the nearest known key is `{}`", nearest(schema, &name))));
            }
            (Known::Table, DeValue::Table(inner)) => check_keys(text, schema, &format!("{name}."), inner)?,
            (Known::Table, other) => {
                let what = format!("found a {}, needed a table: [{name}]", other.type_str());
                return Err(at(text, Spanned::span(value).start, &what).key(name));
            }
            (Known::Value(_) | Known::Free, _) => {}
        }
    }
    Ok(())
}

/// A parser's error with its line and column.
fn located(text: &str, e: &toml::de::Error) -> Error {
    let message = e.message().trim().replace('\n', "; ");
    match e.span() {
        Some(span) => {
            let error = at(text, span.start, &message);
            match key_at(text, span.start) {
                Some(key) => error.key(key),
                None => error,
            }
        }
        None => Error::input(message),
    }
}

/// The dotted key whose line holds byte `at`, as far as a look at the text can tell.
fn key_at(text: &str, at: usize) -> Option<String> {
    let (line, _) = place(text, at);
    let lines: Vec<&str> = text.lines().take(line as usize).collect();
    let key = lines.last()?.split_once('=')?.0.trim();
    let table = lines.iter().rev().find_map(|l| l.trim().strip_prefix('[')?.split(']').next())?;
    Some(format!("{table}.{key}"))
}

fn at(text: &str, byte: usize, what: &str) -> Error {
    let (line, column) = place(text, byte);
    Error::input(format!("{what} (column {column})")).line(line)
}

/// Line and column of a byte, from 1.
fn place(text: &str, byte: usize) -> (u64, usize) {
    let before = &text[..text.floor_char_boundary(byte.min(text.len()))];
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (before.matches('\n').count() as u64 + 1, column)
}

fn any_value(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    parsed.and_then(|mut t| t.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The value of a text setting: quotes are not needed, lists are allowed (`target_modules`).
fn text_value(text: &str) -> Value {
    match any_value(text) {
        value @ (Value::String(_) | Value::Array(_)) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn insert(value: &mut Value, key: &str, new: Value) {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    // In a table of the user's own keys a dot is part of the key.
    let Some(table) = value.as_table_mut() else { return };
    match rest {
        Some(rest) if table.get(first).is_some_and(Value::is_table) => {
            insert(table.get_mut(first).expect("it was just found"), rest, new);
        }
        _ => {
            table.insert(key.to_owned(), new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (String, String) {
        let e = Config::parse(text).unwrap_err();
        (e.to_string(), e.advice().unwrap_or_default().to_owned())
    }

    #[test]
    fn an_unknown_key_is_located_and_the_nearest_named() {
        let (what, hint) = error("[train]\n  batchsize = 4\n");
        assert_eq!(what, "line 2: `train.batchsize`: unknown key (column 3)");
        assert_eq!(hint, "the nearest known key is `train.batch_size`");
    }

    #[test]
    fn a_wrong_type_is_located() {
        let (what, _) = error("[model]\npath = \"m\"\n[train]\nepochs = \"two\"\n");
        assert!(what.starts_with("line 4: `train.epochs`: ") && what.contains("two"), "{what}");
        let (what, _) = error("[sampler]\nstrategy = \"shuffled\"\n");
        assert!(what.contains("line 2") && what.contains("interleaved-curriculum"), "{what}");
        let (what, _) = error("model = 3\n");
        assert!(what.contains("needed a table"), "{what}");
        let (what, _) = error("[train\n");
        assert!(what.contains("line 1"), "{what}");
    }

    #[test]
    fn sets_win_and_are_checked() {
        let sets = |list: &[&str]| {
            Config::default().with_sets(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let config = sets(&[
            "train.epochs=3",
            "data.train=a b.jsonl",
            "model.path=123",
            "adapter.target_modules=[\"q_proj\"]",
            "adapter.rank_pattern.layers.0.q_proj=4",
            "sampler.weights.Anatomy=2.5",
            "train.learning_rate=5e-4",
        ])
        .unwrap();
        assert_eq!(config.train.epochs, 3);
        assert_eq!(config.data.train.to_str(), Some("a b.jsonl"));
        assert_eq!(config.model.path, "123");
        assert_eq!(config.adapter.rank_pattern["layers.0.q_proj"], 4);
        assert_eq!(config.sampler.weights["Anatomy"], 2.5);
        assert_eq!(config.train.learning_rate, 5e-4);
        for wrong in ["train.epochs", "train.epochs=x", "train.epoch=1", "train=1", "train.epochs=-1"] {
            let e = sets(&[wrong]).unwrap_err();
            assert!(e.to_string().contains(wrong), "{e}");
        }
    }

    #[test]
    fn a_setting_is_found_wherever_toml_lets_it_stand() {
        for text in ["\ntrain.epochs = 0\n", "[train]\nepochs = 0", "\ntrain = { seed = 1, epochs = 0 }"] {
            assert_eq!(line_of(text, "train.epochs"), Some(2), "{text}");
            assert_eq!(line_of(text, "train.seeds"), None, "{text}");
        }
    }

    #[test]
    fn a_resolved_configuration_reads_back() {
        let config = Config::default();
        assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
    }
}
