//! Keys and values of tokens that were computed before: what decoding and shared prefixes rest on.
//!
//! ```text
//! run 0  [t t t t . .]          a prompt, with room for more
//!   run 1       [t t . .]       a sample of it
//!   run 2       [t . . .]       another one
//!   run 3    [t t t]            continues the prompt from its third token on
//! ```
//!
//! The cache is a token forest with room in its segments. A run's rows are reserved at once and lie together;
//! a token sees the runs before its own up to where its own begins, and its own up to itself. So prompts
//! share their common prefix, samples share their prompt, and runs are extended together, each weight read
//! once for all of them.

use std::ops::Range;

use super::batch::TokenRows;
use super::decoder::{self, Context, Past};
use super::pass::{embed, last_norm};
use super::weights::Model;
use crate::adapter::Lora;
use crate::device::{Buffer, Device};
use crate::ops::attention::{CachedRun, Layout};
use crate::ops::rope;
use crate::tensor::Forest;

/// The cache of one model with one adapter.
#[derive(Debug)]
pub struct Cache<'a> {
    device: &'a Device,
    model: &'a Model,
    adapter: Option<&'a Lora>,
    tables: Vec<rope::Table>,
    keys: Vec<Buffer>,   // one a block, rows x KE
    values: Vec<Buffer>, // one a block, rows x KE
    positions: Vec<u32>, // of the reserved rows
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    rows: Range<usize>,
    filled: usize,
    before: Vec<Range<usize>>,
}

impl<'a> Cache<'a> {
    /// An empty cache with room for `rows` tokens, none of which has a position of `positions` or more.
    pub fn new(
        device: &'a Device,
        model: &'a Model,
        adapter: Option<&'a Lora>,
        rows: usize,
        positions: usize,
    ) -> Self {
        let spec = model.spec();
        let buffers = || spec.layers.iter().map(|_| device.buffer(rows, spec.key_width())).collect();
        let tables = spec.frequencies.iter().map(|f| rope::Table::new(device, f, positions)).collect();
        let (positions, runs) = (Vec::new(), Vec::new());
        Self { device, model, adapter, tables, keys: buffers(), values: buffers(), positions, runs }
    }

    /// Bytes that one token takes in a cache of `model`.
    pub fn bytes_per_token(model: &Model) -> usize {
        2 * model.spec().layers.len() * model.spec().key_width() * size_of::<f32>()
    }

    /// Reserves rows for `room` tokens that go on after the token in row `after`; returns the run's number.
    pub fn reserve(&mut self, after: Option<u32>, room: usize) -> usize {
        let start = self.positions.len();
        let rows = self.keys.first().map_or(0, Buffer::rows);
        assert!(start + room <= rows, "{room} more tokens than the {start} of {rows} in the cache");
        let before = after.map_or_else(Vec::new, |row| {
            let run = &self.runs[self.run_of(row)];
            run.before.iter().cloned().chain(std::iter::once(run.rows.start..row as usize + 1)).collect()
        });
        let position = after.map_or(0, |row| self.positions[row as usize] + 1);
        self.positions.extend(position..position + room as u32);
        self.runs.push(Run { rows: start..start + room, filled: 0, before });
        self.runs.len() - 1
    }

