//! Safetensors files, mapped: names, shapes and byte ranges, all checked before anything is read.
//!
//! The format's own crate checks the header (size, JSON, offsets without overlap or gap, lengths against
//! shapes, the end against the file's length); here its verdicts get a file name and words.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, View};

use super::{DType, mapped};
use crate::base::{Error, Result};

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The element type as the file names it.
    pub dtype: Dtype,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
}

impl Stored {
    /// The element type, if weights may be stored in it.
    pub fn weight_dtype(&self) -> Option<DType> {
        match self.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A mapped safetensors file.
#[derive(Clone, Debug)]
pub struct StoredFile {
    path: PathBuf,
    map: Arc<Mmap>,
    tensors: BTreeMap<String, Stored>,
}

impl StoredFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let map = mapped::map(path)?;
        let tensors = parse(&map)
            .map_err(|e| e.file(path).hint("the file is incomplete or damaged: copy or download it again"))?;
        Ok(Self { path: path.to_path_buf(), map, tensors })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mapping.
    pub fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| {
            Error::input(format!("the file has {} tensors, but none of this name", self.tensors.len()))
                .file(&self.path)
                .key(name)
        })
    }

    /// A tensor's bytes.
    pub fn bytes(&self, stored: &Stored) -> &[u8] {
        &self.map[stored.bytes.clone()]
    }

    /// The values of the tensor called `name`, widened to f32.
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.get(name)?;
        let bytes = self.bytes(stored);
        let dtype = stored.weight_dtype().ok_or_else(|| {
            Error::input(format!("found type {:?}, needed F32, F16 or BF16", stored.dtype))
                .file(&self.path)
                .key(name)
        })?;
        Ok(widen(bytes, dtype))
    }
}

/// Little-endian elements of `dtype`, aligned or not, as f32.
pub fn widen(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::Block(block) => block.widen(bytes),
        DType::F32 => bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect(),
        DType::BF16 => {
            bytes.chunks_exact(2).map(|b| bytemuck::pod_read_unaligned::<bf16>(b).to_f32()).collect()
        }
        DType::F16 => {
            bytes.chunks_exact(2).map(|b| bytemuck::pod_read_unaligned::<f16>(b).to_f32()).collect()
        }
    }
}

/// `values` rounded to `dtype` (nearest, ties to even), as little-endian bytes.
///
/// # Panics
///
/// Panics for blocks: safetensors files have none, and GGUF files are only read.
pub fn narrow(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Block(block) => panic!("found {}, needed a floating point type", block.name()),
        DType::F32 => bytemuck::cast_slice(values).to_vec(),
        DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
    }
}

/// The tensors that the bytes of a safetensors file declare, with their byte ranges in the file.
pub fn parse(file: &[u8]) -> Result<BTreeMap<String, Stored>> {
    let (header, metadata): (usize, Metadata) =
        SafeTensors::read_metadata(file).map_err(|e| Error::input(explain(&e, file)))?;
    let data = 8 + header;
    let stored = |info: &safetensors::tensor::TensorInfo| Stored {
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: data + info.data_offsets.0..data + info.data_offsets.1,
    };
    Ok(metadata.tensors().into_iter().map(|(name, info)| (name, stored(info))).collect())
}

fn explain(e: &SafeTensorError, file: &[u8]) -> String {
    let declared = file.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let reason = match e {
        SafeTensorError::HeaderTooSmall => format!("found {} bytes, needed at least 8", file.len()),
        SafeTensorError::HeaderTooLarge => {
            format!("it declares a header of {declared} bytes, above the format's limit")
        }
        SafeTensorError::InvalidHeaderLength => {
            format!("it declares a header of {declared} bytes, but only {} follow", file.len() - 8)
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!(
                "its tensors do not end at the end of the file ({} bytes); it is cut short or has a tail",
                file.len()
            )
        }
        SafeTensorError::InvalidOffset(name) => format!("tensor `{name}` overlaps another or leaves a gap"),
        SafeTensorError::TensorInvalidInfo => "a tensor's bytes do not fit its shape and type".into(),
        other => other.to_string(),
    };
    format!("not a safetensors file: {reason}")
}

/// A tensor to be written; its bytes are made when their turn comes.
pub struct Draft<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Length of the bytes.
    pub len: usize,
    /// Makes the bytes.
    pub bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a>,
}

impl<'a> Draft<'a> {
    /// f32 values.
    pub fn f32s(values: &'a [f32], shape: &[usize]) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            len: bytes.len(),
            bytes: Box::new(move || Cow::Borrowed(bytes)),
        }
    }

    /// Values that are made when their turn comes, rounded to `dtype`.
    pub fn rounded(dtype: DType, shape: &[usize], values: impl Fn() -> Cow<'a, [f32]> + 'a) -> Self {
        Self {
            dtype: dtype.stored().expect("values are rounded to a type that safetensors files hold"),
            shape: shape.to_vec(),
            len: dtype.bytes(shape.iter().product()),
            bytes: Box::new(move || Cow::Owned(narrow(&values(), dtype))),
        }
    }
}

impl View for Draft<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.bytes)()
    }

    fn data_len(&self) -> usize {
        self.len
    }
}

/// Writes a safetensors file, one tensor at a time.
pub fn write<'a>(path: &Path, tensors: impl IntoIterator<Item = (String, Draft<'a>)>) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("write", path, &e);
    // The crate puts a file in place that only its owner may read; the user's umask has the last word.
    let permissions = File::create(path).and_then(|file| file.metadata()).map_err(fail)?.permissions();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| match e {
        SafeTensorError::IoError(e) => fail(e),
        other => Error::input(format!("cannot write it: {other}")).file(path),
    })?;
    fs::set_permissions(path, permissions).map_err(fail)
}
