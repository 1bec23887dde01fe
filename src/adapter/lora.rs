//! A LoRA adapter: every A and B in one contiguous arena.
//!
//! ```text
//! params  [ A0 | B0 | A1 | B1 | ... ]      modules in order of layer, then of the forward pass
//! ```
//!
//! Gradients and the optimizer's moments have the same layout, so clip and update are one pass each.

use std::ops::Range;

use super::settings::Settings;
use super::targets::{self, Linear, Projection};
use crate::base::philox::{Philox, Purpose};
use crate::base::{Error, Result};
use crate::device::{Buffer, Device};
use crate::ops::lora::Factors;

/// A rank above this many times a linear's width is a slip of the pen that would only ask for memory; above
/// the width itself it is merely useless.
const MOST_RANK: usize = 64;

/// One adapted linear.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The linear.
    pub linear: Linear,
    /// R.
    pub rank: usize,
    /// Alpha, before the division by the rank.
    pub alpha: f64,
    /// Where A (R x in) stands in the arena.
    pub a: Range<usize>,
    /// Where B (out x R) stands in the arena, right after A.
    pub b: Range<usize>,
}

/// The adapter of a model.
#[derive(Debug)]
pub struct Lora {
    modules: Vec<Module>,
    /// Index into `modules` by the linear's number.
    by_number: Vec<Option<usize>>,
    use_rslora: bool,
    params: Buffer,
}

impl Lora {
    /// A new adapter by the settings: A uniform in +-1/sqrt(in), as PEFT starts it, and B zero.
    pub fn new(device: &Device, settings: &Settings, linears: &[Linear], seed: u64) -> Result<Self> {
        let ranks: Vec<_> = settings.rank_pattern.clone().into_iter().collect();
        let alphas: Vec<_> = settings.alpha_pattern.clone().into_iter().collect();
        let mut shapes = Vec::new();
        for linear in targets::choose(linears, &settings.target_modules)? {
            let rank = targets::pattern_value(&ranks, &linear, "adapter.rank_pattern")?.unwrap_or(settings.r);
            let alpha = targets::pattern_value(&alphas, &linear, "adapter.alpha_pattern")?;
            if rank > linear.inputs.min(linear.outputs) * MOST_RANK {
                return Err(Error::input(format!(
                    "found rank {rank} for {linear}, which is {} x {}",
                    linear.outputs, linear.inputs
                ))
                .key("adapter.r")
                .hint("use a rank below the linear's width"));
            }
            shapes.push((linear, rank, alpha.unwrap_or(settings.lora_alpha)));
        }
        let mut lora = Self::zeros(device, &shapes, settings.use_rslora);
        let philox = Philox::new(seed, Purpose::AdapterInit);
        for module in &lora.modules {
            let bound = 1.0 / (module.linear.inputs as f32).sqrt();
            let mut numbers = philox.stream([module.linear.number(), 0, 0]);
            for value in &mut lora.params.values_mut()[module.a.clone()] {
                *value = bound * (2.0 * numbers.next_f32() - 1.0);
            }
        }
        Ok(lora)
    }

    /// An adapter whose A and B are all zero; one (linear, rank, alpha) a module.
    pub fn zeros(device: &Device, shapes: &[(Linear, usize, f64)], use_rslora: bool) -> Self {
        let mut at = 0;
        let mut take = |len: usize| {
            at += len;
            at - len..at
        };
        let mut modules: Vec<Module> = shapes
            .iter()
            .map(|&(linear, rank, alpha)| Module { linear, rank, alpha, a: 0..0, b: 0..0 })
            .collect();
        modules.sort_by_key(|m| m.linear.number());
        for module in &mut modules {
            module.a = take(module.rank * module.linear.inputs);
            module.b = take(module.linear.outputs * module.rank);
        }
        let numbers = modules.last().map_or(0, |m| m.linear.number() as usize + 1);
        let mut by_number = vec![None; numbers];
        for (index, module) in modules.iter().enumerate() {
            by_number[module.linear.number() as usize] = Some(index);
        }
        Self { params: device.zeros(1, at), modules, by_number, use_rslora }
    }

    /// The adapted linears, in the arena's order.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The adapter of a linear, if it has one.
    pub fn module(&self, layer: usize, projection: Projection) -> Option<&Module> {
        let number = layer * Projection::ALL.len() + projection as usize;
        self.by_number.get(number).copied().flatten().map(|index| &self.modules[index])
    }

    /// A, B and the scale of one module.
    pub fn factors(&self, module: &Module) -> Factors<'_> {
        Factors {
            a: self.params.part(module.a.clone()),
            b: self.params.part(module.b.clone()),
            rank: module.rank,
            scale: self.scale(module),
        }
    }

    /// alpha / R, or alpha / sqrt(R) with rsLoRA.
    pub fn scale(&self, module: &Module) -> f32 {
        let rank = module.rank as f64;
        (module.alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }

    /// Whether the scale divides by sqrt(R).
    pub fn use_rslora(&self) -> bool {
        self.use_rslora
    }

    /// The arena.
    pub fn params(&self) -> &Buffer {
        &self.params
    }

    /// The arena.
    pub fn params_mut(&mut self) -> &mut Buffer {
        &mut self.params
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.params.cols()
    }

    /// Whether no linear is adapted.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}
