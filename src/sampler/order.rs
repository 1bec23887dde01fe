//! One epoch's order.

use std::ops::Range;

use super::labels::{Categories, Labels};
use super::{Settings, Strategy, competence, mixture};
use crate::base::philox::{Philox, Purpose, Stream};
use crate::base::{Error, Result};

/// The example indices of one epoch (from 0) in training order; `labels.n` of them.
///
/// `batch_size` is the number of examples per update; only `competence` uses it.
///
/// - Difficulties rise; ties stay in the order of the file.
/// - Categories follow `category_order`, else their names byte by byte.
/// - Parts are cut as numpy's `array_split` cuts: the first `len % parts` parts hold one item more.
/// - Tiers are three such parts of everything by rising difficulty, so a tie may straddle two tiers.
/// - `competence` is defined in `competence.rs`, `mixture` in `mixture.rs`.
///
/// Every shuffle has a stream of its own, named by (epoch, category, tier): a category's shuffle is the
/// same whether it is blocked or interleaved, and wherever it stands.
///
/// # Errors
/// The strategy needs a label that the data lacks, a difficulty is not finite, or a setting is out of
/// range or names other categories than the data has.
///
/// # Panics
/// A list of labels does not have `labels.n` entries.
pub fn order(settings: &Settings, labels: &Labels<'_>, epoch: u32, batch_size: usize) -> Result<Vec<u32>> {
    labels.assert_lengths();
    let n = u32::try_from(labels.n).map_err(|_| {
        Error::input(format!("found {} examples, at most {} fit an epoch", labels.n, u32::MAX))
    })?;
    let draw = Draw { philox: Philox::new(settings.seed, Purpose::Order), epoch };
    let all = (0..n).collect();
    match settings.strategy {
        Strategy::Sequential => Ok(all),
        Strategy::Random => Ok(draw.shuffled(all, 0, 0)),
        Strategy::Curriculum => Ok(rising(all, labels.difficulties(settings)?)),
        Strategy::Blocked | Strategy::BlockedCurriculum => Ok(blocks(settings, labels, &draw)?.concat()),
        Strategy::Interleaved | Strategy::InterleavedCurriculum => {
            settings.check()?;
            Ok(interleaved(&blocks(settings, labels, &draw)?, settings.parts))
        }
        Strategy::Tiered => {
            let tiers = tiers(all, labels.difficulties(settings)?);
            Ok((0..).zip(tiers).flat_map(|(tier, items)| draw.shuffled(items, 0, tier)).collect())
        }
        Strategy::InterleavedTiered => {
            let categories = labels.categories(settings)?;
            let tiers = tiers(all, labels.difficulties(settings)?);
            Ok(interleaved_tiers(&categories, tiers, &draw))
        }
        Strategy::Competence => {
            let easiest_first = rising(all, labels.difficulties(settings)?);
            competence::order(easiest_first, batch_size, draw.stream(0, 0))
        }
        Strategy::Mixture => mixture::order(&labels.categories(settings)?, &settings.weights, n, &draw),
    }
}

/// The random numbers of one epoch.
pub(super) struct Draw {
    philox: Philox,
    epoch: u32,
}

impl Draw {
    /// The stream of a category's number and of a tier or pass.
    pub(super) fn stream(&self, category: u32, tier: u32) -> Stream {
        self.philox.stream([self.epoch, category, tier])
    }

    pub(super) fn shuffled(&self, mut items: Vec<u32>, category: u32, tier: u32) -> Vec<u32> {
        self.stream(category, tier).shuffle(&mut items);
        items
    }
}

/// `items` by rising difficulty; ties keep their order.
fn rising(mut items: Vec<u32>, difficulties: &[f64]) -> Vec<u32> {
    items.sort_by(|&a, &b| {
        let [a, b] = [a, b].map(|i| difficulties[i as usize]);
        a.partial_cmp(&b).expect("Labels::difficulties lets only finite numbers pass")
    });
    items
}

/// Each category's items in training order, in the order of the categories.
fn blocks(settings: &Settings, labels: &Labels<'_>, draw: &Draw) -> Result<Vec<Vec<u32>>> {
    let mut categories = labels.categories(settings)?;
    let difficulties =
        if settings.strategy.needs_difficulties() { Some(labels.difficulties(settings)?) } else { None };
    let block = |&category: &u32| {
        let items = std::mem::take(&mut categories.members[category as usize]);
        match difficulties {
            Some(difficulties) => rising(items, difficulties),
            None => draw.shuffled(items, category, 0),
        }
    };
    Ok(categories.sequence.iter().map(block).collect())
}

/// For each part: that part of every block.
fn interleaved(blocks: &[Vec<u32>], parts: u64) -> Vec<u32> {
    // parts beyond the longest block's length are empty in every block
    let rounds = blocks.iter().map(Vec::len).max().unwrap_or(0).min(parts.try_into().unwrap_or(usize::MAX));
    let mut order = Vec::with_capacity(blocks.iter().map(Vec::len).sum());
    for round in 0..rounds {
        for block in blocks {
            order.extend_from_slice(&block[part(block.len(), rounds, round)]);
        }
    }
    order
}

/// Part `index` of `len` items cut into `parts`, the first `len % parts` of which hold one item more.
fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    let start = |i: usize| i * (len / parts) + i.min(len % parts);
    start(index)..start(index + 1)
}

/// Easy, medium and hard.
fn tiers(items: Vec<u32>, difficulties: &[f64]) -> [Vec<u32>; 3] {
    let sorted = rising(items, difficulties);
    std::array::from_fn(|tier| sorted[part(sorted.len(), 3, tier)].to_vec())
}

fn interleaved_tiers(categories: &Categories<'_>, tiers: [Vec<u32>; 3], draw: &Draw) -> Vec<u32> {
    let mut category_of = vec![0; tiers.iter().map(Vec::len).sum()];
    for (category, members) in (0u32..).zip(&categories.members) {
        members.iter().for_each(|&item| category_of[item as usize] = category);
    }
    let mut order = Vec::with_capacity(category_of.len());
    for (tier, items) in (0..).zip(tiers) {
        let mut members = vec![Vec::new(); categories.names.len()];
        for item in items {
            members[category_of[item as usize] as usize].push(item);
        }
        for &category in &categories.sequence {
            order.extend(draw.shuffled(std::mem::take(&mut members[category as usize]), category, tier));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_array_split() {
        // numpy.array_split(range(n), p), lengths
        let lengths = |n, p| (0..p).map(|i| part(n, p, i).len()).collect::<Vec<_>>();
        assert_eq!(lengths(8, 3), [3, 3, 2]);
        assert_eq!(lengths(7, 3), [3, 2, 2]);
        assert_eq!(lengths(2, 3), [1, 1, 0]);
        assert_eq!(lengths(0, 2), [0, 0]);
        assert_eq!(part(8, 3, 1), 3..6);
    }
}
