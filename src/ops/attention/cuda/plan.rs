//! Which tiles a block visits: the forest as the kernels know it. Contract: `kernels/attention/sight.cuh`.

use std::ops::Range;

use super::tiles::{PADDING, Pass, Passes};
use crate::ops::attention::layout::cut;
use crate::ops::attention::{Heads, Layout};

/// What rows and a tile of keys see of each other; two bits of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Nothing = 0,
    Some = 1,
    All = 2,
}

/// Who sees whom, row by row and key by key: row i sees key j if `first[i] <= j <= last[i] < end[j]`.
#[derive(Debug)]
pub(super) struct Forest {
    /// First and last key of each query row; `last` ascends.
    limits: Vec<[usize; 2]>,
    /// For each key, the end of the run of tokens that see it.
    ends: Vec<usize>,
}

/// All lists of a batch in one array, each from a multiple of 4 (16 bytes) on.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) values: Vec<i32>,
}

/// Where a kernel's lists lie.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// Number of tasks.
    pub(super) count: usize,
    pub(super) tasks: Range<usize>,
    pub(super) visits: Range<usize>,
}

impl Lists {
    fn push(&mut self, values: impl IntoIterator<Item = i32>) -> Range<usize> {
        let start = self.values.len();
        self.values.extend(values);
        let end = self.values.len();
        self.values.resize(end.next_multiple_of(4), 0);
        start..end
    }
}

impl Forest {
    pub(super) fn new(layout: &Layout, heads: &Heads) -> Self {
        let mut limits = Vec::with_capacity(layout.query_tokens.len());
        for tile in &layout.query_tiles {
            for row in tile.rows.clone() {
                limits.push([layout.first_key(tile, row, heads), layout.query_tokens[row] as usize]);
            }
        }
        Self { limits, ends: layout.ends.iter().map(|&end| end as usize).collect() }
    }

    /// The limits of each row and the ends of all keys, filled up so that no tile reaches past them.
    pub(super) fn push(&self, lists: &mut Lists) -> (Range<usize>, Range<usize>) {
        let fill = |len: usize| len.next_multiple_of(PADDING) - len;
        let limits = self.limits.iter().flatten().map(|&token| token as i32);
        let nobody = [0, -1].into_iter().cycle().take(2 * fill(self.limits.len()));
        let limits = lists.push(limits.chain(nobody));
        let ends = self.ends.iter().map(|&end| end as i32);
        (limits, lists.push(ends.chain(std::iter::repeat_n(0, fill(self.ends.len())))))
    }

    /// The tasks of the kernels whose blocks own query rows and visit keys.
    pub(super) fn row_blocks(&self, lists: &mut Lists, pass: &Pass) -> Blocks {
        let tasks = cut(0..self.limits.len(), pass.own).map(|own| {
            let first = self.limits[own.clone()].iter().map(|limits| limits[0]).min().unwrap_or(0);
            let keys = first..self.limits[own.end - 1][1] + 1;
            let sights = |share, visited: Range<usize>| self.sight(share, visited);
            visits(own, pass, keys, self.ends.len(), sights)
        });
        blocks(lists, tasks.collect())
    }

    /// The tasks of the kernel whose blocks own keys and visit query rows. Every tile of keys has one.
    pub(super) fn key_blocks(&self, lists: &mut Lists, pass: &Pass) -> Blocks {
        let rows_from = |token: usize| self.limits.partition_point(|limits| limits[1] < token);
        let tasks = cut(0..self.ends.len(), pass.own).map(|own| {
            let end = self.ends[own.clone()].iter().copied().max().unwrap_or(0);
            let rows = rows_from(own.start)..rows_from(end);
            let sights = |share, visited: Range<usize>| self.sight(visited, share);
            visits(own, pass, rows, self.limits.len(), sights)
        });
        blocks(lists, tasks.collect())
    }

