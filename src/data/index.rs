//! A JSONL, CSV or Parquet file with an index: lines are read and parsed again whenever they are needed.
//!
//! One pass checks each line and records where it is, its id and its source, so a million examples need
//! memory for the index only. A checksum for each line finds a file that changes afterwards. Lines are checked
//! side by side, some at a time; what is found, the first bad line too, does not depend on the threads.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::csv::Columns;
use super::file;
use super::line::{self, Format, Line};
use crate::base::{Error, Result, hash};

/// Bytes of lines that are checked side by side, and lines whose columns are read side by side: enough to share
/// among threads, few enough to need little memory.
const BYTES_AT_A_TIME: usize = 1 << 20;
const LINES_AT_A_TIME: usize = 4096;

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
        let file = file::open(path, usize::MAX)?;
        let reader = file.try_clone().map_err(|e| Error::io("read", path, &e))?;
        let (entries, sources, columns) = (Vec::new(), Vec::new(), None);
        let path_buf = path.to_path_buf();
        let mut dataset =
            Self { path: path_buf, file, format, columns, entries, sources, skip_bad, skipped: 0 };
        let mut known_sources = HashMap::new();
        let mut unread = Lines::default();
        let end = file::for_each_line(path, reader, |number, offset, text| {
            if number == 0 {
                dataset.columns = Some(Columns::read(text).map_err(|e| e.file(path))?);
                return Ok(ControlFlow::Continue(()));
            }
            unread.push(number, offset, text);
            if unread.text.len() >= BYTES_AT_A_TIME {
                dataset.index(&mut unread, &mut known_sources)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        // a bad line comes before what ended the reading
        dataset.index(&mut unread, &mut known_sources)?;
        end?;
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

    /// Checks `lines` and takes them into the index; none is left in them.
    fn index(&mut self, lines: &mut Lines, known_sources: &mut HashMap<String, u32>) -> Result<()> {
        let check = |place: &Place| {
            let text = &lines.text[place.text.clone()];
            let line = self.object(text).and_then(|json| Line::parse(&json, self.format))?;
            Ok((line.id, line.source, crc32c::crc32c(text)))
        };
        let checked: Vec<Result<_>> = lines.places.par_iter().map(check).collect();
        lines.text.clear();
        for (Place { number, offset, text }, checked) in lines.places.drain(..).zip(checked) {
            let (id, source, checksum) = match checked {
                Ok(found) => found,
                Err(error) => {
                    self.skip(number, error)?;
                    continue;
                }
            };
            let source = source.map(|name| {
                *known_sources.entry(name).or_insert_with_key(|name| {
                    self.sources.push(name.clone());
                    self.sources.len() as u32 - 1
                })
            });
            let id = id.unwrap_or_else(|| number.to_string()).into();
            let len = text.len() as u32; // fits: no line is longer than `file` reads
            self.entries.push(Entry { id, part: 0, line: number, offset, len, checksum, source });
        }
        Ok(())
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
        by_id.par_sort_unstable_by(|a, b| a.id.cmp(&b.id).then(a.line.cmp(&b.line)));
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

    fn column<T: Send>(
        &self,
        key: &str,
        read: impl Fn(&[u8], &str) -> Result<Option<T>> + Sync,
        needed: &str,
        hint: &str,
    ) -> Result<Vec<T>> {
        let value = |example| {
            let found = read(&self.text(example)?, key).map_err(|e| self.at(example, e.hint(hint)))?;
            let missing = || Error::input(format!("missing or empty, needed {needed}")).key(key).hint(hint);
            found.ok_or_else(|| self.at(example, missing()))
        };
        let mut values = Vec::with_capacity(self.len());
        for start in (0..self.len()).step_by(LINES_AT_A_TIME) {
            let examples = start..self.len().min(start + LINES_AT_A_TIME);
            let found: Vec<Result<T>> = examples.into_par_iter().map(value).collect();
            for value in found {
                values.push(value?);
            }
        }
        Ok(values)
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

/// Lines that are read, but not checked yet.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    places: Vec<Place>,
}

/// A line's number and where it is in the file and in [`Lines::text`].
struct Place {
    number: u64,
    offset: u64,
    text: Range<usize>,
}

impl Lines {
    fn push(&mut self, number: u64, offset: u64, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.places.push(Place { number, offset, text: start..self.text.len() });
    }
}

/// The format of a file, told by the keys of its first line; for commands that have no configuration.
pub fn detect_format(path: &Path) -> Result<Format> {
    let (mut found, mut columns) = (None, None);
    file::for_each_line(path, &file::open(path, 1)?, |number, _, text| {
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
