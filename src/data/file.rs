//! A data file: what its name says of it, and its lines one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::parquet;
use crate::base::{Error, Result};

/// The longest line that is read: no example comes near, a file that is not JSONL passes it.
const LONGEST_LINE: u64 = 1 << 28;

/// Whether a file of this name is read as rows of columns, not as JSONL.
pub fn names_table(path: &Path) -> bool {
    ["csv", "parquet"].iter().any(|ending| has_ending(path, ending))
}

/// Whether the file's name has the ending of a kind of data.
pub fn names_data(path: &Path) -> bool {
    has_ending(path, "jsonl") || names_table(path)
}

/// The file at `path`; of a Parquet file its first `most` rows, as lines.
pub(super) fn open(path: &Path, most: usize) -> Result<File> {
    let fail = |e| Error::io("open", path, &e);
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        let error = Error::input("not a regular file; its lines are read more than once").file(path);
        return Err(error.hint("write the data to a file first"));
    }
    if has_ending(path, "parquet") { parquet::lines(path, file, most) } else { Ok(file) }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// Calls `each` with (number from 1, offset, text) of each line that is not blank, until it breaks.
///
/// The text of a JSONL line has no blanks around it. In a CSV file, a line end inside quotes does not end a
/// row, only rows that are not blank count, and the one that names the columns has the number 0.
pub(super) fn for_each_line(
    path: &Path,
    file: impl Read,
    mut each: impl FnMut(u64, u64, &[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let is_csv = has_ending(path, "csv");
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut offset, mut lines, mut rows, mut buffer) = (0, 0, 0, Vec::new());
    loop {
        buffer.clear();
        let mut open = false; // whether the line ends inside quotes
        loop {
            let start = buffer.len();
            let left = LONGEST_LINE - start as u64;
            let read = (&mut reader).take(left).read_until(b'\n', &mut buffer);
            let read = read.map_err(|e| Error::io("read", path, &e))?;
            lines += u64::from(start == 0);
            open ^= is_csv && buffer[start..].iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
            if !open || read == 0 || buffer.len() as u64 == LONGEST_LINE {
                break;
            }
        }
        let read = buffer.len() as u64;
        if read == 0 {
            return Ok(());
        }
        let number = if is_csv { rows } else { lines };
        if read == LONGEST_LINE {
            let needed = if is_csv { "rows with their quotes closed" } else { "one JSON object a line" };
            let what = format!("a line of more than {} MiB, needed {needed}", read >> 20);
            return Err(Error::input(what).file(path).line(number));
        }
        let mark = if offset == 0 && buffer.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let line = &buffer[mark..];
        let text = if is_csv { without_end(line) } else { line.trim_ascii() };
        if !text.trim_ascii().is_empty() {
            let blanks = if is_csv { 0 } else { line.len() - line.trim_ascii_start().len() };
            rows += 1;
            if each(number, offset + (mark + blanks) as u64, text)?.is_break() {
                return Ok(());
            }
        }
        offset += read;
    }
}

/// A row without the line end after it.
fn without_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}
