//! GGUF files, version 2 and 3, mapped: metadata, names, types, shapes and byte ranges, all checked before
//! anything is read.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  entries u64
//! entries:  key  type u32  value                            text = length u64, bytes; list = type, length, elements
//! tensors:  name  dimensions u32  size u64 each, innermost first  type u32  offset u64
//! data:     from the next multiple of general.alignment (32), offsets counted from here
//! ```
//!
//! Source: the GGUF specification (ggml, `docs/gguf.md`). All numbers are little-endian.

mod cursor;
mod metadata;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::block::Block;
use super::{DType, mapped};
use crate::base::{Error, Result};
use cursor::Cursor;
pub use metadata::Metadata;

const ALIGNMENT: &str = "general.alignment";

/// Types that weights are read in, by their number.
const TYPES: [(u32, DType); 11] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Block(Block::Q4_0)),
    (3, DType::Block(Block::Q4_1)),
    (6, DType::Block(Block::Q5_0)),
    (7, DType::Block(Block::Q5_1)),
    (8, DType::Block(Block::Q8_0)),
    (12, DType::Block(Block::Q4K)),
    (13, DType::Block(Block::Q5K)),
    (14, DType::Block(Block::Q6K)),
    (30, DType::BF16),
];

/// The names of other types that files have.
const OTHER_TYPES: [(u32, &str); 17] = [
    (10, "Q2_K"),
    (11, "Q3_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (26, "I32"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its type.
    pub dtype: DType,
    /// Shape, outermost first; the innermost size is a multiple of the type's group.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
}

/// What the bytes of a GGUF file declare.
#[derive(Clone, Debug)]
pub struct Contents {
    metadata: metadata::Index,
    /// All tensors by name; each lies inside the file, and no two overlap.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Contents {
    /// The metadata, whose values stand in `file`: the bytes that were parsed.
    pub fn metadata<'a>(&'a self, file: &'a [u8]) -> Metadata<'a> {
        self.metadata.of(file)
    }
}

/// A mapped GGUF file.
#[derive(Clone, Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Arc<Mmap>,
    contents: Contents,
}

impl Gguf {
    /// Whether `path` names a GGUF file: by its ending, unless it is a directory.
    pub fn is_named_by(path: &Path) -> bool {
        path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) && !path.is_dir()
    }

    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let map = mapped::map(path)?;
        let contents = parse(&map).map_err(|e| e.file(path))?;
        let file = Self { path: path.to_path_buf(), map, contents };
        match file.metadata().unsigned("split.count").map_err(|e| e.file(path))? {
            Some(count) if count > 1 => Err(Error::input(format!("the file is one of {count} parts"))
                .file(path)
                .key("split.count")
                .hint("join the parts first: `llama-gguf-split --merge FIRST_PART OUT.gguf`")),
            _ => Ok(file),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mapping.
    pub fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// The metadata.
    pub fn metadata(&self) -> Metadata<'_> {
        self.contents.metadata(&self.map)
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.contents.tensors
    }

    /// A tensor's values, widened to f32.
    pub fn f32s(&self, tensor: &Tensor) -> Vec<f32> {
        super::stored::widen(&self.map[tensor.bytes.clone()], tensor.dtype)
    }
}

/// Reads and checks the header of a file's bytes.
pub fn parse(file: &[u8]) -> Result<Contents> {
    if !file.starts_with(b"GGUF") {
        return Err(Error::input("not a GGUF file: it does not begin with \"GGUF\""));
    }
    let mut cursor = Cursor::new(file);
    cursor.skip(4, "the magic")?;
    match cursor.u32("the version")? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 2 | 3) => {
            return Err(Error::input("found a big-endian GGUF file, needed a little-endian one"));
        }
        version => return Err(Error::input(format!("found GGUF version {version}, needed 2 or 3"))),
    }
    let tensor_count = cursor.u64("the tensor count")?;
    let entries = cursor.u64("the metadata count")?;
    let metadata = metadata::Index::read(&mut cursor, entries)?;
    let alignment = alignment(&metadata.of(file))?;
    // A name's length, the dimensions' count, one of them, a type and an offset.
    cursor.room(tensor_count, 8 + 4 + 8 + 4 + 8, "tensors")?;
    let mut declared = Vec::new();
    for _ in 0..tensor_count {
        let name = cursor.name("a tensor's name")?;
        declared.push((name, Declared::read(&mut cursor, alignment).map_err(|e| e.key(name))?));
    }
    let start = cursor.position().next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, declared) in declared {
        let tensor = declared.placed(start, file.len()).map_err(|e| e.key(name))?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(Error::input("the file has a tensor of this name twice").key(name));
        }
    }
    refuse_overlaps(&tensors)?;
    Ok(Contents { metadata, tensors })
}

