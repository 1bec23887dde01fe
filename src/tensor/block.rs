//! Quantised blocks, as ggml lays them out: a few scales, then small integers that are counted in them.
//!
//! ```text
//! elements  bytes                                                       value
//! q4_0  32  d, 4 bits each                                              d (q - 8)
//! q4_1  32  d, m, 4 bits each                                           d q + m
//! q5_0  32  d, a fifth bit each, 4 bits each                            d (q - 16)
//! q5_1  32  d, m, a fifth bit each, 4 bits each                         d q + m
//! q8_0  32  d, 8 bits each                                              d q
//! q4_k 256  d, e, (s, t) of 6 bits for each 32, 4 bits each             (d s) q - (e t)
//! q5_k 256  d, e, (s, t) of 6 bits for each 32, a fifth bit, 4 bits     (d s) q - (e t)
//! q6_k 256  4 bits each, 2 bits each, s of 8 bits for each 16, d        (d s) (q - 32)
//! ```
//!
//! d, m and e are f16, all else are integers. Products of an f16 with the integers before the last
//! operation fit f32's 24 bits, so a value is rounded once at most and is the same wherever it is computed.
//! Source: ggml's block structures (`ggml-common.h`), as the GGUF specification names them.

use half::f16;

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// 4 bits, a scale.
    Q4_0,
    /// 4 bits, a scale and an offset.
    Q4_1,
    /// 5 bits, a scale.
    Q5_0,
    /// 5 bits, a scale and an offset.
    Q5_1,
    /// 8 bits, a scale.
    Q8_0,
    /// 4 bits, 8 scales and offsets that are quantised themselves.
    Q4K,
    /// 5 bits, 8 scales and offsets that are quantised themselves.
    Q5K,
    /// 6 bits, 16 scales that are quantised themselves.
    Q6K,
}

impl Block {
    /// All kinds.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// Its name: ggml's, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Elements of a block.
    pub fn elements(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The values of whole blocks.
    pub fn widen(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / self.bytes() * self.elements()];
        for (block, y) in bytes.chunks_exact(self.bytes()).zip(values.chunks_exact_mut(self.elements())) {
            match self {
                Self::Q4_0 => four_bits(&block[2..], y, scaled(half(block, 0), -8)),
                Self::Q4_1 => four_bits(&block[4..], y, shifted(half(block, 0), half(block, 2))),
                Self::Q5_0 => five_bits(&block[2..], y, scaled(half(block, 0), -16)),
                Self::Q5_1 => five_bits(&block[4..], y, shifted(half(block, 0), half(block, 2))),
                Self::Q8_0 => eight_bits(block, y),
                Self::Q4K => q4_k(block, y),
                Self::Q5K => q5_k(block, y),
                Self::Q6K => q6_k(block, y),
            }
        }
        values
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// q to d (q + zero).
fn scaled(d: f32, zero: i32) -> impl Fn(u8) -> f32 {
    move |q| d * (i32::from(q) + zero) as f32
}

/// q to d q + m.
fn shifted(d: f32, m: f32) -> impl Fn(u8) -> f32 {
    move |q| d * f32::from(q) + m
}

/// The first half of the elements stand in the low bits, the second half in the high bits.
fn four_bits(quants: &[u8], y: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = y.split_at_mut(16);
    for ((q, low), high) in quants.iter().zip(low).zip(high) {
        (*low, *high) = (value(q & 15), value(q >> 4));
    }
}

/// As [`four_bits`], with bit i of the first four bytes as the fifth bit of element i.
fn five_bits(bytes: &[u8], y: &mut [f32], value: impl Fn(u8) -> f32) {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let bit = |i: usize| ((fifth >> i & 1) << 4) as u8;
    let (low, high) = y.split_at_mut(16);
    for (i, ((q, low), high)) in bytes[4..].iter().zip(low).zip(high).enumerate() {
        (*low, *high) = (value(q & 15 | bit(i)), value(q >> 4 | bit(i + 16)));
    }
}

fn eight_bits(block: &[u8], y: &mut [f32]) {
    let d = half(block, 0);
    for (q, y) in block[2..].iter().zip(y) {
        *y = d * f32::from(q.cast_signed());
    }
}

/// The factor and the offset of the `j`-th 32 elements: 6 bits each, 16 numbers in 12 bytes.
///
/// Bytes 0 to 3 and 4 to 7 hold the factors and offsets 0 to 3 in their low six bits; bytes 8 to 11 hold
/// the low four bits of factors and offsets 4 to 7, whose high two bits are left over in the bytes before.
fn factors(packed: &[u8], j: usize) -> (f32, f32) {
    let (factor, offset) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(factor), f32::from(offset))
}

fn q4_k(block: &[u8], y: &mut [f32]) {
    let (d, e, packed) = (half(block, 0), half(block, 2), &block[4..16]);
    for (pair, (quants, y)) in block[16..].chunks_exact(32).zip(y.chunks_exact_mut(64)).enumerate() {
        for (high, y) in y.chunks_exact_mut(32).enumerate() {
            let (factor, offset) = factors(packed, 2 * pair + high);
            let (d, m) = (d * factor, e * offset);
            for (q, y) in quants.iter().zip(y) {
                *y = d * f32::from(q >> (4 * high) & 15) - m;
            }
        }
    }
}

fn q5_k(block: &[u8], y: &mut [f32]) {
    let (d, e, packed, fifth) = (half(block, 0), half(block, 2), &block[4..16], &block[16..48]);
    for (pair, (quants, y)) in block[48..].chunks_exact(32).zip(y.chunks_exact_mut(64)).enumerate() {
        for (high, y) in y.chunks_exact_mut(32).enumerate() {
            let part = 2 * pair + high;
            let (factor, offset) = factors(packed, part);
            let (d, m) = (d * factor, e * offset);
            for ((q, fifth), y) in quants.iter().zip(fifth).zip(y) {
                let q = q >> (4 * high) & 15 | (fifth >> part & 1) << 4;
                *y = d * f32::from(q) - m;
            }
        }
    }
}

fn q6_k(block: &[u8], y: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, y) in y.iter_mut().enumerate() {
        // Of each half of the block, quarters 0 and 2 share their bytes' low and high four bits, so do 1
        // and 3; a byte of `high` has two bits of each quarter.
        let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        let four = low[64 * part + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
        let two = high[32 * part + l] >> (2 * quarter) & 3;
        let q = i32::from(four | two << 4) - 32;
        *y = d * f32::from(scales[i / 16].cast_signed()) * q as f32;
    }
}
