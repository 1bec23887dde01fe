//! Which queries meet which keys: the forest cut into tiles.

use std::ops::Range;

use super::Heads;
use crate::device::Cost;
use crate::tensor::Forest;

/// Rows of a tile: enough for the GEMM to be efficient, few enough for tiles to keep all threads busy.
const TILE: usize = 64;

/// A forest and a subset of its tokens as queries, cut into tiles. Shared by all layers of a batch.
#[derive(Debug)]
pub struct Layout {
    pub(super) positions: Vec<u32>,
    /// For each token, the end of the run that it and the tokens that see it form.
    pub(super) ends: Vec<u32>,
    pub(super) query_tokens: Vec<u32>,
    pub(super) query_tiles: Vec<QueryTile>,
    pub(super) key_tiles: Vec<KeyTile>,
}

/// Query rows of one segment, and the tokens that their last row sees (windows aside).
#[derive(Debug)]
pub(super) struct QueryTile {
    pub(super) rows: Range<usize>,
    keys: Vec<Range<usize>>,
}

/// Tokens of one segment, and the query rows that may see them.
#[derive(Debug)]
pub(super) struct KeyTile {
    pub(super) tokens: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// Queries of one run of tokens whose keys lie in a cache: the forward pass alone knows such a layout.
#[derive(Clone, Debug)]
pub struct CachedRun {
    /// The rows of the cache that precede the run, from the root on; positions go on from one to the next.
    pub before: Vec<Range<usize>>,
    /// The run's first row in the cache.
    pub start: usize,
    /// The row of each query, ascending, in the run.
    pub queries: Vec<u32>,
}

impl Layout {
    /// Queries over a cache whose rows have `positions`; `runs` ascend. There is no backward pass.
    pub fn of_cache(positions: Vec<u32>, runs: impl IntoIterator<Item = CachedRun>) -> Self {
        let (mut query_tokens, mut query_tiles) = (Vec::new(), Vec::new());
        for CachedRun { before, start, queries } in runs {
            let first = query_tokens.len();
            query_tokens.extend(queries);
            for rows in cut(first..query_tokens.len(), TILE) {
                let last = query_tokens[rows.end - 1] as usize;
                let keys = before.iter().cloned().chain(std::iter::once(start..last + 1)).collect();
                query_tiles.push(QueryTile { rows, keys });
            }
        }
        assert!(query_tokens.is_sorted_by(|a, b| a < b), "query rows ascend");
        Self { positions, ends: Vec::new(), query_tokens, query_tiles, key_tiles: Vec::new() }
    }

    /// `query_tokens`: the token of each query row, ascending, each once.
    pub fn new(forest: &Forest, query_tokens: Vec<u32>) -> Self {
        assert!(query_tokens.is_sorted_by(|a, b| a < b), "query tokens ascend");
        let rows_from = |token: u32| query_tokens.partition_point(|&t| t < token);
        let subtree_end = forest.subtree_end();
        let mut ends = Vec::with_capacity(forest.len());
        let (mut query_tiles, mut key_tiles) = (Vec::new(), Vec::new());
        for (index, segment) in forest.segments.iter().enumerate() {
            let range = segment.range();
            let ancestors: Vec<Range<usize>> = forest.chain(index as u32)[..]
                .split_last()
                .map_or(&[][..], |(_, ancestors)| ancestors)
                .iter()
                .map(|&s| forest.segments[s as usize].range())
                .collect();
            for rows in cut(rows_from(segment.start)..rows_from(segment.start + segment.len), TILE) {
                let last = query_tokens[rows.end - 1] as usize;
                let mut keys = ancestors.clone();
                keys.push(range.start..last + 1);
                query_tiles.push(QueryTile { rows, keys });
            }
            ends.extend(std::iter::repeat_n(subtree_end[index], range.len()));
            for tokens in cut(range, TILE) {
                let rows = rows_from(tokens.start as u32)..rows_from(subtree_end[index]);
                if !rows.is_empty() {
                    key_tiles.push(KeyTile { tokens, rows });
                }
            }
        }
        Self { positions: forest.positions.clone(), ends, query_tokens, query_tiles, key_tiles }
    }

