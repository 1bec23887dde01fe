//! Writes a column into the lines of a JSONL file; all else stays as it is, in its order.

use std::path::Path;

use serde_json::{Map, Value};

use crate::base::{Error, Result, files};
use crate::data::Dataset;

/// Writes the lines of `data` to `out`, each with its value under `key`; `values` has one an example.
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

/// Refuses a key that the line's format reads itself: its meaning is taken.
pub(super) fn check_key(key: &str) -> Result<()> {
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
