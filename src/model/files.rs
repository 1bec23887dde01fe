//! Where a model's weights are: the safetensors files of a Hugging Face directory, or a GGUF file.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::{Spec, gguf};
use crate::base::{Error, Result};
use crate::tensor::{Checkpoint, DType, Gguf};

/// The opened files of a model.
#[derive(Clone, Debug)]
pub enum Files {
    /// Safetensors files.
    Directory(Checkpoint),
    /// A GGUF file.
    Gguf(Gguf),
}

/// A tensor where it is stored.
pub(super) struct Found<'a> {
    pub(super) path: &'a Path,
    pub(super) map: &'a Arc<Mmap>,
    /// Its name in the file.
    pub(super) name: String,
    pub(super) shape: &'a [usize],
    pub(super) bytes: Range<usize>,
    pub(super) dtype: DType,
}

/// A tensor as a file describes it.
#[derive(Clone, Debug)]
pub struct Described<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its type, as the file's format names it.
    pub dtype: String,
    /// Shape, outermost first.
    pub shape: &'a [usize],
}

impl Files {
    /// Opens and checks the Hugging Face directory or the `.gguf` file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        if Gguf::is_named_by(path) {
            return Gguf::open(path).map(Self::Gguf);
        }
        Checkpoint::open(path).map(Self::Directory)
    }

    /// The directory or the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(checkpoint) => checkpoint.folder(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The specification that goes with the weights.
    pub fn spec(&self) -> Result<Spec> {
        match self {
            Self::Directory(checkpoint) => Spec::read(checkpoint.folder()),
            Self::Gguf(file) => gguf::spec(file),
        }
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> Vec<Described<'_>> {
        match self {
            Self::Directory(checkpoint) => checkpoint
                .names()
                .filter_map(|name| checkpoint.find(name).map(|(_, stored)| (name, stored)))
                .map(|(name, s)| Described { name, dtype: format!("{:?}", s.dtype), shape: &s.shape })
                .collect(),
            Self::Gguf(file) => file
                .tensors()
                .iter()
                .map(|(name, t)| Described {
                    name,
                    dtype: t.dtype.to_string().to_uppercase(),
                    shape: &t.shape,
                })
                .collect(),
        }
    }

    /// The tensor that a Hugging Face checkpoint calls `name`.
    pub(super) fn find(&self, name: &str, spec: &Spec) -> Result<Found<'_>> {
        match self {
            Self::Directory(checkpoint) => {
                let (file, stored) = checkpoint.find(name).ok_or_else(|| {
                    Error::input("the model needs this weight, but no file of the directory has it")
                        .file(checkpoint.folder())
                        .key(name)
                })?;
                let dtype = stored.weight_dtype().ok_or_else(|| {
                    Error::input(format!("found type {:?}, needed F32, F16 or BF16", stored.dtype))
                        .file(file.path())
                        .key(name)
                })?;
                let (path, map, bytes) = (file.path(), file.map(), stored.bytes.clone());
                Ok(Found { path, map, name: name.to_owned(), shape: &stored.shape, bytes, dtype })
            }
            Self::Gguf(file) => {
                let name = gguf::tensor_name(name, spec.output_norms);
                let tensor = file.tensors().get(&name).ok_or_else(|| {
                    Error::input("the model needs this weight, but the file does not have it")
                        .file(file.path())
                        .key(&name)
                })?;
                let (path, map, bytes) = (file.path(), file.map(), tensor.bytes.clone());
                Ok(Found { path, map, name, shape: &tensor.shape, bytes, dtype: tensor.dtype })
            }
        }
    }

    /// What says which shapes are needed, for errors.
    pub(super) fn authority(&self) -> &'static str {
        match self {
            Self::Directory(_) => "config.json",
            Self::Gguf(_) => "the metadata",
        }
    }

    /// Whether the rows of queries and keys stand as rotary pairs.
    pub(super) fn has_paired_rows(&self) -> bool {
        matches!(self, Self::Gguf(file) if gguf::has_paired_rows(file))
    }
}
