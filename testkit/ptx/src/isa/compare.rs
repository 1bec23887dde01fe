//! Comparisons, selections and tests.

use super::decode::{Decoded, Mnemonic, Operands};
use super::float::flush;
use super::half::{Bf16, F16, Float16};
use super::types::Type;
use super::values::{Bank, Value, holds, mask_of, ternary};
use super::{Class, Flow};
use crate::machine::registers::{Pred, Registers};
use crate::machine::{Mask, WARP};

type Result = std::result::Result<Decoded, String>;

/// Which outcomes of a comparison make it true.
#[derive(Clone, Copy, Debug)]
struct Outcomes {
    less: bool,
    equal: bool,
    greater: bool,
    /// One of the two is NaN.
    unordered: bool,
}

/// Comparisons, and the outcomes that make them true: less, equal, greater, unordered.
const COMPARISONS: [(&str, [bool; 4]); 18] = {
    const T: bool = true;
    const F: bool = false;
    [
        ("eq", [F, T, F, F]),
        ("ne", [T, F, T, F]),
        ("lt", [T, F, F, F]),
        ("le", [T, T, F, F]),
        ("gt", [F, F, T, F]),
        ("ge", [F, T, T, F]),
        ("lo", [T, F, F, F]),
        ("ls", [T, T, F, F]),
        ("hi", [F, F, T, F]),
        ("hs", [F, T, T, F]),
        ("equ", [F, T, F, T]),
        ("neu", [T, F, T, T]),
        ("ltu", [T, F, F, T]),
        ("leu", [T, T, F, T]),
        ("gtu", [F, F, T, T]),
        ("geu", [F, T, T, T]),
        ("num", [T, T, T, F]),
        ("nan", [F, F, F, T]),
    ]
};

/// The modifiers that combine a comparison with a third predicate.
const COMBINATIONS: [&str; 3] = ["and", "or", "xor"];

impl Outcomes {
    fn parse(m: &Mnemonic<'_>) -> std::result::Result<Self, String> {
        let (index, &[less, equal, greater, unordered]) = COMPARISONS
            .iter()
            .find(|(name, _)| m.modifiers.first() == Some(name))
            .map(|(name, outcomes)| (*name, outcomes))
            .ok_or("needs a comparison first")?;
        let known = [&COMBINATIONS[..], &["ftz", index]].concat();
        m.allow(&known)?;
        Ok(Self { less, equal, greater, unordered })
    }

    /// The lanes where the comparison of two values is true.
    #[inline(always)]
    fn lanes<V: Value + PartialOrd>(self, a: &[V::Bank; WARP], b: &[V::Bank; WARP]) -> Mask {
        let (less, equal) = (mask_of::<V>(a, b, |a, b| a < b), mask_of::<V>(a, b, |a, b| a == b));
        let greater = mask_of::<V>(a, b, |a, b| a > b);
        let pick = |wanted: bool, lanes: Mask| if wanted { lanes } else { 0 };
        pick(self.less, less)
            | pick(self.equal, equal)
            | pick(self.greater, greater)
            | pick(self.unordered, !(less | equal | greater))
    }
}

/// f32 after `.ftz`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Flushed(f32);

impl Value for Flushed {
    type Bank = u32;

    #[inline(always)]
    fn load(bits: u32) -> Self {
        Self(flush(f32::from_bits(bits)))
    }

    #[inline(always)]
    fn store(self) -> u32 {
        self.0.to_bits()
    }
}

/// One half of a packed pair.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Half<H, const SHIFT: u32>(H);

impl<H: Value<Bank = u32>, const SHIFT: u32> Value for Half<H, SHIFT> {
    type Bank = u32;

    #[inline(always)]
    fn load(bits: u32) -> Self {
        Self(H::load(bits >> SHIFT))
    }

    #[inline(always)]
    fn store(self) -> u32 {
        self.0.store() << SHIFT
    }
}

type Compare = Box<dyn Fn(&Registers) -> Mask + Send + Sync>;

fn typed<V: Value + PartialOrd>(
    outcomes: Outcomes,
    o: &mut Operands<'_>,
) -> std::result::Result<Compare, String> {
    let (a, b) = (V::source(o, 1)?, V::source(o, 2)?);
    Ok(Box::new(move |registers| {
        outcomes.lanes::<V>(V::Bank::read(registers, a), V::Bank::read(registers, b))
    }))
}

