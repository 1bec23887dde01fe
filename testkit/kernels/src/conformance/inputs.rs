//! Random bits with special values among them.

use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::cuda::signature::Type;

/// Values whose treatment differs between instructions: zeros, ones, subnormal, largest, infinite, NaN.
const F32: &[u32] = &[
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f80_0001,
    0x3f00_0000,
    0x4effffff,
    0xcf00_0000,
];
const U32: &[u32] =
    &[0, 1, u32::MAX, 0x8000_0000, 0x7fff_ffff, 31, 32, 0x7fff_7fff, 0x7c00_fc00, 0x7f80_ff80];

/// `count` values of a type as little-endian bytes; each eighth is special, and so is its partner in other
/// inputs now and then, since the places differ by `input`.
pub(super) fn random(ty: Type, count: usize, entry: &str, input: usize) -> Vec<u8> {
    let philox = Philox::new(
        entry.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte)),
        Purpose::Order,
    );
    let mut bytes = Vec::new();
    for index in 0..count {
        let [a, b, c, d] = philox.block([index as u32, input as u32, 0, 0]);
        let special = d % 8 == 0;
        match ty {
            Type::F64 if special => {
                let value = f64::from(f32::from_bits(F32[c as usize % F32.len()]));
                bytes.extend(value.to_le_bytes());
            }
            Type::I64 | Type::U64 if special => {
                bytes.extend((u64::from(U32[c as usize % U32.len()]) << (d >> 8 & 32)).to_le_bytes());
            }
            Type::F64 | Type::I64 | Type::U64 => {
                bytes.extend((u64::from(a) << 32 | u64::from(b)).to_le_bytes());
            }
            Type::F32 if special => bytes.extend(F32[c as usize % F32.len()].to_le_bytes()),
            // half of the floats have moderate exponents, so that sums and conversions do something
            Type::F32 if d % 2 == 0 => bytes.extend((((a >> 5) as f32 - 67e6) * 1e-5).to_le_bytes()),
            _ if special => bytes.extend(U32[c as usize % U32.len()].to_le_bytes()),
            _ => bytes.extend(a.to_le_bytes()),
        }
    }
    bytes
}
