//! The `[adapter]` table, in PEFT's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Low-rank adapters on a frozen base.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

/// How the frozen base is stored during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseQuantization {
    /// As in the checkpoint.
    #[default]
    None,
    /// 4-bit NormalFloat.
    Nf4,
    /// 4-bit NormalFloat with quantised scales.
    Nf4Double,
}

/// `target_modules`: a preset or regular expression, or a list of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// `all-linear`, or a regular expression over whole module names.
    Preset(String),
    /// Names or ends of names.
    Names(Vec<String>),
}

/// The `[adapter]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is trained.
    pub method: Method,
    /// Rank.
    pub r: usize,
    /// The update is scaled by lora_alpha / r.
    pub lora_alpha: f64,
    /// Share of an adapter's inputs that are dropped in training, in [0, 1).
    pub lora_dropout: f64,
    /// Which linears carry an adapter.
    pub target_modules: TargetModules,
    /// Scale by lora_alpha / sqrt(r) instead (Kalajdzievski 2023).
    pub use_rslora: bool,
    /// Ranks of modules whose names match, instead of `r`.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of modules whose names match, instead of `lora_alpha`.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Modules to train whole beside the adapters.
    pub modules_to_save: Vec<String>,
    /// A PEFT adapter to start from; its shape wins over the keys above.
    pub init_from: String,
    /// How the frozen base is stored during training.
    pub base_quantization: BaseQuantization,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Lora,
            r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::Preset("all-linear".into()),
            use_rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: Vec::new(),
            init_from: String::new(),
            base_quantization: BaseQuantization::None,
        }
    }
}

impl Settings {
    /// Refuses values out of range and what this version cannot do, by key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::input(what).key(format!("adapter.{key}")));
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if self.r == 0 {
            return fail("r", "found 0, needed a rank of at least 1".into());
        }
        if !positive(self.lora_alpha) {
            return fail("lora_alpha", format!("found {}, needed a number above 0", self.lora_alpha));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return fail("lora_dropout", format!("found {}, needed a share in [0, 1)", self.lora_dropout));
        }
        if let Some((pattern, _)) = self.rank_pattern.iter().find(|(_, r)| **r == 0) {
            return fail("rank_pattern", format!("found rank 0 for `{pattern}`, needed at least 1"));
        }
        if let Some((pattern, alpha)) = self.alpha_pattern.iter().find(|(_, a)| !positive(**a)) {
            return fail("alpha_pattern", format!("found {alpha} for `{pattern}`, needed a number above 0"));
        }
        if self.method == Method::Full && !self.init_from.is_empty() {
            return fail(
                "init_from",
                "set, but `full` trains no adapter; name the model to start from in `model.path`".into(),
            );
        }
        if let Some(module) = self.modules_to_save.first() {
            return fail(
                "modules_to_save",
                format!("found `{module}`, but this version trains adapters only"),
            );
        }
        if self.base_quantization != BaseQuantization::None {
            return fail("base_quantization", "this version keeps the base as stored; use `none`".into());
        }
        Ok(())
    }
}