    /// What rows and keys see of each other. Those past the last are nobody's and nobody.
    fn sight(&self, rows: Range<usize>, keys: Range<usize>) -> Sight {
        let whole = keys.end <= self.ends.len();
        let inside = |range: Range<usize>, len: usize| range.start.min(len)..range.end.min(len);
        let (rows, keys) = (inside(rows, self.limits.len()), inside(keys, self.ends.len()));
        let (limits, ends) = (&self.limits[rows], &self.ends[keys.clone()]);
        let (Some(first_row), Some(last_row)) = (limits.first(), limits.last()) else {
            return Sight::Nothing;
        };
        if whole
            && keys.end <= first_row[1] + 1
            && ends.iter().all(|&end| last_row[1] < end)
            && limits.iter().all(|limits| limits[0] <= keys.start)
        {
            return Sight::All;
        }
        // Keys with one end are a run of one segment; of those that a row may see, the last decides.
        let mut start = keys.start;
        for run in ends.chunk_by(|a, b| a == b) {
            let last = start + run.len() - 1;
            let sees = |[first, own]: &[usize; 2]| *first <= last && start <= *own && *own < run[0];
            if limits.iter().any(sees) {
                return Sight::Some;
            }
            start += run.len();
        }
        Sight::Nothing
    }
}

/// A task: its tile and its visits.
struct Task {
    tile: usize,
    visits: Vec<i32>,
}

/// What the block that owns `own` visits of `0..all`; no more than `candidates`.
fn visits(
    own: Range<usize>,
    pass: &Pass,
    candidates: Range<usize>,
    all: usize,
    sight: impl Fn(Range<usize>, Range<usize>) -> Sight,
) -> Task {
    let mut visits = Vec::new();
    let tiles = candidates.start / pass.visited..candidates.end.min(all).div_ceil(pass.visited);
    assert!(tiles.end < 1 << 15, "attention: {all} rows or tokens in a batch are more than a visit can name");
    for tile in tiles {
        let visited = tile * pass.visited..(tile + 1) * pass.visited;
        let shares = (own.start..own.start + pass.own).step_by(pass.share);
        let sights = shares.enumerate().fold(0, |sights, (i, start)| {
            sights | (sight(start..start + pass.share, visited.clone()) as i32) << (2 * i)
        });
        if sights != 0 {
            visits.push((tile as i32) << 16 | sights);
        }
    }
    if visits.is_empty() {
        visits.push(0); // keys that no row sees: their gradients are zeros, which somebody must write
    }
    Task { tile: own.start / pass.own, visits }
}

fn blocks(lists: &mut Lists, mut tasks: Vec<Task>) -> Blocks {
    // Blocks start in order: the longest first, so that none is left over at the end.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.visits.len()));
    let mut end = 0;
    let heads: Vec<i32> = tasks
        .iter()
        .flat_map(|task| {
            let start = end;
            end += task.visits.len() as i32;
            [task.tile as i32, start, end, 0]
        })
        .collect();
    let count = tasks.len();
    let tasks_at = lists.push(heads);
    let visits = lists.push(tasks.into_iter().flat_map(|task| task.visits));
    Blocks { count, tasks: tasks_at, visits }
}

/// The lists of a batch for kernels of one head width.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) lists: Lists,
    pub(super) limits: Range<usize>,
    pub(super) ends: Range<usize>,
    pub(super) forward: Blocks,
    pub(super) queries: Blocks,
    pub(super) keys: Blocks,
}

