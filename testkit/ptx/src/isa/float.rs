//! f32 and f64 arithmetic: rounding modes, flushing of subnormals, saturation, NaN rules.

use super::Class;
use super::decode::{Decoded, Mnemonic, Operands};
use super::rounding::{MODES, Rounding};
use super::types::Type;
use super::values::{binary, ternary, unary};

type Result = std::result::Result<Decoded, String>;

/// The NaN that f32 arithmetic gives.
pub const NAN: u32 = 0x7FFF_FFFF;

/// What happens around an f32 operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// How the result is rounded.
    pub rounding: Rounding,
    /// `.ftz`: subnormal inputs and results become zero, with their sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to 0..=1, NaN to 0.
    pub sat: bool,
}

impl Around {
    /// From a mnemonic's modifiers; `more` are the ones that the caller reads itself.
    pub fn parse(m: &Mnemonic<'_>, more: &[&str]) -> std::result::Result<Self, String> {
        let known = [&MODES[..], &["ftz", "sat"], more].concat();
        m.allow(&known)?;
        let rounding = match MODES.iter().any(|mode| m.has(mode)) {
            true => Rounding::of(m.one_of(&MODES)?),
            false => Rounding::Nearest,
        };
        Ok(Self { rounding, ftz: m.has("ftz"), sat: m.has("sat") })
    }

    /// Neither flushes nor saturates, and rounds to nearest.
    pub fn is_plain(self) -> bool {
        self == Self { rounding: Rounding::Nearest, ftz: false, sat: false }
    }

    /// An input.
    #[inline(always)]
    pub fn input(self, value: f32) -> f32 {
        if self.ftz { flush(value) } else { value }
    }

    /// A result.
    #[inline(always)]
    pub fn result(self, value: f32) -> f32 {
        let value = if self.ftz { flush(value) } else { value };
        if self.sat { saturate(value) } else { canonical(value) }
    }
}

/// Subnormals become zero, with their sign.
#[inline(always)]
pub fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(if bits & 0x7F80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// Any NaN becomes the one that the hardware gives.
#[inline(always)]
pub fn canonical(value: f32) -> f32 {
    f32::from_bits(if value.is_nan() { NAN } else { value.to_bits() })
}

/// Into 0..=1; NaN becomes 0.
#[inline(always)]
pub fn saturate(value: f32) -> f32 {
    if value > 0.0 { if value < 1.0 { value } else { 1.0 } } else { 0.0 }
}

/// The smaller one: -0 is below +0, and a number is preferred to NaN.
#[inline(always)]
pub fn least(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return canonical(b);
    }
    let below = a < b || (a == b && a.is_sign_negative());
    if below || b.is_nan() { a } else { b }
}

/// The greater one: +0 is above -0, and a number is preferred to NaN.
#[inline(always)]
pub fn greatest(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return canonical(b);
    }
    let above = a > b || (a == b && a.is_sign_positive());
    if above || b.is_nan() { a } else { b }
}

/// `add`, `sub`, `mul` of f32: `nearest` rounds to nearest, `wide` is exact or rounded to odd, on the way to a mode.
pub fn binary32(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    nearest: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
    wide: impl Fn(Rounding, f64, f64) -> f64 + Send + Sync + 'static,
) -> Result {
    let around = Around::parse(m, &[])?;
    let class = Class::Float;
    match (m.only_type()?, around.rounding) {
        (Type::F32x2, Rounding::Nearest) if !around.sat => {
            binary(class, o, move |a: [f32; 2], b: [f32; 2]| {
                let one = |i: usize| around.result(nearest(around.input(a[i]), around.input(b[i])));
                [one(0), one(1)]
            })
        }
        (Type::F32, _) if around.is_plain() => {
            binary(class, o, move |a: f32, b: f32| canonical(nearest(a, b)))
        }
        (Type::F32, Rounding::Nearest) => {
            binary(class, o, move |a: f32, b: f32| around.result(nearest(around.input(a), around.input(b))))
        }
        (Type::F32, mode) => binary(class, o, move |a: f32, b: f32| {
            let exact = wide(mode, f64::from(around.input(a)), f64::from(around.input(b)));
            around.result(mode.to_f32(exact))
        }),
        (other, _) => Err(format!("type {other:?}")),
    }
}

