//! `atom`, `red`: read, change and write in one step, lane after lane in ascending order.

use std::sync::Mutex;

use super::decode::{Decoded, Mnemonic, Operands, Slot};
use super::float::{greatest, least};
use super::half::{Bf16, F16, Float16};
use super::load_store::HINTS;
use super::moves::{read, write};
use super::types::{Space, Type};
use super::values::Value;
use super::{Class, Execution, Flow};
use crate::check::Check;
use crate::machine::{Lanes64, Mask, WARP, lanes};
use crate::memory::view::View;
use crate::memory::{Access, SHARED_BASE, space_of};

type Result = std::result::Result<Decoded, String>;

/// Gives the new value of the old one and the operands `b` and `c`.
type Change = fn(u64, u64, u64) -> u64;

const OPERATIONS: [&str; 10] = ["add", "inc", "dec", "min", "max", "and", "or", "xor", "exch", "cas"];

/// The global memory's words are atomics of 32 bits; wider changes take turns.
static WIDE: Mutex<()> = Mutex::new(());

/// What an operation does to a type; `None` where PTX has no such form.
fn change(operation: usize, ty: Type) -> Option<Change> {
    use Type::{B16, B32, B64, F16 as Half, F16x2, F32, F64, S32, S64, U32, U64};
    let integer = matches!(ty, B32 | B64 | U32 | U64 | S32 | S64);
    Some(match (OPERATIONS[operation], ty) {
        ("add", U32 | S32 | U64 | S64) => |a, b, _| a.wrapping_add(b),
        ("add", F32) => |a, b, _| on(a, b, |a: f32, b: f32| super::float::canonical(a + b)),
        ("add", F64) => |a, b, _| on(a, b, |a: f64, b: f64| a + b),
        ("add", Half) => |a, b, _| on(a, b, sum::<F16>),
        ("add", Type::Bf16) => |a, b, _| on(a, b, sum::<Bf16>),
        ("add", F16x2) => |a, b, _| pairs(a, b, sum::<F16>),
        ("add", Type::Bf16x2) => |a, b, _| pairs(a, b, sum::<Bf16>),
        ("min", Half) => |a, b, _| on(a, b, |a: F16, b: F16| choose(a, b, least)),
        ("min", Type::Bf16) => |a, b, _| on(a, b, |a: Bf16, b: Bf16| choose(a, b, least)),
        ("min", F16x2) => |a, b, _| pairs(a, b, |a: F16, b: F16| choose(a, b, least)),
        ("min", Type::Bf16x2) => |a, b, _| pairs(a, b, |a: Bf16, b: Bf16| choose(a, b, least)),
        ("max", Half) => |a, b, _| on(a, b, |a: F16, b: F16| choose(a, b, greatest)),
        ("max", Type::Bf16) => |a, b, _| on(a, b, |a: Bf16, b: Bf16| choose(a, b, greatest)),
        ("max", F16x2) => |a, b, _| pairs(a, b, |a: F16, b: F16| choose(a, b, greatest)),
        ("max", Type::Bf16x2) => |a, b, _| pairs(a, b, |a: Bf16, b: Bf16| choose(a, b, greatest)),
        ("inc", U32) => |a, b, _| if a >= b { 0 } else { a + 1 },
        ("dec", U32) => |a, b, _| if a == 0 || a > b { b } else { a - 1 },
        ("min", U32 | U64) => |a, b, _| a.min(b),
        ("max", U32 | U64) => |a, b, _| a.max(b),
        ("min", S32) => |a, b, _| on(a, b, i32::min),
        ("max", S32) => |a, b, _| on(a, b, i32::max),
        ("min", S64) => |a, b, _| on(a, b, i64::min),
        ("max", S64) => |a, b, _| on(a, b, i64::max),
        ("and", _) if integer => |a, b, _| a & b,
        ("or", _) if integer => |a, b, _| a | b,
        ("xor", _) if integer => |a, b, _| a ^ b,
        ("exch", _) if integer || matches!(ty, F32 | F64) => |_, b, _| b,
        ("cas", _) if integer || ty == B16 => |a, b, c| if a == b { c } else { a },
        _ => return None,
    })
}

/// A function of values on their bits.
fn on<V: Value>(a: u64, b: u64, f: impl Fn(V, V) -> V) -> u64
where
    V::Bank: Into<u64> + Cut,
{
    f(V::load(Cut::cut(a)), V::load(Cut::cut(b))).store().into()
}

/// The low bits of a word.
trait Cut {
    fn cut(bits: u64) -> Self;
}

impl Cut for u32 {
    fn cut(bits: u64) -> Self {
        bits as Self
    }
}

impl Cut for u64 {
    fn cut(bits: u64) -> Self {
        bits
    }
}

fn sum<H: Float16>(a: H, b: H) -> H {
    H::from_f32(a.to_f32() + b.to_f32())
}

fn choose<H: Float16>(a: H, b: H, f: impl Fn(f32, f32) -> f32) -> H {
    H::from_f32(f(a.to_f32(), b.to_f32()))
}

fn pairs<H: Value<Bank = u32>>(a: u64, b: u64, f: impl Fn(H, H) -> H) -> u64 {
    let half = |shift: u32| u64::from(f(H::load((a >> shift) as u32), H::load((b >> shift) as u32)).store());
    half(0) | half(16) << 16
}

