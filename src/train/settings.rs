//! The `[train]` table.

use serde::{Deserialize, Serialize};

use super::schedule::Decay;
use crate::base::{Error, Result};
use crate::data::LossOn;

/// What the loss is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Supervised fine-tuning: the likelihood of completions.
    #[default]
    Sft,
    /// The likelihood of every token.
    Lm,
    /// Direct preference optimisation.
    Dpo,
    /// A teacher's probabilities.
    Distill,
}

/// How parameters are updated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// AdamW with f32 moments.
    #[default]
    Adamw,
    /// AdamW with 8-bit moments.
    #[serde(rename = "adamw-8bit")]
    Adamw8bit,
}

/// Whether examples of a micro-batch share their common prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharePrefixes {
    /// On when there is no dropout: a shared token has one mask.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The `[train]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What the loss is.
    pub objective: Objective,
    /// Passes over the data.
    pub epochs: u32,
    /// Above 0: the run stops there.
    pub max_steps: u64,
    /// Examples per update.
    pub batch_size: usize,
    /// Tokens that are computed at a time: a matter of memory, not of results.
    pub micro_batch_tokens: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub lr_scheduler_type: Decay,
    /// Share of the updates that warm up.
    pub warmup_ratio: f64,
    /// Number of updates that warm up; above 0 it wins over the ratio.
    pub warmup_steps: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// How parameters are updated.
    pub optimizer: OptimizerKind,
    /// The gradient's norm is clipped to this; 0 = off.
    pub max_grad_norm: f64,
    /// Probability mass that is spread over the vocabulary, for lines that set none.
    pub label_smoothing: f32,
    /// Which tokens carry loss.
    pub loss_on: LossOn,
    /// Whether common prefixes are computed once.
    pub share_prefixes: SharePrefixes,
    /// Whether blocks are computed again in the backward pass instead of kept.
    pub recompute: bool,
    /// Seed of the adapter's start and of dropout.
    pub seed: u64,
    /// Updates between lines of metrics.
    pub logging_steps: u64,
    /// Updates between evaluations; 0 = at the end only.
    pub eval_steps: u64,
    /// Updates between checkpoints; 0 = at a signal only.
    pub save_steps: u64,
    /// Checkpoints that are kept; 0 = all.
    pub save_total_limit: usize,
    /// Whether the final adapter is the one that evaluated best.
    pub keep_best: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            objective: Objective::Sft,
            epochs: 1,
            max_steps: 0,
            batch_size: 8,
            micro_batch_tokens: 2048,
            learning_rate: 1e-4,
            lr_scheduler_type: Decay::Linear,
            warmup_ratio: 0.0,
            warmup_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            optimizer: OptimizerKind::Adamw,
            max_grad_norm: 1.0,
            label_smoothing: 0.0,
            loss_on: LossOn::Completion,
            share_prefixes: SharePrefixes::Auto,
            recompute: false,
            seed: 42,
            logging_steps: 1,
            eval_steps: 0,
            save_steps: 0,
            save_total_limit: 3,
            keep_best: false,
        }
    }
}

impl Settings {
    /// Refuses values out of range and what this version cannot do, by key.
    pub fn check(&self) -> Result<()> {
        let number = |key: &str, found: f64, needed: &str, holds: bool| {
            if holds && found.is_finite() {
                return Ok(());
            }
            Err(Error::input(format!("found {found}, needed {needed}")).key(format!("train.{key}")))
        };
        number("epochs", self.epochs.into(), "at least 1", self.epochs > 0)?;
        number("batch_size", self.batch_size as f64, "at least 1", self.batch_size > 0)?;
        number(
            "micro_batch_tokens",
            self.micro_batch_tokens as f64,
            "at least 1",
            self.micro_batch_tokens > 0,
        )?;
        number("logging_steps", self.logging_steps as f64, "at least 1", self.logging_steps > 0)?;
        number("learning_rate", self.learning_rate, "a rate of at least 0", self.learning_rate >= 0.0)?;
        number(
            "warmup_ratio",
            self.warmup_ratio,
            "a share in [0, 1]",
            (0.0..=1.0).contains(&self.warmup_ratio),
        )?;
        number("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0.0)?;
        number("adam_beta1", self.adam_beta1, "a number in [0, 1)", (0.0..1.0).contains(&self.adam_beta1))?;
        number("adam_beta2", self.adam_beta2, "a number in [0, 1)", (0.0..1.0).contains(&self.adam_beta2))?;
        number("adam_epsilon", self.adam_epsilon, "a number above 0", self.adam_epsilon > 0.0)?;
        number("max_grad_norm", self.max_grad_norm, "at least 0", self.max_grad_norm >= 0.0)?;
        let smoothing = self.label_smoothing;
        number("label_smoothing", smoothing.into(), "a share in [0, 1)", (0.0..1.0).contains(&smoothing))?;
        let fail = |key: &str, what: &str| Err(Error::input(what).key(format!("train.{key}")));
        match self.objective {
            Objective::Sft | Objective::Lm => {}
            Objective::Dpo => return fail("objective", "found `dpo`, but this version has `sft` and `lm`"),
            Objective::Distill => {
                return fail("objective", "found `distill`, but this version has `sft` and `lm`");
            }
        }
        if self.optimizer == OptimizerKind::Adamw8bit {
            return fail("optimizer", "found `adamw-8bit`, but this version has `adamw`");
        }
        Ok(())
    }

    /// These settings, with the defaults for all that a result does not depend on: what is logged, evaluated,
    /// kept or computed again.
    pub fn decisive(&self) -> Self {
        let default = Self::default();
        Self {
            recompute: default.recompute,
            logging_steps: default.logging_steps,
            eval_steps: default.eval_steps,
            save_steps: default.save_steps,
            save_total_limit: default.save_total_limit,
            keep_best: default.keep_best,
            ..self.clone()
        }
    }

    /// Which tokens carry loss under the objective.
    pub fn loss_on(&self) -> LossOn {
        if self.objective == Objective::Lm { LossOn::All } else { self.loss_on }
    }

    /// W for a run of `updates`.
    pub fn warmup(&self, updates: u64) -> u64 {
        if self.warmup_steps > 0 {
            return self.warmup_steps;
        }
        // The product is rounded to where a ratio like 0.1 of 30 is 3, not 4.
        ((self.warmup_ratio * updates as f64 * 1e9).round() / 1e9).ceil() as u64
    }
}
