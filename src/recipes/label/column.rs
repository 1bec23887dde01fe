//! Writes a column into the lines of a data file; all else stays as it is, in its order.

use std::path::Path;

use serde_json::{Map, Value};

use crate::base::{Error, Result, files};
use crate::data::{Dataset, file};

/// Writes the lines of `data` to `out` as JSONL, each with its value under `key`; `values` has one an example.
///
/// A column that is there is replaced where it stands. `out` may be the data's own file.
pub(super) fn write(data: &Dataset, out: &Path, key: &str, values: &[Value]) -> Result<()> {
    let line = |(example, value): (usize, &Value)| {
        let mut object: Map<String, Value> = serde_json::from_slice(&data.text(example)?)
            .map_err(|e| Error::input(e.to_string()).at(data.path(), data.line_number(example)))?;
        object.insert(key.to_owned(), value.clone());
        Ok(Value::Object(object).to_string() + "\n")
    };
    let lines = values.iter().enumerate().map(line).collect::<Result<Vec<_>>>()?;
    files::write_atomic(out, lines.concat().as_bytes())
}

/// Refuses a key that the line's format reads itself, for its meaning is taken, and a file that would not be read as JSONL.
pub(super) fn check(key: &str, out: &Path) -> Result<()> {
    files::check_writable(out)?;
    if file::names_table(out) {
        let error = Error::input(
            "found the ending of another kind of file, needed .jsonl: lines are written as JSON",
        );
        return Err(error
            .file(out)
            .hint("name a .jsonl file; commands read it like the data it is made from"));
    }
    const TAKEN: [&str; 12] = [
        "id",
        "question",
        "options",
        "answer",
        "context",
        "teacher",
        "prompt",
        "completion",
        "messages",
        "text",
        "input_ids",
        "labels",
    ];
    if key.is_empty() || TAKEN.contains(&key) {
        let what = format!("found `{key}`, needed a name that no format reads");
        return Err(Error::input(what).key("--column"));
    }
    Ok(())
}
