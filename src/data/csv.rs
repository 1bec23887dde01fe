//! CSV files: a row as the JSON object that a line of a JSONL file would be.
//!
//! The first row names the columns. A cell is a text, but for lists, which are written as JSON in one cell,
//! and for numbers in columns that no format reads as text. An empty cell counts as absent. Quotes, commas
//! and line ends inside quotes are RFC 4180's.

use serde_json::{Map, Value};

use crate::base::{Error, Result};

/// Columns that hold JSON.
const LISTS: [&str; 5] = ["options", "teacher", "messages", "input_ids", "labels"];

/// Columns that hold text whatever it looks like.
const TEXTS: [&str; 13] = [
    "id",
    "question",
    "context",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
    "chosen",
    "rejected",
    "source",
    "subject",
];

/// The columns of a file, in their order.
#[derive(Clone, Debug)]
pub(super) struct Columns(Vec<String>);

impl Columns {
    /// Reads the first row.
    pub(super) fn read(row: &[u8]) -> Result<Self> {
        let names = cells(row)?;
        for (i, name) in names.iter().enumerate() {
            if name.is_empty() || names[..i].contains(name) {
                return Err(Error::input(format!("found the column name {name:?}, needed one of its own"))
                    .hint("the first row names the columns, each once"));
            }
        }
        Ok(Self(names))
    }

    /// A row as a JSON object.
    pub(super) fn object(&self, row: &[u8]) -> Result<Vec<u8>> {
        let cells = cells(row)?;
        if cells.len() != self.0.len() {
            let (found, needed) = (cells.len(), self.0.len());
            return Err(Error::input(format!("found {found} cells, needed {needed}, one a column"))
                .hint("a cell with a comma, a quote or a line end stands in quotes"));
        }
        let filled = self.0.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        let fields = filled.map(|(name, cell)| Ok((name.clone(), value(name, cell)?)));
        let object: Map<String, Value> = fields.collect::<Result<_>>()?;
        Ok(Value::Object(object).to_string().into_bytes())
    }
}

fn value(column: &str, cell: String) -> Result<Value> {
    if LISTS.contains(&column) {
        return serde_json::from_str(&cell).map_err(|e| {
            Error::input(format!("the cell is no JSON: {e}"))
                .key(column)
                .hint("write a list as JSON in one cell, its quotes doubled: \"[\"\"a\"\", \"\"b\"\"]\"")
        });
    }
    let number = serde_json::from_str(&cell).ok().filter(|v: &Value| v.is_number());
    Ok(number.filter(|_| !TEXTS.contains(&column)).unwrap_or(Value::String(cell)))
}

/// The cells of a row.
fn cells(row: &[u8]) -> Result<Vec<String>> {
    let text = std::str::from_utf8(row)
        .map_err(|e| Error::input(format!("not UTF-8 text at byte {} of the row", e.valid_up_to())))?;
    let (mut cells, mut rest) = (Vec::new(), text);
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let (cell, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if cell.contains('"') {
                    return Err(Error::input(format!("found a quote inside the cell {cell:?}"))
                        .hint("put the whole cell in quotes and double the quotes in it"));
                }
                (cell.to_owned(), after)
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(cells),
            None => return Err(Error::input("found text after a cell's closing quote, needed a comma")),
        }
    }
}

/// The cell whose opening quote was read, and what follows its closing quote.
fn quoted_cell(text: &str) -> Result<(String, &str)> {
    let (mut cell, mut rest) = (String::new(), text);
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err(Error::input("found a quote that is not closed"));
        };
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => (cell, rest) = (cell + "\"", next),
            None => return Ok((cell, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(columns: &str, row: &str) -> Result<Value> {
        let json = Columns::read(columns.as_bytes())?.object(row.as_bytes())?;
        Ok(serde_json::from_slice(&json).expect("an object"))
    }

    #[test]
    fn cells_become_what_a_line_would_hold() {
        let columns = "id,question,options,answer,difficulty,note";
        let row = "7,\"1, \"\"2\"\"\nor 3?\",\"[\"\"a, b\"\", \"\"c\"\"]\",1,-0.5,";
        let found = object(columns, row).expect("a good row");
        let json =
            r#"{"id":"7","question":"1, \"2\"\nor 3?","options":["a, b","c"],"answer":1,"difficulty":-0.5}"#;
        assert_eq!(found.to_string(), json);
        assert_eq!(object("text", "12").expect("a text").to_string(), r#"{"text":"12"}"#);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (columns, row) in
            [("a,a", ""), ("a,", ""), ("a,b", "1"), ("a", "x\"y"), ("a", "\"x"), ("a", "\"x\"y")]
        {
            assert!(object(columns, row).is_err(), "{columns} {row}");
        }
        assert!(object("options", "[1").is_err());
    }
}
