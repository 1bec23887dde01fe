//! What a strategy may know of the data: a category and a difficulty per example.

use std::collections::HashMap;

use super::Settings;
use crate::base::{Error, Result};

/// The labels of `n` examples, in the order of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    /// Number of examples.
    pub n: usize,
    /// Category of each example, `[n]`.
    pub categories: Option<&'a [String]>,
    /// Difficulty of each example, `[n]`; higher is harder.
    pub difficulties: Option<&'a [f64]>,
}

impl<'a> Labels<'a> {
    /// Panics where a list does not have `n` entries; that is the caller's bug, not bad data.
    pub(super) fn assert_lengths(&self) {
        assert!(self.categories.is_none_or(|c| c.len() == self.n), "a category per example");
        assert!(self.difficulties.is_none_or(|d| d.len() == self.n), "a difficulty per example");
    }

    /// The difficulties, all of them finite.
    pub(super) fn difficulties(&self, settings: &Settings) -> Result<&'a [f64]> {
        let difficulties = self.difficulties.ok_or_else(|| {
            missing(settings, "difficulty", &settings.difficulty)
                .hint("run `preceptor label difficulty` first, or choose an order without: random, blocked")
        })?;
        match difficulties.iter().position(|d| !d.is_finite()) {
            None => Ok(difficulties),
            Some(i) => Err(Error::input(format!(
                "example {i} (from 0) has difficulty {}, needed a finite number",
                difficulties[i]
            ))
            .key("sampler.difficulty")),
        }
    }

    /// The categories as small numbers.
    pub(super) fn categories(&self, settings: &Settings) -> Result<Categories<'a>> {
        let labels = self.categories.ok_or_else(|| {
            missing(settings, "category", &settings.category)
                .hint("run `preceptor label topics` first, or choose an order without: random, curriculum")
        })?;
        Categories::new(labels, &settings.category_order)
    }
}

fn missing(settings: &Settings, noun: &str, field: &str) -> Error {
    let strategy = settings.strategy;
    Error::input(format!("strategy `{strategy}` needs a {noun} for every example, found none in `{field}`"))
        .key(format!("sampler.{noun}"))
}

/// Categories numbered by name, so that a number does not depend on `category_order`.
#[derive(Debug)]
pub(super) struct Categories<'a> {
    /// The names, sorted; a category's number is its index here.
    pub(super) names: Vec<&'a str>,
    /// The numbers in training order.
    pub(super) sequence: Vec<u32>,
    /// The examples of each category, by its number, in the order of the file.
    pub(super) members: Vec<Vec<u32>>,
}

impl<'a> Categories<'a> {
    fn new(labels: &'a [String], wanted: &[String]) -> Result<Self> {
        let mut members: HashMap<&str, Vec<u32>> = HashMap::new();
        for (i, label) in (0..).zip(labels) {
            members.entry(label).or_default().push(i);
        }
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable_by_key(|&(name, _)| name);
        let (names, members): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let sequence = if wanted.is_empty() {
            (0..names.len() as u32).collect()
        } else {
            sequence(&names, wanted).map_err(|e| e.key("sampler.category_order"))?
        };
        Ok(Self { names, sequence, members })
    }
}

/// The numbers of the `wanted` names, which must be all `names`, each once.
fn sequence(names: &[&str], wanted: &[String]) -> Result<Vec<u32>> {
    let mut listed = vec![false; names.len()];
    let mut sequence = Vec::with_capacity(names.len());
    for name in wanted {
        let number = names.binary_search(&name.as_str()).map_err(|_| {
            Error::input(format!("lists `{name}`, which is no category of the data"))
                .hint(format!("the data's categories are: {}", names.join(", ")))
        })?;
        if std::mem::replace(&mut listed[number], true) {
            return Err(Error::input(format!("lists `{name}` twice")).hint("name each category once"));
        }
        sequence.push(number as u32);
    }
    match listed.iter().position(|&found| !found) {
        None => Ok(sequence),
        Some(number) => Err(Error::input(format!("does not list category `{}` of the data", names[number]))
            .hint("name every category once, or leave the list empty for the order of names")),
    }
}
