//! The two 16-bit floating point formats: conversion, and arithmetic with one rounding at the end.
//!
//! Sums and products of 8 or 11 significant bits are rounded correctly when f32 rounds them first, because
//! 24 >= 2 * 11 + 2 (Figueroa 1995). A fused multiply-add is not: it goes through round-to-odd.

use super::decode::Operands;
use super::rounding::{add_to_odd, narrow_to_odd};
use super::values::Value;
use crate::machine::registers::Reg32;

/// A 16-bit float of some format.
pub trait Float16: Copy + Send + Sync + 'static {
    /// The bits of the NaN that arithmetic gives.
    const NAN: u16 = 0x7FFF;

    /// From bits.
    fn from_bits(bits: u16) -> Self;

    /// To bits.
    fn to_bits(self) -> u16;

    /// Exact.
    fn to_f32(self) -> f32;

    /// Rounds to nearest even; NaN becomes the canonical one.
    fn from_f32(value: f32) -> Self;

    /// `self * b + c`, rounded once.
    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        let product = f64::from(self.to_f32()) * f64::from(b.to_f32());
        Self::from_f32(narrow_to_odd(add_to_odd(product, f64::from(c.to_f32()))))
    }
}

/// IEEE binary16.
#[derive(Clone, Copy, Debug)]
pub struct F16(pub u16);

/// The upper half of an f32.
#[derive(Clone, Copy, Debug)]
pub struct Bf16(pub u16);

impl Float16 for F16 {
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn to_bits(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        let magnitude = u32::from(self.0 & 0x7FFF) << 13;
        // the exponent's bias is 15 here and 127 there; a product also makes subnormals normal
        let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
        let special = magnitude | 0xFF << 23;
        let bits = if magnitude >= 0x1F << 23 { special } else { scaled.to_bits() };
        f32::from_bits(bits | u32::from(self.0 & 0x8000) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let sign = (bits >> 16 & 0x8000) as u16;
        let magnitude = bits & 0x7FFF_FFFF;
        // below 2^-14 results are multiples of 2^-24: adding 0.5 leaves their number in the low bits
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
        let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xFFF + (magnitude >> 13 & 1)) >> 13;
        let finite = if magnitude < 113 << 23 { subnormal } else { normal };
        let ordered = if magnitude >= 0x477F_F000 { 0x7C00 } else { finite as u16 };
        if magnitude > 0x7F80_0000 { Self(Self::NAN) } else { Self(sign | ordered) }
    }
}

impl Float16 for Bf16 {
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn to_bits(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        Self(if value.is_nan() { Self::NAN } else { rounded as u16 })
    }
}

macro_rules! value16 {
    ($($half:ty)*) => {$(
        impl PartialEq for $half {
            #[inline(always)]
            fn eq(&self, other: &Self) -> bool {
                self.to_f32() == other.to_f32()
            }
        }

        impl PartialOrd for $half {
            #[inline(always)]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                self.to_f32().partial_cmp(&other.to_f32())
            }
        }

        impl Value for $half {
            type Bank = u32;

            #[inline(always)]
            fn load(bits: u32) -> Self {
                Self(bits as u16)
            }

            #[inline(always)]
            fn store(self) -> u32 {
                u32::from(self.0)
            }

            fn source(operands: &mut Operands<'_>, index: usize) -> Result<Reg32, String> {
                operands.source16(index)
            }
        }

        /// A packed pair, lower half first.
        impl Value for [$half; 2] {
            type Bank = u32;

            #[inline(always)]
            fn load(bits: u32) -> Self {
                [<$half>::load(bits), <$half>::load(bits >> 16)]
            }

            #[inline(always)]
            fn store(self) -> u32 {
                self[0].store() | self[1].store() << 16
            }
        }
    )*};
}

value16! { F16 Bf16 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_and_bf16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (f16, bf16) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
            assert!(
                F16(bits).to_f32() == f16.to_f32() || f16.is_nan() && F16(bits).to_f32().is_nan(),
                "{bits:04x}"
            );
            assert!(Bf16(bits).to_f32() == bf16.to_f32() || bf16.is_nan() && Bf16(bits).to_f32().is_nan());
            assert_eq!(F16(bits).to_f32().is_sign_negative(), bits >> 15 == 1, "{bits:04x}");
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        // every f16 boundary: the value, the midpoint above it, and one step to each side of both
        for bits in 0..0x7C00_u16 {
            let (low, high) = (half::f16::from_bits(bits).to_f32(), half::f16::from_bits(bits + 1).to_f32());
            let middle = if bits == 0x7BFF { 65520.0 } else { low + (high - low) / 2.0 };
            for value in [low, middle.next_down(), middle, middle.next_up()] {
                assert_eq!(F16::from_f32(value).0, half::f16::from_f32(value).to_bits(), "{value:e}");
                assert_eq!(F16::from_f32(-value).0, half::f16::from_f32(-value).to_bits(), "{value:e}");
            }
        }
        for bits in (0..=u32::MAX).step_by(4099) {
            let value = f32::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(Bf16::from_f32(value).0, half::bf16::from_f32(value).to_bits(), "{value:e}");
                assert_eq!(F16::from_f32(value).0, half::f16::from_f32(value).to_bits(), "{value:e}");
            }
        }
        assert_eq!((F16::from_f32(f32::NAN).0, Bf16::from_f32(-f32::NAN).0), (0x7FFF, 0x7FFF));
    }

    #[test]
    fn a_fused_multiply_add_rounds_once() {
        // 1 + 2^-8 is halfway between two bf16s; what is added decides, however small it is
        let half_up = Bf16::from_f32(1.0).fused(Bf16::from_f32(1.0), Bf16::from_f32(2.0_f32.powi(-8)));
        assert_eq!(half_up.to_f32(), 1.0);
        let a = Bf16::from_f32(1.0 + 2.0_f32.powi(-4));
        let square = f64::from(a.to_f32()).powi(2); // 1 + 2^-3 + 2^-8
        assert_eq!(a.fused(a, Bf16::from_f32(1e-30)).to_f32(), (square + 2.0_f64.powi(-8)) as f32);
        assert_eq!(a.fused(a, Bf16::from_f32(-1e-30)).to_f32(), (square - 2.0_f64.powi(-8)) as f32);
    }
}