/// One atomic instruction.
struct Atomic {
    change: Change,
    bytes: u32,
    /// Registers of each value: the old one's target, `b`, `c`.
    values: Vec<[Slot; 3]>,
}

/// `atom`: with the old value as a result.
pub fn atom(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    decode(m, o, true)
}

/// `red`: without a result.
pub fn red(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    decode(m, o, false)
}

fn decode(m: &Mnemonic<'_>, o: &mut Operands<'_>, returns: bool) -> Result {
    const OTHERS: [&str; 8] =
        ["global", "shared", "shared::cta", "noftz", "v2", "v4", "v8", "shared::cluster"];
    m.allow(&[HINTS, &OPERATIONS, &OTHERS].concat())?;
    let (ty, operation) = (m.only_type()?, m.one_of(&OPERATIONS)?);
    let change = change(operation, ty).ok_or_else(|| format!("type {ty:?} of this operation"))?;
    let compares = OPERATIONS[operation] == "cas";
    let first = usize::from(returns);
    let count = first + 2 + usize::from(compares) + usize::from(m.has("L2::cache_hint"));
    o.expect(count..=count)?;

    let address = o.address(first)?;
    let b = o.source_slots(first + 1, ty.bytes())?;
    let c = if compares { o.source_slots(first + 2, ty.bytes())? } else { vec![Slot::Sink; b.len()] };
    let d = if returns { o.slots(0)? } else { vec![Slot::Sink; b.len()] };
    if b.len() != m.vector() || c.len() != b.len() || d.len() != b.len() {
        return Err(format!("{} values for {}", b.len(), m.vector()));
    }
    let values = (0..b.len()).map(|index| [d[index], b[index], c[index]]).collect();
    let atomic = Atomic { change, bytes: ty.bytes(), values };
    let space = m.space();
    Ok(Decoded::execute(Class::Memory, move |x, mask| {
        let addresses = address.lanes64(&x.warp.registers);
        let shared = match space {
            Space::Shared => mask,
            Space::Generic => {
                lanes(mask).filter(|&l| space_of(addresses[l]) == Space::Shared).fold(0, |m, l| m | 1 << l)
            }
            _ => 0,
        };
        let base = if space == Space::Generic { SHARED_BASE } else { 0 };
        if shared != 0 {
            atomic.shared(x, shared, &addresses.map(|address| address.wrapping_sub(base)));
        }
        if mask & !shared != 0 {
            atomic.global(x, mask & !shared, &addresses);
        }
        Flow::Next
    }))
}

impl Atomic {
    fn global(&self, x: &mut Execution<'_, '_>, mask: Mask, addresses: &Lanes64) {
        let total = self.bytes * self.values.len() as u32;
        let good = x.global(addresses, total, mask, Access::Atomic);
        let global = x.block.global;
        self.each(x, good, |lane, offset, b, c| {
            update(global, addresses[lane] + u64::from(offset), self.bytes, |old| (self.change)(old, b, c))
        });
    }

    fn shared(&self, x: &mut Execution<'_, '_>, mask: Mask, addresses: &Lanes64) {
        if self.values.len() > 1 {
            x.finding(Check::Trap, mask, || "a vector atomic on shared memory".to_owned());
            return;
        }
        let addresses = addresses.map(|address| u32::try_from(address).unwrap_or(u32::MAX));
        let good = x.shared(&addresses, self.bytes, mask, Access::Atomic);
        let [d, b, c] = self.values[0];
        let (b, c) = (read(&x.warp.registers, b), read(&x.warp.registers, c));
        let mut old = [0; WARP];
        for lane in lanes(good) {
            old[lane] = x.block.shared.load_value(addresses[lane], self.bytes);
            let new = (self.change)(old[lane], b[lane], c[lane]);
            x.block.shared.store_value(addresses[lane], self.bytes, new);
        }
        write(&mut x.warp.registers, d, &old, good);
    }

    /// Runs `step(lane, offset, b, c)` for each lane and value, and keeps the old values.
    fn each(&self, x: &mut Execution<'_, '_>, mask: Mask, step: impl Fn(usize, u32, u64, u64) -> u64) {
        for (index, &[d, b, c]) in self.values.iter().enumerate() {
            let (b, c) = (read(&x.warp.registers, b), read(&x.warp.registers, c));
            let mut old = [0; WARP];
            for lane in lanes(mask) {
                old[lane] = step(lane, index as u32 * self.bytes, b[lane], c[lane]);
            }
            write(&mut x.warp.registers, d, &old, mask);
        }
    }
}

/// Changes a value of global memory in one step; the result is the old one.
fn update(global: &View, address: u64, bytes: u32, change: impl Fn(u64) -> u64) -> u64 {
    let Some(allocation) = global.holder(address, bytes) else { return !0 };
    match bytes {
        4 => u64::from(allocation.update(address, |old| change(u64::from(old)) as u32)),
        2 => {
            let shift = 8 * (address & 2) as u32;
            let part = |word: u32| u64::from(word >> shift & 0xFFFF);
            let word = allocation.update(address & !3, |word| {
                word & !(0xFFFF << shift) | (change(part(word)) as u32 & 0xFFFF) << shift
            });
            part(word)
        }
        _ => {
            let turn = WIDE.lock().expect("no holder panics");
            let old = allocation.load(address, bytes);
            allocation.store(address, bytes, change(old));
            drop(turn);
            old
        }
    }
}