/// `fma` of f32.
pub fn fma32(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    let around = Around::parse(m, &[])?;
    let class = Class::Float;
    match (m.only_type()?, around.rounding) {
        (Type::F32x2, Rounding::Nearest) if !around.sat => {
            ternary(class, o, move |a: [f32; 2], b: [f32; 2], c: [f32; 2]| {
                let input = |value| around.input(value);
                let one = |i: usize| around.result(input(a[i]).mul_add(input(b[i]), input(c[i])));
                [one(0), one(1)]
            })
        }
        (Type::F32, _) if around.is_plain() => {
            ternary(class, o, |a: f32, b: f32, c: f32| canonical(a.mul_add(b, c)))
        }
        (Type::F32, Rounding::Nearest) => ternary(class, o, move |a: f32, b: f32, c: f32| {
            around.result(around.input(a).mul_add(around.input(b), around.input(c)))
        }),
        (Type::F32, mode) => ternary(class, o, move |a: f32, b: f32, c: f32| {
            let wide = |value| f64::from(around.input(value));
            around.result(mode.to_f32(mode.add_to_odd(wide(a) * wide(b), wide(c))))
        }),
        (other, _) => Err(format!("type {other:?}")),
    }
}

/// `add`, `sub`, `mul`, `div` of f64, to nearest.
pub fn binary64(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    f: impl Fn(f64, f64) -> f64 + Send + Sync + 'static,
) -> Result {
    m.allow(&["rn"])?;
    binary(Class::Float, o, f)
}

/// `fma` of f64, to nearest.
pub fn fma64(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["rn"])?;
    ternary(Class::Float, o, f64::mul_add)
}

/// `min`, `max` of f32; with `.NaN` a NaN wins. sm_100 has a form of three sources.
pub fn extremum32(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    choose: impl Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
) -> Result {
    m.allow(&["ftz", "NaN"])?;
    if m.types != [Type::F32] {
        return Err(format!("type {:?}", m.types));
    }
    let around = Around { rounding: Rounding::Nearest, ftz: m.has("ftz"), sat: false };
    let nan_wins = m.has("NaN");
    let two = move |a: f32, b: f32| {
        let chosen = choose(around.input(a), around.input(b));
        if nan_wins && (a.is_nan() || b.is_nan()) { f32::from_bits(NAN) } else { chosen }
    };
    match o.count() {
        4 => ternary(Class::Float, o, move |a: f32, b: f32, c: f32| two(two(a, b), c)),
        _ => binary(Class::Float, o, two),
    }
}

/// `min`, `max` of f64.
pub fn extremum64(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    choose: impl Fn(f64, f64) -> f64 + Send + Sync + 'static,
) -> Result {
    m.allow(&[])?;
    binary(Class::Float, o, choose)
}

/// `neg`, `abs` of f32: an addition of zero to the changed input, to the machine, so any NaN becomes the one that
/// arithmetic gives.
pub fn sign32(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    change: impl Fn(u32) -> u32 + Send + Sync + 'static,
) -> Result {
    m.allow(&["ftz"])?;
    if m.types != [Type::F32] {
        return Err(format!("type {:?}", m.types));
    }
    let around = Around { rounding: Rounding::Nearest, ftz: m.has("ftz"), sat: false };
    unary(Class::Float, o, move |a: f32| canonical(f32::from_bits(change(around.input(a).to_bits()))))
}

/// `neg`, `abs` of f64.
pub fn sign64(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    change: impl Fn(u64) -> u64 + Send + Sync + 'static,
) -> Result {
    m.allow(&[])?;
    unary(Class::Float, o, change)
}

/// `copysign`: the sign of `a` on `b`.
pub fn copysign(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    match m.only_type()? {
        Type::F32 => binary(Class::Float, o, |a: f32, b: f32| b.copysign(a)),
        Type::F64 => binary(Class::Float, o, |a: f64, b: f64| b.copysign(a)),
        other => Err(format!("type {other:?}")),
    }
}
