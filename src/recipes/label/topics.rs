//! Topics: lines whose texts a model sees alike get one name.

use std::path::Path;

use serde::Serialize;

use super::kmeans::{Clusters, cluster};
use super::{column, embed, telling};
use crate::base::{Error, Result};
use crate::data::{Dataset, Tokenizer, index};
use crate::device::Device;
use crate::model::{Model, settings::WeightStorage};

/// The numbers of topics that are tried where none is asked for.
const TRIED: std::ops::RangeInclusive<usize> = 6..=20;
/// Words that are told of a topic.
const WORDS: usize = 5;

/// What to sort, and how.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Lines of any format with text.
    pub data: &'a Path,
    /// The model whose hidden states are compared.
    pub model: &'a Path,
    /// Number of topics; None: the one in 6..=20 with the best silhouette.
    pub topics: Option<usize>,
    /// Names the starts of k-means.
    pub seed: u64,
    /// The field to write.
    pub column: &'a str,
    /// The file to write.
    pub out: &'a Path,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sorted {
    /// Number of lines.
    pub n: usize,
    /// The field.
    pub column: String,
    /// How well the topics stand apart: the mean simplified silhouette, at most 1.
    pub silhouette: f64,
    /// The topics, the largest first.
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Topic {
    /// Its name in the column: topic-01, topic-02, ...
    pub name: String,
    /// Its lines.
    pub n: usize,
    /// The words that tell it from the others.
    pub words: Vec<String>,
}

/// Sorts the lines and writes the column.
pub fn label(device: &Device, job: &Job<'_>) -> Result<Sorted> {
    column::check(job.column, job.out)?;
    let data = Dataset::open(job.data, index::detect_format(job.data)?, 0)?;
    let n = data.len();
    if let Some(found) = job.topics.filter(|&k| k == 0 || k > n) {
        return Err(Error::input(format!("found {found}, needed 1 to {n}, the number of lines")).key("--k"));
    }
    let model = Model::open(job.model, WeightStorage::Auto)?;
    let points = embed::points(device, &model, &Tokenizer::open(job.model)?, &data)?;
    let found = match job.topics {
        Some(k) => cluster(device, &points, k, job.seed),
        None => {
            let tried = TRIED.filter(|&k| k < n).map(|k| cluster(device, &points, k, job.seed));
            let better = |best: Clusters, next: Clusters| {
                if next.silhouette > best.silhouette { next } else { best }
            };
            tried.reduce(better).unwrap_or_else(|| cluster(device, &points, 1, job.seed))
        }
    };
    let k = found.of.iter().max().map_or(0, |&last| last + 1);
    let names: Vec<String> = (1..=k).map(|number| format!("topic-{number:02}")).collect();
    let values: Vec<_> = found.of.iter().map(|&topic| names[topic].clone().into()).collect();
    column::write(&data, job.out, job.column, &values)?;

    let texts: Result<Vec<String>> =
        (0..n).map(|i| Ok(embed::text(&data.line(i)?).unwrap_or_default())).collect();
    let words = telling::words(&texts?, &found.of, k, WORDS);
    let count = |topic: usize| found.of.iter().filter(|&&t| t == topic).count();
    let topics = names.into_iter().zip(words).enumerate();
    Ok(Sorted {
        n,
        column: job.column.to_owned(),
        silhouette: found.silhouette,
        topics: topics.map(|(topic, (name, words))| Topic { name, n: count(topic), words }).collect(),
    })
}