    /// Every token asks.
    pub fn of_all(forest: &Forest) -> Self {
        Self::new(forest, (0..forest.len() as u32).collect())
    }

    /// The token of each query row.
    pub fn query_tokens(&self) -> &[u32] {
        &self.query_tokens
    }

    /// Number of tokens, N.
    pub fn tokens(&self) -> usize {
        self.positions.len()
    }

    /// `products` of Q rows with the keys that each sees (not with the rest of a tile), `of_queries` matrices
    /// of Nq x (H E) and `of_keys` of N x (K E) read or written.
    pub(super) fn cost(&self, heads: &Heads, products: usize, of_queries: usize, of_keys: usize) -> Cost {
        let seen = |row| {
            let position = self.position_of_row(row);
            f64::from(position + 1 - heads.first_position(position))
        };
        let pairs: f64 = (0..self.query_tokens.len()).map(seen).sum();
        let flops = (2 * products * heads.query * heads.width) as f64 * pairs;
        let rows =
            of_queries * self.query_tokens.len() * heads.query + of_keys * self.tokens() * heads.key_value;
        Cost { flops, ..Cost::moves(rows * heads.width) }
    }

    /// A tile and a key-value head: what a task computes.
    pub(super) fn tasks<'a, T>(&self, tiles: &'a [T], heads: &Heads) -> impl Iterator<Item = (&'a T, usize)> {
        let heads = heads.key_value;
        tiles.iter().flat_map(move |tile| (0..heads).map(move |kv| (tile, kv)))
    }

    pub(super) fn position_of_row(&self, row: usize) -> u32 {
        self.positions[self.query_tokens[row] as usize]
    }

    /// The key ranges of a tile, cut by the window of its first row.
    pub(super) fn keys_of(&self, tile: &QueryTile, heads: &Heads) -> Vec<Range<usize>> {
        let first = heads.first_position(self.position_of_row(tile.rows.start));
        let in_window = |range: &Range<usize>| {
            let skip = first.saturating_sub(self.positions[range.start]) as usize;
            (range.start + skip).min(range.end)..range.end
        };
        tile.keys.iter().map(in_window).filter(|r| !r.is_empty()).collect()
    }

    /// The first key that `row`, a row of `tile`, sees.
    pub(super) fn first_key(&self, tile: &QueryTile, row: usize, heads: &Heads) -> usize {
        let first = heads.first_position(self.position_of_row(row));
        let reaches = |range: &&Range<usize>| first <= self.positions[range.end - 1];
        let range = tile.keys.iter().find(reaches).expect("a row sees its own token");
        range.start + first.saturating_sub(self.positions[range.start]) as usize
    }

    /// The query rows of a key tile in chunks; chunks whose every row is past the window are left out.
    pub(super) fn rows_of(&self, tile: &KeyTile, heads: &Heads) -> impl Iterator<Item = Range<usize>> {
        let last_key = self.positions[tile.tokens.end - 1];
        cut(tile.rows.clone(), TILE).filter(move |rows| {
            rows.clone().any(|row| heads.first_position(self.position_of_row(row)) <= last_key)
        })
    }

    /// The part of `tokens` that query `row` sees, counted from their start. They are a run of one segment, the
    /// row's own or an ancestor of it, so their positions ascend one by one.
    pub(super) fn seen(&self, row: usize, tokens: &Range<usize>, heads: &Heads) -> Range<usize> {
        let end = (self.query_tokens[row] as usize + 1).clamp(tokens.start, tokens.end) - tokens.start;
        let first = heads.first_position(self.position_of_row(row));
        (first.saturating_sub(self.positions[tokens.start]) as usize).min(end)..end
    }
}

/// Cuts `range` into parts of at most `step`.
pub(super) fn cut(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |start| start..(start + step).min(end))
}
