//! Inputs of the tests: reproducible numbers of three kinds, weights of three stored types.

use std::io::Write;

use half::{bf16, f16};
use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::{Buffer, Device, Settings, Weight};
use preceptor::tensor::{DType, mapped, stored};

/// What inputs look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Mean 0, variance 1.
    Normal,
    /// A thousand times that.
    Large,
    /// One number throughout.
    Equal,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Normal, Kind::Large, Kind::Equal];

/// Rows and columns for the row-wise ops: one value; one row below, at and above the 28 rows of 576 that a
/// task takes (16 Ki values); primes; few wide rows.
pub(crate) const ROW_SHAPES: [(usize, usize); 6] =
    [(1, 1), (27, 576), (28, 576), (29, 576), (101, 13), (3, 20_011)];

/// `len` numbers; another `stream`, other numbers.
pub(crate) fn values(kind: Kind, stream: u32, len: usize) -> Vec<f32> {
    let mut numbers = Philox::new(7, Purpose::Sampling).stream([stream, 0, 0]);
    let mut normal = move || {
        let sum: f32 = (0..4).map(|_| numbers.next_f32()).sum();
        (sum - 2.0) * 3.0_f32.sqrt() // the variance of one is 1/12
    };
    let value = |_| match kind {
        Kind::Normal => normal(),
        Kind::Large => 1000.0 * normal(),
        Kind::Equal => 0.7,
    };
    (0..len).map(value).collect()
}

pub(crate) fn device() -> Device {
    Device::open(&Settings { threads: 2, ..Settings::default() }).expect("a CPU is always there")
}

pub(crate) fn buffer(device: &Device, values: &[f32], cols: usize) -> Buffer {
    device.upload(values, values.len() / cols, cols)
}

/// A weight of a mapped file, `shift` bytes after a page's start, and its values as they were stored.
pub(crate) fn stored_weight(values: &[f32], cols: usize, dtype: DType, shift: usize) -> (Weight, Vec<f32>) {
    let kept = values.iter().map(|&v| match dtype {
        DType::F32 => v,
        DType::BF16 => bf16::from_f32(v).to_f32(),
        DType::F16 => f16::from_f32(v).to_f32(),
        DType::Block(block) => panic!("{} blocks are made by tests/golden/make_gguf.py", block.name()),
    });
    let kept: Vec<f32> = kept.collect();
    let mut bytes = vec![0xAA; shift];
    bytes.extend(stored::narrow(&kept, dtype));
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&bytes).expect("room for it");
    let map = mapped::map(file.path()).expect("it was just written");
    (Weight::mapped(&map, shift..bytes.len(), dtype, values.len() / cols, cols), kept)
}
