//! Which examples make up which update: a pure function of data, sampler and batch size.

use std::io::Write;

use crate::base::{Result, hash};
use crate::data::Dataset;
use crate::sampler::{self, Labels};

/// The updates of a whole run.
#[derive(Debug)]
pub struct Plan {
    /// The examples of each epoch that begins, in training order.
    epochs: Vec<Vec<u32>>,
    batch_size: usize,
    /// Number of updates of the run.
    pub updates: u64,
    ids: Vec<String>,
    categories: Option<Vec<String>>,
    difficulties: Option<Vec<f64>>,
}

/// One update's examples and where they stand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Indices into the data set, in order.
    pub examples: &'a [u32],
    /// Epochs done after this update.
    pub epoch: f64,
}

impl Plan {
    /// Orders `data` for `epochs` epochs; `max_steps` above 0 ends the run early, and no epoch after it is
    /// ordered.
    pub fn new(
        data: &Dataset,
        settings: &sampler::Settings,
        epochs: u32,
        batch_size: usize,
        max_steps: u64,
    ) -> Result<Self> {
        let strategy = settings.strategy;
        let categories = column(data.categories(&settings.category), strategy.needs_categories())?;
        let difficulties = column(data.difficulties(&settings.difficulty), strategy.needs_difficulties())?;
        let ids = (0..data.len()).map(|i| data.id(i).to_owned()).collect();
        let mut plan = Self { epochs: Vec::new(), batch_size, updates: 0, ids, categories, difficulties };
        for warning in sampler::warnings(settings, &plan.labels(), epochs) {
            tracing::warn!("{warning}");
        }
        for epoch in 0..epochs {
            let order = sampler::order(settings, &plan.labels(), epoch, batch_size);
            let order = order.map_err(|e| e.file(data.path()))?;
            plan.updates += order.len().div_ceil(batch_size) as u64;
            plan.epochs.push(order);
            if max_steps > 0 && plan.updates >= max_steps {
                plan.updates = max_steps;
                break;
            }
        }
        Ok(plan)
    }

    /// The labels that the order was made from, where the data has them.
    pub fn labels(&self) -> Labels<'_> {
        Labels {
            n: self.ids.len(),
            categories: self.categories.as_deref(),
            difficulties: self.difficulties.as_deref(),
        }
    }

    /// The examples of one epoch in training order.
    pub fn epoch(&self, epoch: usize) -> &[u32] {
        &self.epochs[epoch]
    }

    /// The examples of update `update`, from 0.
    pub fn update(&self, update: u64) -> Place<'_> {
        let mut first = 0;
        for (epoch, order) in self.epochs.iter().enumerate() {
            let updates = order.len().div_ceil(self.batch_size) as u64;
            if update < first + updates {
                let start = (update - first) as usize * self.batch_size;
                let end = (start + self.batch_size).min(order.len());
                return Place {
                    examples: &order[start..end],
                    epoch: epoch as f64 + end as f64 / order.len() as f64,
                };
            }
            first += updates;
        }
        panic!("update {update} is past the last of {first}");
    }

    /// The identity of the whole order: SHA-256 of the ids of all epochs, joined by newlines.
    pub fn hash(&self) -> String {
        hash::sha256_lines(self.epochs.iter().flatten().map(|&i| self.ids[i as usize].as_str()))
    }

    /// Writes all epochs as `order.jsonl`.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut first = 0;
        for order in &self.epochs {
            sampler::write_order(out, first, order, &self.ids, &self.labels())?;
            first += order.len() as u64;
        }
        Ok(())
    }
}

/// A column that the order does not need is still shown beside it where the data has it.
fn column<T>(found: Result<Vec<T>>, needed: bool) -> Result<Option<Vec<T>>> {
    match found {
        Err(error) if needed => Err(error),
        found => Ok(found.ok()),
    }
}