fn alignment(metadata: &Metadata<'_>) -> Result<usize> {
    match metadata.unsigned(ALIGNMENT)? {
        None => Ok(32),
        Some(n) if n.is_power_of_two() && (8..=1 << 16).contains(&n) => Ok(n as usize),
        Some(n) => {
            Err(Error::input(format!("found {n}, needed a power of two from 8 to 65536")).key(ALIGNMENT))
        }
    }
}

/// A tensor as the header says it is, its type and shape checked.
struct Declared {
    dtype: DType,
    shape: Vec<usize>,
    len: usize,
    offset: u64,
}

impl Declared {
    fn read(cursor: &mut Cursor<'_>, alignment: usize) -> Result<Self> {
        let dimensions = cursor.u32("a tensor's dimension count")?;
        if !(1..=4).contains(&dimensions) {
            return Err(Error::input(format!("found {dimensions} dimensions, needed 1 to 4")));
        }
        let mut sizes = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            sizes.push(cursor.u64("a tensor's size")?);
        }
        let dtype = dtype(cursor.u32("a tensor's type")?)?;
        let offset = cursor.u64("a tensor's offset")?;
        if sizes.contains(&0) {
            return Err(Error::input(format!("found the shape {sizes:?}, needed sizes above 0")));
        }
        if sizes[0] % dtype.group() as u64 != 0 {
            return Err(Error::input(format!(
                "found rows of {} elements, needed a multiple of {} for {dtype}",
                sizes[0],
                dtype.group()
            )));
        }
        // Below 2^48 elements all byte counts fit 64 bits; no file has as many.
        let elements = sizes.iter().try_fold(1_u64, |n, &size| n.checked_mul(size).filter(|&n| n < 1 << 48));
        let elements = elements
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Error::input(format!("found the shape {sizes:?}, which no file has room for")))?;
        if offset % alignment as u64 != 0 {
            return Err(Error::input(format!(
                "found the offset {offset}, needed a multiple of {alignment}, the file's alignment"
            )));
        }
        let shape = sizes.iter().rev().map(|&size| size as usize).collect();
        Ok(Self { dtype, shape, len: dtype.bytes(elements), offset })
    }

    /// The tensor in a file of `end` bytes whose data begins at `start`.
    fn placed(self, start: usize, end: usize) -> Result<Tensor> {
        let Self { dtype, shape, len, offset } = self;
        let from = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(start));
        let bytes = from.and_then(|from| Some(from..from.checked_add(len)?)).filter(|b| b.end <= end);
        let bytes = bytes.ok_or_else(|| {
            Error::input(format!(
                "its {len} bytes at offset {offset} of the data reach past the end of the file ({end} bytes): \
                 the file is cut short or damaged"
            ))
        })?;
        Ok(Tensor { dtype, shape, bytes })
    }
}

fn dtype(number: u32) -> Result<DType> {
    let found = TYPES.iter().find(|(known, _)| *known == number);
    found.map(|(_, dtype)| *dtype).ok_or_else(|| {
        let named = OTHER_TYPES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        let found = named.map_or_else(|| number.to_string(), str::to_owned);
        let known = TYPES.map(|(_, dtype)| dtype.to_string().to_uppercase());
        Error::input(format!("found the type {found}, needed one of {}", known.join(", ")))
            .hint("quantise the model to one of these types, such as Q8_0 or Q4_K_M")
    })
}

fn refuse_overlaps(tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut by_place: Vec<(&String, &Tensor)> = tensors.iter().collect();
    by_place.sort_by_key(|(_, tensor)| tensor.bytes.start);
    match by_place.windows(2).find(|pair| pair[1].1.bytes.start < pair[0].1.bytes.end) {
        None => Ok(()),
        Some(pair) => Err(Error::input(format!("it overlaps the tensor `{}`", pair[0].0)).key(pair[1].0)),
    }
}
