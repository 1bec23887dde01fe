//! A trained model as a Hugging Face directory: its weights in one file, beside the configuration and the
//! tokenizer that the model came with.

use std::path::Path;

use super::files::Files;
use super::settings::WeightStorage;
use super::weights::Model;
use crate::base::Result;
use crate::tensor::stored::{self, Draft};
use crate::tensor::{DType, checkpoint};

/// The types that weights are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// f32: what is read back has the same bits.
    F32,
    /// Each weight's type where the model came from, rounded to nearest, so that its config.json stays true.
    AsFound,
}

/// Writes `model` into `folder` (which exists), with all that is no weight copied from the directory `from`.
pub fn write(model: &Model, types: Types, from: &Path, folder: &Path) -> Result<()> {
    checkpoint::copy_others(from, folder, &[checkpoint::INDEX])?;
    let drafts = model.parameters().iter().map(|parameter| {
        let dtype = if types == Types::F32 { DType::F32 } else { parameter.stored };
        let values = || parameter.weight.f32();
        (parameter.name.clone(), Draft::rounded(dtype, &parameter.shape, values))
    });
    stored::write(&folder.join(checkpoint::SINGLE), drafts)
}

/// Replaces the weights of `model` by those of the directory `folder`.
pub fn read(model: &mut Model, folder: &Path) -> Result<()> {
    let found = Model::new(model.spec().clone(), &Files::open(folder)?, WeightStorage::Stored)?;
    model.take_weights(found);
    Ok(())
}
