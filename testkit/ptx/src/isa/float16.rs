//! Arithmetic of f16 and bf16, one value or two packed ones.

use super::Class;
use super::decode::{Decoded, Mnemonic, Operands};
use super::half::{Bf16, F16, Float16};
use super::types::Type;
use super::values::{binary as two, ternary, unary};

type Result = std::result::Result<Decoded, String>;

/// What happens around an operation.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// `.ftz`: subnormal inputs and results become zero, with their sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to 0..=1, NaN to 0.
    pub sat: bool,
    /// `.relu`: negative results become 0, NaN stays.
    pub relu: bool,
}

impl Around {
    /// From a mnemonic's modifiers; bf16 has neither `.ftz` nor `.sat`.
    pub fn parse(m: &Mnemonic<'_>, more: &[&str]) -> std::result::Result<Self, String> {
        let ieee = matches!(m.types[..], [Type::F16 | Type::F16x2]);
        let own: &[&str] = if ieee { &["rn", "ftz", "sat"] } else { &["rn"] };
        m.allow(&[own, more].concat())?;
        Ok(Self { ftz: m.has("ftz"), sat: m.has("sat"), relu: m.has("relu") })
    }

    #[inline(always)]
    fn input<H: Float16>(self, value: H) -> H {
        if self.ftz { flush(value) } else { value }
    }

    #[inline(always)]
    fn result<H: Float16>(self, value: H) -> H {
        let mut value = if self.ftz { flush(value) } else { value };
        if self.sat {
            value = H::from_f32(super::float::saturate(value.to_f32()));
        }
        if self.relu && value.to_f32() <= 0.0 { H::from_bits(0) } else { value }
    }
}

#[inline(always)]
fn flush<H: Float16>(value: H) -> H {
    let bits = value.to_bits();
    H::from_bits(if bits & 0x7C00 == 0 { bits & 0x8000 } else { bits })
}

/// The NaN that arithmetic gives, of a value's type.
#[inline(always)]
fn nan_like<H: Float16>(_: H) -> H {
    H::from_bits(H::NAN)
}

/// One closure for f16, bf16 and their pairs.
macro_rules! each {
    ($m:expr, $shape:ident, $o:expr, |$($v:ident),+| $body:expr) => {
        match $m.only_type()? {
            Type::F16 => $shape(Class::Float, $o, move |$($v: F16),+| -> F16 { $body }),
            Type::Bf16 => $shape(Class::Float, $o, move |$($v: Bf16),+| -> Bf16 { $body }),
            Type::F16x2 => {
                let one = move |$($v: F16),+| -> F16 { $body };
                $shape(Class::Float, $o, move |$($v: [F16; 2]),+| [one($($v[0]),+), one($($v[1]),+)])
            }
            Type::Bf16x2 => {
                let one = move |$($v: Bf16),+| -> Bf16 { $body };
                $shape(Class::Float, $o, move |$($v: [Bf16; 2]),+| [one($($v[0]),+), one($($v[1]),+)])
            }
            other => Err(format!("type {other:?}")),
        }
    };
}

/// `add`, `sub`, `mul`: in f32, then rounded; see [`super::half`] why that is right.
pub fn binary(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    f: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
) -> Result {
    let around = Around::parse(m, &[])?;
    each!(m, two, o, |a, b| {
        let exact = f(around.input(a).to_f32(), around.input(b).to_f32());
        around.result(Float16::from_f32(exact))
    })
}

/// `fma{.relu}`.
pub fn fma(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    let around = Around::parse(m, &["relu"])?;
    each!(m, ternary, o, |a, b, c| around.result(around.input(a).fused(around.input(b), around.input(c))))
}

/// `min`, `max`; with `.NaN` a NaN wins.
pub fn extremum(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    choose: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
) -> Result {
    m.allow(&["ftz", "NaN"])?;
    let around = Around { ftz: m.has("ftz"), sat: false, relu: false };
    let nan_wins = m.has("NaN");
    each!(m, two, o, |a, b| {
        let (a, b) = (around.input(a).to_f32(), around.input(b).to_f32());
        Float16::from_f32(if nan_wins && (a.is_nan() || b.is_nan()) { f32::NAN } else { choose(a, b) })
    })
}

/// `neg`, `abs`: an addition of zero to the changed input, to the machine, so any NaN becomes the one that
/// arithmetic gives.
pub fn sign(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    change: impl Fn(u16) -> u16 + Send + Sync + 'static,
) -> Result {
    m.allow(&["ftz"])?;
    let around = Around { ftz: m.has("ftz"), sat: false, relu: false };
    each!(m, unary, o, |a| {
        let changed = change(around.input(a).to_bits());
        if a.to_f32().is_nan() { nan_like(a) } else { Float16::from_bits(changed) }
    })
}

/// `ex2`, `tanh`: in f32, then rounded.
pub fn special(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> Result {
    m.allow(&["approx", "ftz"])?;
    each!(m, unary, o, |a| Float16::from_f32(f(a.to_f32())))
}
