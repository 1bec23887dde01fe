//! Mixture: each item of an epoch comes from a category drawn by weight.
//!
//! Inside a category items come without replacement: a shuffle of the category is used up before the next
//! one starts. An epoch has as many items as the data; a heavy category repeats and a light one is not
//! used up. Without weights a category weighs as much as it has items.

use std::collections::BTreeMap;

use super::labels::Categories;
use super::order::Draw;
use crate::base::{Error, Result};

/// The stream that draws categories; the numbers of categories lie below.
const CHOICE: u32 = u32::MAX;

/// `n` items of `categories` by `weights`.
pub(super) fn order(
    categories: &Categories<'_>,
    weights: &BTreeMap<String, f64>,
    n: u32,
    draw: &Draw,
) -> Result<Vec<u32>> {
    let cumulative = cumulative_shares(categories, weights).map_err(|e| e.key("sampler.weights"))?;
    let mut passes: Vec<_> = categories.members.iter().map(|members| Pass::new(members)).collect();
    let mut choice = draw.stream(CHOICE, 0);
    let mut next = |_| {
        let at = f64::from(choice.next_f32());
        let category = cumulative.partition_point(|&share| share <= at);
        passes[category].next(category as u32, draw)
    };
    Ok((0..n).map(&mut next).collect())
}

/// For each category the share of the weight that it and those before it have; the last is exactly 1.
fn cumulative_shares(categories: &Categories<'_>, weights: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    if let Some(name) = weights.keys().find(|name| categories.names.binary_search(&name.as_str()).is_err()) {
        return Err(Error::input(format!("has a weight for `{name}`, which is no category of the data"))
            .hint(format!("the data's categories are: {}", categories.names.join(", "))));
    }
    let mut total = 0.0;
    let mut sums = Vec::with_capacity(categories.names.len());
    for (name, members) in categories.names.iter().zip(&categories.members) {
        total += match weights.get(*name) {
            _ if weights.is_empty() => members.len() as f64,
            Some(&weight) if weight >= 0.0 => weight,
            Some(weight) => {
                return Err(Error::input(format!("gives `{name}` {weight}, needed a weight of at least 0")));
            }
            None => {
                return Err(Error::input(format!("has no weight for category `{name}`"))
                    .hint("give every category a weight; 0 leaves one out"));
            }
        };
        sums.push(total);
    }
    let usable = total > 0.0 && total.is_finite();
    if !usable && !sums.is_empty() {
        return Err(Error::input(format!("sums to {total}, needed a finite sum above 0")));
    }
    Ok(sums.into_iter().map(|sum| sum / total).collect())
}

/// Where an epoch stands in a category.
struct Pass<'a> {
    members: &'a [u32],
    shuffled: Vec<u32>,
    number: u32,
}

impl<'a> Pass<'a> {
    fn new(members: &'a [u32]) -> Self {
        Self { members, shuffled: Vec::new(), number: 0 }
    }

    fn next(&mut self, category: u32, draw: &Draw) -> u32 {
        if self.shuffled.is_empty() {
            self.shuffled = draw.shuffled(self.members.to_vec(), category, self.number);
            self.number += 1;
        }
        self.shuffled.pop().expect("a category has at least one member, or it would not be known")
    }
}
