//! A JSONL, CSV or Parquet file with an index: lines are read and parsed again whenever they are needed.
//!
//! One pass checks each line and records where it is, its id and its source, so a million examples need
//! memory for the index only. A checksum for each line finds a file that changes afterwards.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::csv::Columns;
use super::line::{self, Format, Line};
use super::parquet;
use crate::base::{Error, Result, hash};

/// The longest line that is read: no example comes near, a file that is not JSONL passes it.
const LONGEST_LINE: u64 = 1 << 28;

/// The examples of one JSONL file, or of one CSV or Parquet file (by its ending), in the file's order.
///
/// Empty lines are skipped; CRLF and a UTF-8 byte order mark are accepted. The rows of a CSV file are its lines,
/// counted from 1 after the row that names the columns, as are those of a Parquet file.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    file: File,
    format: Format,
    /// Of a CSV file.
    columns: Option<Columns>,
    pub(super) entries: Vec<Entry>,
    sources: Vec<String>,
    skip_bad: u64,
    skipped: u64,
}

/// One example: where its line is, and what the index knows of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Box<str>,
    /// Which part of a `text` line it is; 0 elsewhere.
    pub(super) part: u32,
    /// The line's number in the file, from 1.
    pub(super) line: u64,
    offset: u64,
    len: u32,
    checksum: u32,
    source: Option<u32>,
}

impl Entry {
    /// The entry of a part of this text; the first part keeps the id.
    pub(super) fn part_of_text(&self, part: u32) -> Self {
        let id = if part == 0 { self.id.clone() } else { format!("{}#{part}", self.id).into() };
        Self { id, part, ..self.clone() }
    }
}

