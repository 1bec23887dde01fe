//! `cvt` of two values at once (f16x2, bf16x2, e4m3x2, e5m2x2), and to tf32.

use super::Class;
use super::convert::{Format, round16};
use super::decode::{Decoded, Mnemonic, Operands};
use super::float::NAN;
use super::half::{Bf16, F16, Float16};
use super::rounding::Rounding;
use super::types::Type;
use super::values::{Value, binary, unary};

type Result = std::result::Result<Decoded, String>;

const CLASS: Class = Class::Convert;

/// Whether a conversion is one of this file's.
pub(super) fn takes(to: Type, from: Type) -> bool {
    let packed = [Type::F16x2, Type::Bf16x2, Type::E4m3x2, Type::E5m2x2];
    packed.contains(&to) || packed.contains(&from) || to == Type::Tf32
}

/// Decodes a conversion of this file.
pub(super) fn cvt(m: &Mnemonic<'_>, o: &mut Operands<'_>, to: Type, from: Type) -> Result {
    match (to, from) {
        (Type::Tf32, Type::F32) => tf32(m, o),
        (Type::F16x2, Type::F32) => pair::<F16>(m, o),
        (Type::Bf16x2, Type::F32) => pair::<Bf16>(m, o),
        (Type::E4m3x2 | Type::E5m2x2, Type::F32) => {
            let (format, relu) = (Small::of(to), small_modifiers(m)?);
            binary(CLASS, o, move |high: f32, low: f32| {
                u16::from_le_bytes([format.encode(low, relu), format.encode(high, relu)])
            })
        }
        (Type::E4m3x2 | Type::E5m2x2, Type::F16x2) => {
            let (format, relu) = (Small::of(to), small_modifiers(m)?);
            unary(CLASS, o, move |pair: [F16; 2]| {
                u16::from_le_bytes(pair.map(|value| format.encode(value.to_f32(), relu)))
            })
        }
        (Type::F16x2, Type::E4m3x2 | Type::E5m2x2) => {
            m.allow(&["rn", "relu"])?;
            let (format, relu) = (Small::of(from), m.has("relu"));
            unary(CLASS, o, move |pair: u16| {
                pair.to_le_bytes().map(|bits| F16::from_f32(relu_of(format.decode(bits), relu)))
            })
        }
        _ => Err(format!("types {to:?} and {from:?}")),
    }
}

fn relu_of(value: f32, relu: bool) -> f32 {
    if relu && value <= 0.0 { 0.0 } else { value }
}

/// Two f32 into one register: the first source becomes the upper half.
fn pair<H: Format>(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result
where
    [H; 2]: Value<Bank = u32>,
{
    m.allow(&["rn", "rz", "relu", "satfinite"])?;
    let mode = Rounding::of(m.one_of(&["rn", "rz"])?);
    let (relu, finite) = (m.has("relu"), m.has("satfinite"));
    if mode == Rounding::Nearest && !relu && !finite {
        return binary(CLASS, o, |high: f32, low: f32| [H::from_f32(low), H::from_f32(high)]);
    }
    binary(CLASS, o, move |high: f32, low: f32| {
        [low, high].map(|value| {
            let value = f64::from(relu_of(value, relu));
            let bounded = if finite { value.clamp(-H::GREATEST, H::GREATEST) } else { value };
            round16::<H>(bounded, mode)
        })
    })
}

/// The upper 19 bits of an f32. `.rna` is made of integer instructions on every architecture: a NaN is cut like the
/// rest, and those whose upper bits are zero become infinite. The others are one instruction, which knows NaN.
fn tf32(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["rna", "rn", "rz", "relu", "satfinite"])?;
    let mode = m.one_of(&["rna", "rn", "rz"])?;
    let (relu, finite) = (m.has("relu"), m.has("satfinite"));
    unary(CLASS, o, move |value: f32| {
        let value = relu_of(value, relu);
        if value.is_nan() && mode != 0 {
            return f32::from_bits(NAN);
        }
        let bits = value.to_bits();
        let rounded = match mode {
            _ if !value.is_finite() => bits,
            0 => bits + 0x1000,
            1 => bits + 0xFFF + (bits >> 13 & 1),
            _ => bits,
        } & !0x1FFF;
        let rounded = f32::from_bits(rounded);
        let greatest = f32::from_bits(0x7F7F_E000);
        if finite { rounded.clamp(-greatest, greatest) } else { rounded }
    })
}

