//! Merging: W' = round(W + s B A), written as a Hugging Face directory, with the rounding's error.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use serde::Serialize;

use super::lora::{Lora, Module};
use crate::base::{Error, Result, files};
use crate::device::Device;
use crate::ops;
use crate::tensor::stored::{self, Draft, Stored, StoredFile};
use crate::tensor::{Checkpoint, DType, checkpoint};

/// What rounding to the stored type took from the merged weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MergeError {
    /// Number of merged weights (matrices).
    pub merged: usize,
    /// Largest |stored - (W + s B A)| over all merged elements, the sum in f64.
    pub largest: f64,
    /// Root mean square of that difference, relative to the root mean square of s B A: the share of the
    /// training that rounding lost.
    pub relative_to_update: f64,
    #[serde(skip)]
    squares: [f64; 2],
}

impl MergeError {
    fn add(&mut self, base: &[f32], update: &[f32], stored: &[f32]) {
        self.merged += 1;
        for ((base, update), stored) in base.iter().zip(update).zip(stored) {
            let gap = (f64::from(*stored) - (f64::from(*base) + f64::from(*update))).abs();
            self.largest = self.largest.max(gap);
            self.squares[0] += gap * gap;
            self.squares[1] += f64::from(*update).powi(2);
        }
        let [error, update] = self.squares;
        self.relative_to_update = if update > 0.0 { (error / update).sqrt() } else { 0.0 };
    }
}

/// Writes the directory `out` (which must not exist): `base`'s files with the adapter merged in.
///
/// Shards, stored types and all other files stay as they are.
pub fn merge(device: &Device, base: &Checkpoint, lora: &Lora, out: &Path) -> Result<MergeError> {
    if out.exists() {
        return Err(Error::input("it exists already").file(out).hint("name a new directory"));
    }
    let error = RefCell::new(MergeError::default());
    files::write_folder_atomic(out, |folder| {
        for file in base.files() {
            let name = file.path().file_name().expect("an opened file has a name");
            stored::write(&folder.join(name), drafts(device, file, lora, &error)?)?;
        }
        checkpoint::copy_others(base.folder(), folder, &[])
    })?;
    let error = error.into_inner();
    if error.merged != lora.modules().len() {
        return Err(Error::input(format!(
            "found {} of the adapter's {} linears in the model",
            error.merged,
            lora.modules().len()
        ))
        .file(base.folder()));
    }
    Ok(error)
}

fn drafts<'a>(
    device: &'a Device,
    file: &'a StoredFile,
    lora: &'a Lora,
    error: &'a RefCell<MergeError>,
) -> Result<Vec<(String, Draft<'a>)>> {
    let draft = |(name, stored): (&'a String, &'a Stored)| {
        let module = lora.modules().iter().find(|m| format!("{}.weight", m.linear) == *name);
        let dtype = stored.weight_dtype();
        let bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a> = match (module, dtype) {
            (None, _) => Box::new(move || Cow::Borrowed(file.bytes(stored))),
            (Some(module), Some(dtype)) => {
                Box::new(move || Cow::Owned(merged(device, file.bytes(stored), dtype, lora, module, error)))
            }
            (Some(_), None) => {
                return Err(Error::input(format!("found type {:?}, needed F32, F16 or BF16", stored.dtype))
                    .file(file.path())
                    .key(name));
            }
        };
        Ok((
            name.clone(),
            Draft { dtype: stored.dtype, shape: stored.shape.clone(), len: stored.bytes.len(), bytes },
        ))
    };
    file.tensors().iter().map(draft).collect()
}

/// The merged weight's bytes, and its error added to `error`.
fn merged(
    device: &Device,
    base: &[u8],
    dtype: DType,
    lora: &Lora,
    module: &Module,
    error: &RefCell<MergeError>,
) -> Vec<u8> {
    let (inputs, outputs) = (module.linear.inputs, module.linear.outputs);
    let update = ops::lora::update(device, lora.factors(module), outputs, inputs);
    let base = stored::widen(base, dtype);
    let sum: Vec<f32> = base.iter().zip(update.values()).map(|(w, u)| w + u).collect();
    let bytes = stored::narrow(&sum, dtype);
    error.borrow_mut().add(&base, update.values(), &stored::widen(&bytes, dtype));
    bytes
}