/// The lanes where the comparison of the two sources is true.
fn compare(m: &Mnemonic<'_>, o: &mut Operands<'_>, ty: Type) -> std::result::Result<Compare, String> {
    let outcomes = Outcomes::parse(m)?;
    match ty {
        Type::U16 | Type::B16 => typed::<u16>(outcomes, o),
        Type::S16 => typed::<i16>(outcomes, o),
        Type::U32 | Type::B32 => typed::<u32>(outcomes, o),
        Type::S32 => typed::<i32>(outcomes, o),
        Type::U64 | Type::B64 => typed::<u64>(outcomes, o),
        Type::S64 => typed::<i64>(outcomes, o),
        Type::F32 if m.has("ftz") => typed::<Flushed>(outcomes, o),
        Type::F32 => typed::<f32>(outcomes, o),
        Type::F64 => typed::<f64>(outcomes, o),
        Type::F16 if !m.has("ftz") => typed::<F16>(outcomes, o),
        Type::Bf16 if !m.has("ftz") => typed::<Bf16>(outcomes, o),
        other => Err(format!("type {other:?}")),
    }
}

/// The same for each half of packed sources, the lower one first; `None` for other types.
fn compare_halves(
    m: &Mnemonic<'_>,
    o: &mut Operands<'_>,
    ty: Type,
) -> std::result::Result<Option<[Compare; 2]>, String> {
    if m.has("ftz") || !matches!(ty, Type::F16x2 | Type::Bf16x2) {
        return Ok(None);
    }
    let outcomes = Outcomes::parse(m)?;
    Ok(Some(match ty {
        Type::F16x2 => [typed::<Half<F16, 0>>(outcomes, o)?, typed::<Half<F16, 16>>(outcomes, o)?],
        _ => [typed::<Half<Bf16, 0>>(outcomes, o)?, typed::<Half<Bf16, 16>>(outcomes, o)?],
    }))
}

/// Combines a comparison with a predicate as `.and`, `.or`, `.xor` say.
#[derive(Clone, Copy, Debug)]
struct Combination {
    kind: usize,
    with: (Pred, bool),
}

impl Combination {
    fn parse(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> std::result::Result<Option<Self>, String> {
        if COMBINATIONS.iter().any(|kind| m.has(kind)) {
            o.expect(4..=4)?;
            Ok(Some(Self { kind: m.one_of(&COMBINATIONS)?, with: o.pred(3)? }))
        } else {
            o.expect(3..=3)?;
            Ok(None)
        }
    }

    fn apply(self, lanes: Mask, registers: &Registers) -> Mask {
        let with = holds(registers, self.with);
        match self.kind {
            0 => lanes & with,
            1 => lanes | with,
            _ => lanes ^ with,
        }
    }
}

/// `setp`: `p = (a op b) bool c`, `q = !(a op b) bool c`; of packed sources `p` and `q` are the halves'.
pub fn setp(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    let ty = m.only_type()?;
    let (compare, upper) = match compare_halves(m, o, ty)? {
        Some([lower, upper]) => (lower, Some(upper)),
        None => (compare(m, o, ty)?, None),
    };
    let combination = Combination::parse(m, o)?;
    let (p, q) = (o.target_pred(0)?, o.second_pred(0)?);
    Ok(Decoded::execute(Class::Compare, move |x, mask| {
        let registers = &mut x.warp.registers;
        let first = compare(registers);
        let second = upper.as_ref().map_or(!first, |upper| upper(registers));
        let combine = |lanes| combination.map_or(lanes, |c| c.apply(lanes, registers));
        let (first, second) = (combine(first), combine(second));
        if let Some(p) = p {
            registers.set_pred(p, first, mask);
        }
        if let Some(q) = q {
            registers.set_pred(q, second, mask);
        }
        Flow::Next
    }))
}

/// `set`: as `setp`, into a register: all bits or 1.0 where true, else 0.
pub fn set(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    let [result, source] = m.types[..] else { return Err(format!("needs two types, has {}", m.types.len())) };
    let halves = compare_halves(m, o, source)?;
    let truth = match (result, halves.is_some()) {
        (Type::U32 | Type::S32, false) => !0,
        (Type::U16 | Type::S16, false) | (Type::U32 | Type::S32, true) => 0xFFFF,
        (Type::F32, false) => 1.0_f32.to_bits(),
        (Type::F16, false) | (Type::F16x2, true) => F16::from_f32(1.0).store(),
        (Type::Bf16, false) | (Type::Bf16x2, true) => Bf16::from_f32(1.0).store(),
        (other, _) => return Err(format!("type {other:?}")),
    };
    let parts: Vec<Compare> = match halves {
        Some(halves) => halves.into(),
        None => vec![compare(m, o, source)?],
    };
    let combination = Combination::parse(m, o)?;
    let d = u32::target(o, 0)?;
    Ok(Decoded::execute(Class::Compare, move |x, mask| {
        let registers = &mut x.warp.registers;
        let mut out = [0; WARP];
        for (compare, shift) in parts.iter().zip([0, 16]) {
            let lanes = compare(registers);
            let lanes = combination.map_or(lanes, |c| c.apply(lanes, registers));
            for (lane, value) in out.iter_mut().enumerate() {
                *value |= if lanes >> lane & 1 == 1 { truth << shift } else { 0 };
            }
        }
        registers.set32(d, &out, mask);
        Flow::Next
    }))
}

/// `selp`: `a` where the predicate holds, else `b`.
pub fn selp(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    fn typed<V: Value>(o: &mut Operands<'_>) -> Result {
        o.expect(4..=4)?;
        let (d, a, b, p) = (V::Bank::target(o, 0)?, V::source(o, 1)?, V::source(o, 2)?, o.choice(3)?);
        Ok(Decoded::execute(Class::Compare, move |x, mask| {
            let registers = &mut x.warp.registers;
            let chosen = holds(registers, p);
            let (a, b) = (V::Bank::read(registers, a), V::Bank::read(registers, b));
            let mut out = [V::Bank::default(); WARP];
            for lane in 0..WARP {
                out[lane] = if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] };
            }
            V::Bank::write(registers, d, &out, mask);
            Flow::Next
        }))
    }
    m.allow(&[])?;
    match m.only_type()? {
        Type::B16 | Type::U16 | Type::S16 => typed::<u16>(o),
        Type::B32 | Type::U32 | Type::S32 | Type::F32 => typed::<u32>(o),
        Type::B64 | Type::U64 | Type::S64 => typed::<u64>(o),
        Type::F64 => typed::<f64>(o),
        other => Err(format!("type {other:?}")),
    }
}

