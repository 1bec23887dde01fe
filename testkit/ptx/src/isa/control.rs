//! Branches, exits, barriers, and instructions that only steer hardware.

use super::decode::{Decoded, Mnemonic, Operands};
use super::types::Type;
use super::{Class, Flow, Step, exchange};
use crate::check::Check;
use crate::machine::barrier::{Reduction, ReductionResult, Use};
use crate::machine::lanes;

type Result = std::result::Result<Decoded, String>;

const CLASS: Class = Class::Control;

/// Does nothing.
fn nothing() -> Decoded {
    Decoded::execute(CLASS, |_, _| Flow::Next)
}

/// `bra`.
pub fn bra(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["uni"])?;
    o.expect(1..=1)?;
    Ok(Decoded { step: Step::Branch(o.label(0)?), class: CLASS })
}

/// `ret`, `exit`: of a kernel the same.
pub fn exit(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["uni"])?;
    o.expect(0..=0)?;
    Ok(Decoded { step: Step::Exit, class: CLASS })
}

/// `call`.
pub fn call(_: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    let names: std::result::Result<Vec<_>, _> = (0..o.count()).map(|index| o.text(index)).collect();
    Err(format!("functions must be inlined ({})", names?.join(", ")))
}

/// `trap`.
pub fn trap(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    o.expect(0..=0)?;
    Ok(Decoded::execute(CLASS, |x, mask| {
        x.finding(Check::Trap, mask, || "the kernel gave up".to_owned());
        Flow::Next
    }))
}

/// `bar`: always of whole warps. `bar.warp.sync` is of lanes.
pub fn bar(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    if m.has("warp") {
        m.allow(&["warp", "sync"])?;
        o.expect(1..=1)?;
        return Ok(exchange::warp_barrier(o.source32(0)?));
    }
    m.allow(&["cta", "sync", "arrive", "red", "popc", "and", "or"])?;
    barrier_of(m, o, true)
}

/// `barrier`.
pub fn barrier(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["cta", "sync", "arrive", "red", "popc", "and", "or", "aligned"])?;
    barrier_of(m, o, m.has("aligned"))
}

fn barrier_of(m: &Mnemonic<'_>, o: &mut Operands<'_>, aligned: bool) -> Result {
    let kind = m.one_of(&["sync", "arrive", "red"])?;
    let barrier = match (kind, o.count(), &m.types[..]) {
        (0, 1, []) => Use { id: o.source32(0)?, count: None, aligned, waits: true, reduction: None },
        (0 | 1, 2, []) => {
            let (id, count) = (o.source32(0)?, Some(o.source32(1)?));
            Use { id, count, aligned, waits: kind == 0, reduction: None }
        }
        (2, 3 | 4, &[ty]) => {
            let result = match (m.one_of(&["popc", "and", "or"])?, ty) {
                (0, Type::U32) => ReductionResult::Count(o.target32(0)?.ok_or("needs a target")?),
                (1, Type::Pred) => ReductionResult::All(o.target_pred(0)?.ok_or("needs a target")?),
                (2, Type::Pred) => ReductionResult::Any(o.target_pred(0)?.ok_or("needs a target")?),
                (_, other) => return Err(format!("type {other:?}")),
            };
            let count = if o.count() == 4 { Some(o.source32(2)?) } else { None };
            let (input, negated) = o.pred(o.count() - 1)?;
            let reduction = Some(Reduction { result, input, negated });
            Use { id: o.source32(1)?, count, aligned, waits: true, reduction }
        }
        (_, count, _) => return Err(format!("{count} operands")),
    };
    Ok(Decoded { step: Step::Barrier(barrier), class: CLASS })
}

/// `membar`: all memory is seen at once, so nothing is left to order.
pub fn membar(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["cta", "gl", "sys"])?;
    o.expect(0..=0)?;
    Ok(nothing())
}

/// `fence` without a proxy. See [`membar`].
pub fn fence(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "sys"])?;
    o.expect(0..=0)?;
    Ok(nothing())
}

/// `nanosleep`: lets the other warps run.
pub fn nanosleep(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&[])?;
    o.source32(0)?;
    Ok(Decoded::execute(CLASS, |_, _| Flow::Yield))
}

/// `griddepcontrol`: launches run one after the other, so what it waits for is over.
pub fn griddepcontrol(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["wait", "launch_dependents"])?;
    o.expect(0..=0)?;
    Ok(nothing())
}

/// `setmaxnreg`: a request for registers; only its number is checked.
pub fn setmaxnreg(m: &Mnemonic<'_>, o: &mut Operands<'_>) -> Result {
    m.allow(&["inc", "dec", "sync", "aligned"])?;
    m.one_of(&["inc", "dec"])?;
    let count = o.immediate(0)?;
    if !(24..=256).contains(&count) || count % 8 != 0 {
        return Err(format!("{count} registers; a multiple of 8 in 24..=256 is needed"));
    }
    Ok(Decoded::execute(CLASS, |x, mask| {
        if mask != x.warp.live {
            let missing = lanes(x.warp.live & !mask).count();
            x.finding(Check::DivergentBarrier, mask, || format!("{missing} lanes of the warp are not here"));
        }
        Flow::Next
    }))
}