    /// The row of the next token of a run.
    pub fn next_row(&self, run: usize) -> u32 {
        (self.runs[run].rows.start + self.runs[run].filled) as u32
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Forgets all runs but the first `runs`.
    pub fn truncate(&mut self, runs: usize) {
        self.runs.truncate(runs);
        self.positions.truncate(self.runs.last().map_or(0, |run| run.rows.end));
    }

    /// Appends tokens to runs (ascending) that have room for them; returns the final hidden states of the
    /// new rows in `wanted` (ascending), W x D.
    ///
    /// Runs that the new tokens continue are full, or grow in the same call.
    pub fn extend(&mut self, tokens: &[(usize, &[u32])], wanted: &[u32]) -> Buffer {
        let mut rows: Vec<u32> = Vec::new();
        for &(run, tokens) in tokens {
            let start = self.next_row(run);
            rows.extend(start..start + tokens.len() as u32);
            self.runs[run].filled += tokens.len();
            assert!(self.runs[run].filled <= self.runs[run].rows.len(), "run {run} has no room");
        }
        let all = self.token_rows(&rows, (0..rows.len() as u32).collect());
        let asked = (wanted.len() < rows.len()).then(|| {
            let place = |row| rows.binary_search(row).expect("a wanted row is new") as u32;
            self.token_rows(wanted, wanted.iter().map(place).collect())
        });

        let (device, model, adapter) = (self.device, self.model, self.adapter);
        let context = Context { device, model, adapter, dropout: None, tables: &self.tables, all: &all };
        let ids: Vec<u32> = tokens.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        device.run(|| {
            let mut x = embed(device, model, &ids);
            let layers = model.spec().layers.len();
            for (layer, (keys, values)) in self.keys.iter_mut().zip(&mut self.values).enumerate() {
                let queries = asked.as_ref().filter(|_| layer + 1 == layers);
                let past = Past { keys, values, rows: &rows };
                x = decoder::forward(&context, layer, queries, Some(past), &x).0;
            }
            last_norm(device, model, &x).0
        })
    }

    /// Appends the tokens of a forest, of which roots go on after the token in row `after`, at most
    /// `tokens_at_a_time` of them at once; calls `each` with some of `wanted` (tokens of the forest, ascending)
    /// and their final hidden states until all were told. Token i takes the i-th row that was free before.
    pub fn extend_by(
        &mut self,
        forest: &Forest,
        after: Option<u32>,
        wanted: &[u32],
        tokens_at_a_time: usize,
        mut each: impl FnMut(&[u32], &Buffer),
    ) {
        let (first_row, first_run) = (self.positions.len() as u32, self.runs.len());
        for segment in &forest.segments {
            let parent = segment.parent.map(|parent| {
                let parent = forest.segments[parent as usize];
                first_row + parent.start + parent.len - 1
            });
            self.reserve(parent.or(after), segment.len as usize);
        }
        for start in (0..forest.len()).step_by(tokens_at_a_time) {
            let chunk = start..(start + tokens_at_a_time).min(forest.len());
            let parts: Vec<(usize, &[u32])> = forest
                .segments
                .iter()
                .enumerate()
                .map(|(i, s)| (first_run + i, s.range().start.max(chunk.start)..s.range().end.min(chunk.end)))
                .filter(|(_, range)| !range.is_empty())
                .map(|(run, range)| (run, &forest.tokens[range]))
                .collect();
            let place = |token: usize| wanted.partition_point(|&t| (t as usize) < token);
            let asked = &wanted[place(chunk.start)..place(chunk.end)];
            let rows: Vec<u32> = asked.iter().map(|token| first_row + token).collect();
            let hidden = self.extend(&parts, &rows);
            each(asked, &hidden);
        }
    }

    fn run_of(&self, row: u32) -> usize {
        self.runs.partition_point(|run| run.rows.end <= row as usize)
    }

    /// The given rows as queries; `tokens` are their places in the batch.
    fn token_rows(&self, rows: &[u32], tokens: Vec<u32>) -> TokenRows {
        let runs = rows.chunk_by(|&a, &b| self.run_of(a) == self.run_of(b)).map(|queries| {
            let run = &self.runs[self.run_of(queries[0])];
            CachedRun { before: run.before.clone(), start: run.rows.start, queries: queries.to_vec() }
        });
        let layout = Layout::of_cache(self.positions.clone(), runs);
        let positions = rows.iter().map(|&row| self.positions[row as usize]).collect();
        TokenRows { positions, names: Vec::new(), tokens, layout }
    }
}
