//! The operands of an instruction, as registers, immediates and addresses.

use super::address::{Address, Base};
use super::special_registers::special;
use super::uses::Noted;
use crate::machine::registers::{Pred, Reg32, Reg64, Register};
use crate::parse::builder::{Builder, Symbol};
use crate::parse::operand::Operand;

/// A register of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `_`.
    Sink,
    /// A register of the 32-bit bank, and its declared width.
    Bits32(Reg32, u8),
    /// A register of 64 bits.
    Bits64(Reg64),
    /// A register of 128 bits: low half, high half.
    Bits128(Reg64, Reg64),
}

/// The operands of one instruction, and the registers that they may ask for.
pub struct Operands<'a> {
    list: &'a [Operand<'a>],
    builder: &'a mut Builder,
    noted: Noted,
}

impl<'a> Operands<'a> {
    /// Joins operands with the kernel whose registers they name.
    pub fn new(list: &'a [Operand<'a>], builder: &'a mut Builder) -> Self {
        Self { list, builder, noted: Noted::default() }
    }

    /// The registers that were asked for.
    pub fn into_noted(self) -> Noted {
        self.noted
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Refuses a number of operands outside of `allowed`.
    pub fn expect(&self, allowed: std::ops::RangeInclusive<usize>) -> Result<(), String> {
        if allowed.contains(&self.count()) { Ok(()) } else { Err(format!("{} operands", self.count())) }
    }

    /// The kernel's names and constants, for decoders that need a scratch register.
    pub fn builder(&mut self) -> &mut Builder {
        self.builder
    }

    /// An operand as written.
    pub fn get(&self, index: usize) -> Result<&'a Operand<'a>, String> {
        self.list.get(index).ok_or_else(|| format!("operand {} is missing", index + 1))
    }

    /// An operand as text.
    pub fn text(&self, index: usize) -> Result<String, String> {
        self.get(index).map(ToString::to_string)
    }

    /// What a named operand stands for; `None` where it is not a name or is a special register.
    pub fn symbol(&mut self, index: usize) -> Result<Option<Symbol>, String> {
        match self.get(index)? {
            Operand::Name(name) if special(name)?.is_none() => {
                self.builder.symbol(name).map(Some).ok_or_else(|| format!("unknown name `{name}`"))
            }
            _ => Ok(None),
        }
    }

    /// A source of at most 32 bits.
    pub fn source32(&mut self, index: usize) -> Result<Reg32, String> {
        let operand = self.get(index)?;
        self.read32(operand, u32::MAX)
    }

    /// A source of 16 bits: negative immediates are cut to them.
    pub fn source16(&mut self, index: usize) -> Result<Reg32, String> {
        let operand = self.get(index)?;
        self.read32(operand, 0xFFFF)
    }

    /// A source of 64 bits.
    pub fn source64(&mut self, index: usize) -> Result<Reg64, String> {
        let operand = self.get(index)?;
        self.read64(operand)
    }

    /// A predicate source, and whether its negation is meant.
    pub fn pred(&mut self, index: usize) -> Result<(Pred, bool), String> {
        let (name, negated) = match self.get(index)? {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            Operand::Integer(value) => return Ok((self.builder.constant_predicate(*value != 0), false)),
            other => return Err(format!("`{other}` is not a predicate")),
        };
        match self.builder.symbol(name) {
            Some(Symbol::Pred(pred)) => {
                self.noted.reads.push(Register::Pred(pred));
                Ok((pred, negated))
            }
            _ => Err(format!("`{name}` is not a predicate")),
        }
    }

    /// A predicate source that chooses one of the two sources before it; the other may hold no value.
    pub fn choice(&mut self, index: usize) -> Result<(Pred, bool), String> {
        let choice = self.pred(index)?;
        self.noted.chosen_by = Some(choice);
        Ok(choice)
    }

    /// A target of at most 32 bits; `None` for `_`. Of `%d|%p` the first half.
    pub fn target32(&mut self, index: usize) -> Result<Option<Reg32>, String> {
        let operand = first(self.get(index)?);
        if *operand == Operand::Sink { Ok(None) } else { self.written32(operand).map(Some) }
    }

    /// A target of 64 bits; `None` for `_`. Of `%d|%p` the first half.
    pub fn target64(&mut self, index: usize) -> Result<Option<Reg64>, String> {
        let operand = first(self.get(index)?);
        if *operand == Operand::Sink { Ok(None) } else { self.written64(operand).map(Some) }
    }

    /// A predicate target; `None` for `_`. Of `%p|%q` the first half.
    pub fn target_pred(&mut self, index: usize) -> Result<Option<Pred>, String> {
        let operand = first(self.get(index)?);
        if *operand == Operand::Sink { Ok(None) } else { self.predicate(operand).map(Some) }
    }

    /// The predicate behind the bar of `%d|%p`; `None` where there is none or `_`.
    pub fn second_pred(&mut self, index: usize) -> Result<Option<Pred>, String> {
        match self.get(index)? {
            Operand::Pair(_, second) if **second != Operand::Sink => self.predicate(second).map(Some),
            _ => Ok(None),
        }
    }

    /// How many elements `{..}` has; 1 for anything else.
    pub fn vector(&self, index: usize) -> Result<usize, String> {
        Ok(elements(self.get(index)?).len())
    }

    /// The sources of `{..}`, or the one source without braces.
    pub fn sources32(&mut self, index: usize) -> Result<Vec<Reg32>, String> {
        elements(self.get(index)?).iter().map(|operand| self.read32(operand, u32::MAX)).collect()
    }

    /// The 64-bit sources of `{..}`, or the one source without braces.
    pub fn sources64(&mut self, index: usize) -> Result<Vec<Reg64>, String> {
        elements(self.get(index)?).iter().map(|operand| self.read64(operand)).collect()
    }

    /// The targets of `{..}`, or the one target without braces; `_` gets a register that nobody reads.
    pub fn targets32(&mut self, index: usize) -> Result<Vec<Reg32>, String> {
        let list = elements(self.get(index)?);
        let target = |operand: &Operand<'_>| match operand {
            Operand::Sink => Ok(self.builder.register32()),
            _ => self.written32(operand),
        };
        list.iter().map(target).collect()
    }

    /// The 64-bit targets of `{..}`, or the one target without braces; `_` gets a register that nobody reads.
    pub fn targets64(&mut self, index: usize) -> Result<Vec<Reg64>, String> {
        let list = elements(self.get(index)?);
        let target = |operand: &Operand<'_>| match operand {
            Operand::Sink => Ok(self.builder.register64()),
            _ => self.written64(operand),
        };
        list.iter().map(target).collect()
    }

    /// The registers of `{..}`, or the one without braces, of any width; `_` is [`Slot::Sink`].
    pub fn slots(&mut self, index: usize) -> Result<Vec<Slot>, String> {
        elements(self.get(index)?).iter().map(|operand| self.slot(operand, None)).collect()
    }

    /// The same as sources: immediates get a register for values of `bytes`.
    pub fn source_slots(&mut self, index: usize, bytes: u32) -> Result<Vec<Slot>, String> {
        elements(self.get(index)?).iter().map(|operand| self.slot(operand, Some(bytes))).collect()
    }

    /// The declared width of a register operand; that of a value of `bytes` in its bank for anything else.
    pub fn width(&mut self, index: usize, bytes: u32) -> Result<u32, String> {
        let operand = self.get(index)?;
        match self.any_slot(operand, Some(bytes))? {
            Slot::Bits32(_, bits) => Ok(u32::from(bits)),
            Slot::Bits64(_) => Ok(64),
            _ => Err(format!("`{operand}` is not a register")),
        }
    }

    fn slot(&mut self, operand: &Operand<'_>, bytes: Option<u32>) -> Result<Slot, String> {
        let slot = self.any_slot(operand, bytes)?;
        let noted = if bytes.is_some() { &mut self.noted.reads } else { &mut self.noted.writes };
        match slot {
            Slot::Sink => {}
            Slot::Bits32(register, _) => noted.push(Register::Bits32(register)),
            Slot::Bits64(register) => noted.push(Register::Bits64(register)),
            Slot::Bits128(low, high) => noted.extend([Register::Bits64(low), Register::Bits64(high)]),
        }
        Ok(slot)
    }

    fn any_slot(&mut self, operand: &Operand<'_>, bytes: Option<u32>) -> Result<Slot, String> {
        match (self.named(operand), bytes) {
            (Some(Symbol::Reg32 { register, bits }), _) => Ok(Slot::Bits32(register, bits)),
            (Some(Symbol::Reg64(register)), _) => Ok(Slot::Bits64(register)),
            (Some(Symbol::Reg128(low, high)), _) => Ok(Slot::Bits128(low, high)),
            (_, Some(8)) => self.read64(operand).map(Slot::Bits64),
            (_, Some(bytes @ 1..8)) => {
                let cut = u32::MAX >> (32 - 8 * bytes);
                self.read32(operand, cut).map(|register| Slot::Bits32(register, bytes as u8 * 8))
            }
            _ if *operand == Operand::Sink => Ok(Slot::Sink),
            _ => Err(format!("`{operand}` is not a register")),
        }
    }

    /// An integer that is known when the module is read.
    pub fn immediate(&self, index: usize) -> Result<i64, String> {
        match self.get(index)? {
            Operand::Integer(value) => Ok(*value),
            other => Err(format!("`{other}` is not an immediate")),
        }
    }

    /// `[base + offset]`; a bare base is taken as an address too.
    pub fn address(&mut self, index: usize) -> Result<Address, String> {
        let (base, offset, coordinates) = match self.get(index)? {
            Operand::Address { base, offset, coordinates } => (&**base, *offset, &coordinates[..]),
            other => (other, 0, &[][..]),
        };
        let base = match base {
            Operand::Name(name) => match self.builder.symbol(name) {
                Some(Symbol::Reg32 { register, bits: 32 }) => {
                    self.noted.reads.push(Register::Bits32(register));
                    Base::Bits32(register)
                }
                Some(Symbol::Reg64(_) | Symbol::Variable(_)) => Base::Bits64(self.read64(base)?),
                _ => Base::Bits32(self.read32(base, u32::MAX)?),
            },
            _ => Base::Bits64(self.read64(base)?),
        };
        let coordinates =
            coordinates.iter().map(|operand| self.read32(operand, u32::MAX)).collect::<Result<_, _>>()?;
        Ok(Address { base, offset, coordinates })
    }

    /// The parameter that an address names: its offset in the parameters; `None` for other addresses.
    pub fn parameter(&mut self, index: usize) -> Result<Option<i64>, String> {
        let (base, offset) = match self.get(index)? {
            Operand::Address { base, offset, .. } => (&**base, *offset),
            other => (other, 0),
        };
        let Operand::Name(name) = base else { return Ok(None) };
        Ok(match self.builder.symbol(name) {
            Some(Symbol::Param(place)) => Some(i64::from(place) + offset),
            _ => None,
        })
    }

    /// A label: an index into the kernel's branch targets, put into [`Step::Branch`](super::Step::Branch) until all are known.
    pub fn label(&mut self, index: usize) -> Result<u32, String> {
        match self.get(index)? {
            Operand::Name(name) => Ok(self.builder.reference(name)),
            other => Err(format!("`{other}` is not a label")),
        }
    }

    fn read32(&mut self, operand: &Operand<'_>, cut: u32) -> Result<Reg32, String> {
        let register = self.any32(operand, cut)?;
        self.noted.reads.push(Register::Bits32(register));
        Ok(register)
    }

    fn any32(&mut self, operand: &Operand<'_>, cut: u32) -> Result<Reg32, String> {
        let value = match operand {
            Operand::Name(name) => {
                if let Some(special) = special(name)? {
                    return Ok(self.builder.special(special));
                }
                match self.place32(name, 0) {
                    Some(register) => return Ok(register),
                    None => return self.register32(operand),
                }
            }
            Operand::Sum(name, offset) => {
                return self.place32(name, *offset).ok_or_else(|| format!("`{operand}` is not an address"));
            }
            Operand::Integer(value) if i32::try_from(*value).is_ok() || u32::try_from(*value).is_ok() => {
                *value as u32 & cut
            }
            Operand::Single(bits) => *bits,
            Operand::Double(bits) => (f64::from_bits(*bits) as f32).to_bits(),
            Operand::Decimal(value) => (*value as f32).to_bits(),
            other => return Err(format!("`{other}` is not a 32-bit source")),
        };
        Ok(self.builder.constant32(value))
    }

    fn read64(&mut self, operand: &Operand<'_>) -> Result<Reg64, String> {
        let register = self.any64(operand)?;
        self.noted.reads.push(Register::Bits64(register));
        Ok(register)
    }

    fn any64(&mut self, operand: &Operand<'_>) -> Result<Reg64, String> {
        let value = match operand {
            Operand::Name(name) => match (self.place64(name, 0), special(name)?) {
                (Some(register), _) => return Ok(register),
                _ => return self.register64(operand),
            },
            Operand::Sum(name, offset) => {
                return self.place64(name, *offset).ok_or_else(|| format!("`{operand}` is not an address"));
            }
            Operand::Integer(value) => *value as u64,
            Operand::Single(bits) => f64::from(f32::from_bits(*bits)).to_bits(),
            Operand::Double(bits) => *bits,
            Operand::Decimal(value) => value.to_bits(),
            other => return Err(format!("`{other}` is not a 64-bit source")),
        };
        Ok(self.builder.constant64(value))
    }

    /// The place of a variable or parameter in its space.
    fn place32(&mut self, name: &str, offset: i64) -> Option<Reg32> {
        match self.builder.symbol(name)? {
            Symbol::Shared(place) | Symbol::Local(place) | Symbol::Param(place) => {
                Some(self.builder.constant32(place.wrapping_add(offset as u32)))
            }
            Symbol::DynamicShared(align) => Some(self.builder.dynamic_shared32(align, offset as u32)),
            _ => None,
        }
    }

    /// The same of 64 bits, and the address of a module's variable.
    fn place64(&mut self, name: &str, offset: i64) -> Option<Reg64> {
        match self.builder.symbol(name)? {
            Symbol::Shared(place) | Symbol::Local(place) | Symbol::Param(place) => {
                Some(self.builder.constant64(u64::from(place).wrapping_add_signed(offset)))
            }
            Symbol::DynamicShared(align) => Some(self.builder.dynamic_shared64(align, offset as u64)),
            Symbol::Variable(variable) => Some(self.builder.variable(variable, offset)),
            _ => None,
        }
    }

    fn written32(&mut self, operand: &Operand<'_>) -> Result<Reg32, String> {
        let register = self.register32(operand)?;
        self.noted.writes.push(Register::Bits32(register));
        Ok(register)
    }

    fn written64(&mut self, operand: &Operand<'_>) -> Result<Reg64, String> {
        let register = self.register64(operand)?;
        self.noted.writes.push(Register::Bits64(register));
        Ok(register)
    }

    fn register32(&mut self, operand: &Operand<'_>) -> Result<Reg32, String> {
        match self.named(operand) {
            Some(Symbol::Reg32 { register, .. }) => Ok(register),
            _ => Err(format!("`{operand}` is not a register of 32 bits or fewer")),
        }
    }

    fn register64(&mut self, operand: &Operand<'_>) -> Result<Reg64, String> {
        match self.named(operand) {
            Some(Symbol::Reg64(register)) => Ok(register),
            _ => Err(format!("`{operand}` is not a register of 64 bits")),
        }
    }

    fn predicate(&mut self, operand: &Operand<'_>) -> Result<Pred, String> {
        match self.named(operand) {
            Some(Symbol::Pred(pred)) => {
                self.noted.writes.push(Register::Pred(pred));
                Ok(pred)
            }
            _ => Err(format!("`{operand}` is not a predicate")),
        }
    }

    fn named(&mut self, operand: &Operand<'_>) -> Option<Symbol> {
        match operand {
            Operand::Name(name) => self.builder.symbol(name),
            _ => None,
        }
    }
}

fn first<'o>(operand: &'o Operand<'o>) -> &'o Operand<'o> {
    match operand {
        Operand::Pair(first, _) => first,
        other => other,
    }
}

fn elements<'o>(operand: &'o Operand<'o>) -> &'o [Operand<'o>] {
    match operand {
        Operand::Vector(elements) => elements,
        other => std::slice::from_ref(other),
    }
}