impl Dataset {
    /// Indexes the file at `path`, with at most `skip_bad` bad lines skipped with a warning.
    pub fn open(path: &Path, format: Format, skip_bad: u64) -> Result<Self> {
        let file = open_file(path, usize::MAX)?;
        let reader = file.try_clone().map_err(|e| Error::io("read", path, &e))?;
        let (entries, sources, columns) = (Vec::new(), Vec::new(), None);
        let path_buf = path.to_path_buf();
        let mut dataset =
            Self { path: path_buf, file, format, columns, entries, sources, skip_bad, skipped: 0 };
        let mut known_sources = HashMap::new();
        for_each_line(path, reader, |number, offset, text| {
            if number == 0 {
                dataset.columns = Some(Columns::read(text).map_err(|e| e.file(path))?);
                return Ok(ControlFlow::Continue(()));
            }
            match dataset.object(text).and_then(|json| Line::parse(&json, format)) {
                Ok(line) => dataset.push(number, offset, text, &line, &mut known_sources),
                Err(error) => dataset.skip(number, error)?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if dataset.entries.is_empty() {
            return Err(Error::input(format!("found no example, needed lines of the format {format}"))
                .file(&dataset.path));
        }
        dataset.check_ids()?;
        Ok(dataset)
    }

    /// The JSON object that a line or a row is.
    fn object<'a>(&self, text: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        match &self.columns {
            None => Ok(text.into()),
            Some(columns) => columns.object(text).map(Cow::Owned),
        }
    }

    fn push(
        &mut self,
        line: u64,
        offset: u64,
        text: &[u8],
        parsed: &Line,
        known_sources: &mut HashMap<String, u32>,
    ) {
        let source = parsed.source.as_ref().map(|name| {
            *known_sources.entry(name.clone()).or_insert_with(|| {
                self.sources.push(name.clone());
                self.sources.len() as u32 - 1
            })
        });
        self.entries.push(Entry {
            id: parsed.id.clone().unwrap_or_else(|| line.to_string()).into(),
            part: 0,
            line,
            offset,
            len: text.len() as u32, // below LONGEST_LINE
            checksum: crc32c::crc32c(text),
            source,
        });
    }

    /// Counts the bad line, or makes it the error once too many were bad.
    pub(super) fn skip(&mut self, line: u64, error: Error) -> Result<()> {
        let error = error.at(&self.path, line);
        if self.skipped < self.skip_bad {
            self.skipped += 1;
            tracing::warn!("skipped a bad line ({} of at most {}): {error}", self.skipped, self.skip_bad);
            return Ok(());
        }
        Err(error)
    }

    /// Ids name examples in order files and predictions, so two examples must not share one.
    pub(super) fn check_ids(&self) -> Result<()> {
        let mut by_id: Vec<&Entry> = self.entries.iter().collect();
        by_id.sort_by(|a, b| a.id.cmp(&b.id).then(a.line.cmp(&b.line)));
        let twins = by_id.windows(2).filter(|pair| pair[0].id == pair[1].id);
        match twins.min_by_key(|pair| pair[1].line) {
            None => Ok(()),
            Some(pair) => Err(Error::input(format!(
                "found the id {:?} again, which line {} has; needed an id of its own",
                pair[1].id, pair[0].line
            ))
            .file(&self.path)
            .line(pair[1].line)
            .key("id")
            .hint("ids are unique in a file; a line without id has its line number as id")),
        }
    }

    /// These examples alone, in this order.
    pub fn select(&self, examples: impl Iterator<Item = usize>) -> Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            file: self.file.try_clone().map_err(|e| Error::io("read", &self.path, &e))?,
            format: self.format,
            columns: self.columns.clone(),
            entries: examples.map(|example| self.entries[example].clone()).collect(),
            sources: self.sources.clone(),
            skip_bad: self.skip_bad,
            skipped: self.skipped,
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no example; never so after [`Dataset::open`].
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its lines are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many bad lines were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The identity of the examples' lines, so that data that changed under the same ids is found.
    pub fn fingerprint(&self) -> String {
        let checksums: Vec<String> = self.entries.iter().map(|e| format!("{:08x}", e.checksum)).collect();
        hash::sha256_lines(checksums.iter().map(String::as_str))
    }

    /// The id of an example.
    pub fn id(&self, example: usize) -> &str {
        &self.entries[example].id
    }

    /// The number of an example's line in the file, from 1.
    pub fn line_number(&self, example: usize) -> u64 {
        self.entries[example].line
    }

    /// Where an example comes from, if its line says so.
    pub fn source(&self, example: usize) -> Option<&str> {
        self.entries[example].source.map(|source| self.sources[source as usize].as_str())
    }

    /// The line of an example, read again.
    pub fn line(&self, example: usize) -> Result<Line> {
        let text = self.text(example)?;
        Line::parse(&text, self.format).map_err(|e| self.at(example, e))
    }

    /// The category of each example: the text or number of column `key`.
    pub fn categories(&self, key: &str) -> Result<Vec<String>> {
        let hint = "give each line one, or name another column by `sampler.category`";
        self.column(key, line::text_column, "a category", hint)
    }

    /// The difficulty of each example: the finite number of column `key`.
    pub fn difficulties(&self, key: &str) -> Result<Vec<f64>> {
        let hint = "give each line a number, or name another column by `sampler.difficulty`";
        self.column(key, line::number_column, "a number", hint)
    }

    fn column<T>(
        &self,
        key: &str,
        read: impl Fn(&[u8], &str) -> Result<Option<T>>,
        needed: &str,
        hint: &str,
    ) -> Result<Vec<T>> {
        let value = |example| {
            let found = read(&self.text(example)?, key).map_err(|e| self.at(example, e.hint(hint)))?;
            let missing = || Error::input(format!("missing or empty, needed {needed}")).key(key).hint(hint);
            found.ok_or_else(|| self.at(example, missing()))
        };
        (0..self.len()).map(value).collect()
    }

    /// The line of an example as it stands in the file, without blanks around it.
    pub fn text(&self, example: usize) -> Result<Vec<u8>> {
        let entry = &self.entries[example];
        let mut text = vec![0; entry.len as usize];
        let read = self.file.read_exact_at(&mut text, entry.offset);
        if read.is_err() || crc32c::crc32c(&text) != entry.checksum {
            let error = Error::input("the line is not what it was when the file was indexed");
            return Err(self.at(example, error.hint("leave the file alone while it is in use; run again")));
        }
        Ok(self.object(&text).map_err(|e| self.at(example, e))?.into_owned())
    }

    /// Names the file and the line of an example.
    pub(super) fn at(&self, example: usize, error: Error) -> Error {
        error.at(&self.path, self.entries[example].line)
    }
}

/// Whether a file of this name is read as rows of columns, not as JSONL.
pub fn names_table(path: &Path) -> bool {
    ["csv", "parquet"].iter().any(|ending| has_ending(path, ending))
}

/// Whether the file's name has the ending of a kind of data.
pub fn names_data(path: &Path) -> bool {
    has_ending(path, "jsonl") || names_table(path)
}

/// The format of a file, told by the keys of its first line; for commands that have no configuration.
pub fn detect_format(path: &Path) -> Result<Format> {
    let (mut found, mut columns) = (None, None);
    for_each_line(path, &open_file(path, 1)?, |number, _, text| {
        if number == 0 {
            columns = Some(Columns::read(text).map_err(|e| e.file(path))?);
            return Ok(ControlFlow::Continue(()));
        }
        let json = columns.as_ref().map_or(Ok(text.to_vec()), |columns| columns.object(text));
        found = Some(json.and_then(|json| Format::detect(&json)).map_err(|e| e.file(path).line(number))?);
        Ok(ControlFlow::Break(()))
    })?;
    found.ok_or_else(|| Error::input("found no line, needed one JSON object a line").file(path))
}

/// The file at `path`; of a Parquet file its first `most` rows, as lines.
fn open_file(path: &Path, most: usize) -> Result<File> {
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
fn for_each_line(
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
            open ^= buffer[start..].iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
            if !is_csv || !open || read == 0 || buffer.len() as u64 == LONGEST_LINE {
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