fn small_modifiers(m: &Mnemonic<'_>) -> std::result::Result<bool, String> {
    m.allow(&["rn", "satfinite", "relu"])?;
    m.one_of(&["rn"])?;
    m.one_of(&["satfinite"])?;
    Ok(m.has("relu"))
}

/// An 8-bit format.
#[derive(Clone, Copy, Debug)]
struct Small {
    /// Bits behind the exponent.
    mantissa: u32,
    bias: i32,
    greatest: f64,
    /// The NaN that conversions give, without a sign.
    nan: u8,
}

impl Small {
    fn of(ty: Type) -> Self {
        if ty == Type::E4m3x2 {
            Self { mantissa: 3, bias: 7, greatest: 448.0, nan: 0x7F }
        } else {
            Self { mantissa: 2, bias: 15, greatest: 57344.0, nan: 0x7F }
        }
    }

    fn encode(self, value: f32, relu: bool) -> u8 {
        let value = f64::from(relu_of(value, relu));
        if value.is_nan() {
            return self.nan;
        }
        let sign = if value.is_sign_negative() { 0x80 } else { 0 };
        let precision = self.mantissa.cast_signed() + 1;
        let magnitude = value.abs().min(self.greatest);
        let rounded = Rounding::Nearest.to_format(magnitude, false, precision, 1 - self.bias);
        // counted in subnormal steps, exponent and mantissa are one number
        let least = 1 - self.bias;
        let exponent = ((rounded.to_bits() >> 52) as i32 - 1023).max(least);
        let step = 2.0_f64.powi(exponent - self.mantissa.cast_signed());
        sign | (((exponent - least) << self.mantissa) as u8 + (rounded / step) as u8)
    }

    fn decode(self, bits: u8) -> f32 {
        let magnitude = bits & 0x7F;
        let infinite = self.mantissa == 2 && magnitude == 0x7C;
        let nan = if self.mantissa == 2 { magnitude > 0x7C } else { magnitude == 0x7F };
        if nan {
            return f32::NAN;
        }
        let (exponent, fraction) =
            (i32::from(magnitude >> self.mantissa), magnitude & ((1 << self.mantissa) - 1));
        let whole = if exponent == 0 { 0 } else { 1 << self.mantissa };
        let scale = exponent.max(1) - self.bias - self.mantissa.cast_signed();
        let value = if infinite { f32::INFINITY } else { f32::from(fraction + whole) * 2.0_f32.powi(scale) };
        if bits & 0x80 != 0 { -value } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eight_bit_float_comes_back() {
        for ty in [Type::E4m3x2, Type::E5m2x2] {
            let format = Small::of(ty);
            let mut last = -1.0;
            for bits in 0..0x80_u8 {
                let value = format.decode(bits);
                if value.is_finite() {
                    assert!(value > last, "{ty:?} {bits:02x}");
                    last = value;
                    assert_eq!(format.encode(value, false), bits, "{ty:?} {value}");
                    assert_eq!(format.encode(-value, false), bits | 0x80);
                    assert_eq!(format.decode(bits | 0x80), -value);
                }
            }
            assert_eq!(f64::from(last), format.greatest);
            assert_eq!(format.encode(f32::INFINITY, false), format.encode(last, false));
            assert_eq!((format.encode(f32::NAN, false), format.encode(-1.0, true)), (0x7F, 0));
        }
        // known points of the OCP 8-bit formats
        assert_eq!(Small::of(Type::E4m3x2).decode(0x38), 1.0);
        assert_eq!(Small::of(Type::E5m2x2).decode(0x3C), 1.0);
        assert_eq!(Small::of(Type::E4m3x2).decode(0x01), 2.0_f32.powi(-9));
        assert_eq!(Small::of(Type::E5m2x2).decode(0x7C), f32::INFINITY);
    }

    #[test]
    fn eight_bit_floats_round_to_even() {
        let format = Small::of(Type::E4m3x2);
        assert_eq!(format.encode(1.0625, false), 0x38);
        assert_eq!(format.encode(1.1875, false), 0x3A);
        assert_eq!(format.encode(2.0_f32.powi(-10), false), 0);
    }
}