impl Plan {
    pub(super) fn new(layout: &Layout, heads: &Heads, passes: &Passes) -> Self {
        let forest = Forest::new(layout, heads);
        let mut lists = Lists::default();
        let (limits, ends) = forest.push(&mut lists);
        let forward = forest.row_blocks(&mut lists, &passes.forward);
        let queries = forest.row_blocks(&mut lists, &passes.queries);
        let keys = forest.key_blocks(&mut lists, &passes.keys);
        Self { lists, limits, ends, forward, queries, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hopper;
    use super::super::tiles::{WIDTHS, passes};
    use super::*;
    use crate::device::cuda::Kernel;
    use crate::tensor::Forest as Tokens;

    fn heads(width: usize, window: Option<u32>) -> Heads {
        Heads { query: 1, key_value: 1, width, scale: 1.0, window }
    }

    /// A tree under a prompt, segments shorter than a share, and a long sequence.
    fn tokens() -> Tokens {
        let mut forest = Tokens::default();
        let root = forest.push(&[0; 150], None, 0, 0);
        for len in [3, 40, 1] {
            let child = forest.push(&vec![0; len], Some(root), 150, 0);
            forest.push(&[0; 20], Some(child), 150 + len as u32, 0);
        }
        forest.push(&[0; 7], None, 0, 0);
        forest.push(&[0; 300], None, 0, 0);
        forest
    }

    /// Every pair is visited once, with the right sight, and nothing else is.
    fn check(
        plan: &Plan,
        blocks: &Blocks,
        pass: &Pass,
        counts: [usize; 2],
        sees: impl Fn(usize, usize) -> bool,
    ) {
        let (tasks, visits) =
            (&plan.lists.values[blocks.tasks.clone()], &plan.lists.values[blocks.visits.clone()]);
        let mut visited = std::collections::HashMap::new();
        for task in tasks.chunks_exact(4) {
            for visit in &visits[task[1] as usize..task[2] as usize] {
                for share in 0..pass.own / pass.share {
                    let place = (task[0] as usize * pass.own / pass.share + share, visit >> 16);
                    assert_eq!(visited.insert(place, visit >> (2 * share) & 3), None);
                }
            }
        }
        for share in 0..counts[0].div_ceil(pass.share) {
            for tile in 0..counts[1].div_ceil(pass.visited) {
                let own = share * pass.share..((share + 1) * pass.share).min(counts[0]);
                let others = tile * pass.visited..((tile + 1) * pass.visited).min(counts[1]);
                let (pairs, all) =
                    (own.len() * others.len(), own.clone().flat_map(|a| others.clone().map(move |b| (a, b))));
                let seen = all.filter(|&(a, b)| sees(a, b)).count();
                let sight = visited.get(&(share, tile as i32)).copied().unwrap_or(0);
                let expected = if seen == 0 {
                    0
                } else if seen < pairs {
                    1
                } else {
                    2
                };
                // A tile that ends outside is never whole where keys are hidden by it.
                assert!(
                    sight == expected || (expected == 2 && sight == 1),
                    "{share} {tile}: {sight}, {expected}"
                );
                let inside = others.len() == pass.visited && own.len() == pass.share;
                assert!(!inside || sight == expected, "{share} {tile}: {sight}, {expected}");
            }
        }
    }

    #[test]
    fn every_tile_is_visited_that_is_seen_and_no_other() {
        let forest = tokens();
        let ends = forest.subtree_end();
        let end_of: Vec<u32> = forest.segment_of_token().iter().map(|&s| ends[s as usize]).collect();
        let all: Vec<u32> = (0..forest.len() as u32).collect();
        let some = all.iter().copied().filter(|token| token % 7 == 3).collect();
        for queries in [all, some] {
            for window in [None, Some(1), Some(33)] {
                let layout = Layout::new(&forest, queries.clone());
                let near = |q: usize, k: usize| {
                    window.is_none_or(|window| forest.positions[q] < forest.positions[k] + window)
                };
                let sees = |row: usize, key: usize| {
                    let query = queries[row] as usize;
                    key <= query && query < end_of[key] as usize && near(query, key)
                };
                let portable = WIDTHS.map(|width| (Kernel::Portable, width));
                let hopper = hopper::WIDTHS.map(|width| (Kernel::Hopper, width));
                for (kernel, width) in portable.into_iter().chain(hopper) {
                    let passes = passes(kernel, width);
                    let plan = Plan::new(&layout, &heads(width, window), &passes);
                    let counts = [queries.len(), forest.len()];
                    check(&plan, &plan.forward, &passes.forward, counts, sees);
                    check(&plan, &plan.queries, &passes.queries, counts, sees);
                    let [rows, keys] = counts;
                    check(&plan, &plan.keys, &passes.keys, [keys, rows], |key, row| sees(row, key));
                    assert_eq!(plan.keys.count, keys.div_ceil(passes.keys.own));
                }
            }
        }
    }

    #[test]
    fn long_tasks_come_first_and_lists_are_aligned() {
        let layout = Layout::of_all(&tokens());
        let plan = Plan::new(&layout, &heads(64, None), &passes(Kernel::Portable, 64));
        let tasks = &plan.lists.values[plan.forward.tasks.clone()];
        assert!(tasks.chunks_exact(4).map(|task| task[2] - task[1]).is_sorted_by(|a, b| a >= b));
        for list in [&plan.limits, &plan.ends, &plan.forward.tasks, &plan.forward.visits, &plan.keys.visits] {
            assert!(list.start.is_multiple_of(4));
        }
        assert_eq!([plan.limits.len() / 2 % PADDING, plan.ends.len() % PADDING], [0, 0]);
    }
}
