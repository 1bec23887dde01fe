//! What a run trains: an adapter on a frozen model, or the model's own weights.
//!
//! ```text
//!            parameters                  a checkpoint holds           the run leaves
//! adapter    the arena of all A and B    PEFT's files                 adapter/: the same
//! full       every weight, f32           model directory, f32         model/: its types as they were found
//! ```
//!
//! Both are written as directories that other programs open, and read back from them.

use std::path::Path;

use super::step::Optimizer;
use crate::adapter::settings::Method;
use crate::adapter::{self, Lora, peft};
use crate::base::{Error, Result};
use crate::device::Device;
use crate::model::directory::Types;
use crate::model::settings::WeightStorage;
use crate::model::{self, Model, directory};
use crate::ops::adamw::{self, Constants};
use crate::tensor::Gguf;

/// A model in training.
#[derive(Debug)]
pub struct Learner {
    /// The model.
    pub model: Model,
    /// What is trained on it; without an adapter, its own weights are.
    pub adapter: Option<Lora>,
}

impl Learner {
    /// The model and the adapter that training starts from.
    pub fn start(
        device: &Device,
        model: &model::Settings,
        adapter: &adapter::Settings,
        seed: u64,
    ) -> Result<Self> {
        let folder = Path::new(&model.path);
        if adapter.method == Method::Full {
            if model.weights == WeightStorage::Stored {
                return Err(Error::input("found `stored`, but weights that are trained are held as f32")
                    .key("model.weights")
                    .hint("use `auto` or `f32`, or train an adapter"));
            }
            if Gguf::is_named_by(folder) {
                return Err(Error::input(
                    "found a GGUF file, but `full` trains and writes Hugging Face directories",
                )
                .file(folder)
                .key("model.path")
                .hint("train an adapter, or name the directory that the file was made from"));
            }
            let model = Model::open(folder, WeightStorage::Stored)?;
            return Ok(Self { model, adapter: None });
        }
        let model = Model::open(folder, model.weights)?;
        let linears = model.spec().linears();
        let adapter = if adapter.init_from.is_empty() {
            Lora::new(device, adapter, &linears, seed)?
        } else {
            peft::read(device, Path::new(&adapter.init_from), &linears)?
        };
        Ok(Self { model, adapter: Some(adapter) })
    }

    /// Number of trained parameters.
    pub fn len(&self) -> usize {
        match &self.adapter {
            Some(adapter) => adapter.len(),
            None => self.model.parameters().last().map_or(0, |last| last.range.end),
        }
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is trained, for logs.
    pub fn describe(&self) -> String {
        match &self.adapter {
            Some(adapter) => {
                format!("{} trained parameters in {} linears", self.len(), adapter.modules().len())
            }
            None => format!(
                "all {} parameters trained; weights, gradients and moments take {:.1} MiB",
                self.len(),
                (4 * size_of::<f32>() * self.len()) as f64 / f64::from(1 << 20),
            ),
        }
    }

    /// What the run leaves, for logs.
    pub fn result(&self) -> &'static str {
        if self.adapter.is_some() { "adapter" } else { "model" }
    }

    /// One AdamW update with the gradient and the moments of `optimizer`.
    pub fn update(&mut self, device: &Device, optimizer: &mut Optimizer, constants: &Constants) {
        let Optimizer { gradients, m, v } = optimizer;
        if let Some(adapter) = &mut self.adapter {
            let p = adapter.params_mut().whole_mut();
            adamw::update(device, constants, p, gradients.whole(), m.whole_mut(), v.whole_mut());
            return;
        }
        for parameter in self.model.parameters_mut() {
            let of = &parameter.range;
            let (m, v) = (m.part_mut(of.clone()), v.part_mut(of.clone()));
            adamw::update(device, constants, parameter.weight.f32_mut(), gradients.part(of.clone()), m, v);
        }
    }

    /// Writes what is trained into `folder` (which exists), so that [`Self::read`] finds the same bits.
    pub fn write_exact(&self, folder: &Path, base: &str, dropout: f64) -> Result<()> {
        self.write(folder, base, dropout, Types::F32)
    }

    /// Writes what the run leaves into `folder` (which exists).
    pub fn write_result(&self, folder: &Path, base: &str, dropout: f64) -> Result<()> {
        self.write(folder, base, dropout, Types::AsFound)
    }

    /// `base` is the directory of the model that training started from.
    fn write(&self, folder: &Path, base: &str, dropout: f64, types: Types) -> Result<()> {
        match &self.adapter {
            Some(adapter) => peft::write(folder, adapter, base, dropout),
            None => directory::write(&self.model, types, Path::new(base), folder),
        }
    }

    /// Reads what was written.
    pub fn read(&mut self, device: &Device, folder: &Path) -> Result<()> {
        match &mut self.adapter {
            Some(adapter) => *adapter = peft::read(device, folder, &self.model.spec().linears())?,
            None => directory::read(&mut self.model, folder)?,
        }
        Ok(())
    }
}