/// `slct`: `a` where `c >= 0`, else `b`.
pub fn slct(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["ftz"])?;
    let class = Class::Compare;
    let ftz = m.has("ftz");
    let at_least_zero = move |c: f32| (if ftz { flush(c) } else { c }) >= 0.0;
    match (m.types.first().map(|ty| ty.bytes()), m.types.get(1)) {
        (Some(4), Some(Type::S32)) => ternary(class, o, |a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (Some(8), Some(Type::S32)) => ternary(class, o, |a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (Some(4), Some(Type::F32)) => {
            ternary(class, o, move |a: u32, b: u32, c: f32| if at_least_zero(c) { a } else { b })
        }
        (Some(8), Some(Type::F32)) => {
            ternary(class, o, move |a: u64, b: u64, c: f32| if at_least_zero(c) { a } else { b })
        }
        _ => Err(format!("types {:?}", m.types)),
    }
}

/// `testp`: what kind of number it is.
pub fn testp(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    const KINDS: [&str; 6] = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    fn typed<V: Value>(o: &mut Operands<'_>, test: impl Fn(V) -> bool + Send + Sync + 'static) -> Result {
        o.expect(2..=2)?;
        let p = o.target_pred(0)?.ok_or("needs a target")?;
        let a = V::source(o, 1)?;
        Ok(Decoded::execute(Class::Compare, move |x, mask| {
            let values = V::Bank::read(&x.warp.registers, a);
            let lanes = mask_of::<V>(values, values, |value, _| test(value));
            x.warp.registers.set_pred(p, lanes, mask);
            Flow::Next
        }))
    }
    m.allow(&KINDS)?;
    let kind = m.one_of(&KINDS)?;
    let is = move |class: std::num::FpCategory| {
        use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
        match kind {
            0 => matches!(class, Normal | Subnormal | Zero),
            1 => class == Infinite,
            2 => class != Nan,
            3 => class == Nan,
            4 => class == Normal,
            _ => class == Subnormal,
        }
    };
    match m.only_type()? {
        Type::F32 => typed(o, move |value: f32| is(value.classify())),
        Type::F64 => typed(o, move |value: f64| is(value.classify())),
        other => Err(format!("type {other:?}")),
    }
}
