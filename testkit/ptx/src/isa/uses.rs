//! Which registers an instruction reads and writes, so that a value that nothing wrote is followed to its use.

use super::{Class, Instruction};
use crate::machine::registers::{Layout, Pred, Reg32, Register};

/// The registers of one instruction, its guard left out.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// What it reads, as places of [`Layout::place`].
    pub reads: Box<[u32]>,
    /// What it writes.
    pub writes: Box<[u32]>,
    /// What it does with a source that holds no value.
    pub missing: Missing,
}

/// What becomes of a source that holds no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// The results hold none either: arithmetic, moves.
    #[default]
    Passes,
    /// As before, of the first source where the predicate holds (or not, if negated), else of the second: `selp`.
    Chosen(Pred, bool),
    /// It is wrong: an address, a stored value, a value that other lanes get, an element of a matrix, a barrier.
    Wrong,
}

/// The same while operands are read, before all registers have places.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// What it reads, in the order in which its decoder asks.
    pub reads: Vec<Register>,
    /// What it writes.
    pub writes: Vec<Register>,
    /// The predicate that chooses one of two sources, and whether its negation is meant.
    pub chosen_by: Option<(Pred, bool)>,
}

impl Noted {
    /// With places, for an instruction of a class.
    pub fn place(&self, layout: &Layout, class: Class) -> Uses {
        let places = |list: &[Register]| list.iter().map(|&register| layout.place(register)).collect();
        let missing = match (class, self.chosen_by) {
            (_, Some((pred, negated))) => Missing::Chosen(pred, negated),
            (
                Class::Control
                | Class::Shuffle
                | Class::Memory
                | Class::Async
                | Class::MatrixMove
                | Class::Mma,
                _,
            ) => Missing::Wrong,
            _ => Missing::Passes,
        };
        Uses { reads: places(&self.reads), writes: places(&self.writes), missing }
    }
}

/// The 32-bit registers that may hold a promise of wgmma's (see [`crate::machine::products`]): the accumulators of the
/// instructions that `makes` names, and what copies of them may reach. Arithmetic of floats keeps no promise.
pub fn promised(code: &[Instruction], layout: &Layout, makes: impl Fn(&Instruction) -> bool) -> Vec<Reg32> {
    let mut held = vec![false; layout.places()];
    let mut growing = true;
    while growing {
        growing = false;
        for instruction in code {
            let copies = matches!(instruction.class, Class::Integer | Class::Compare | Class::Shuffle)
                && instruction.uses.reads.iter().any(|&place| held[place as usize]);
            if copies || makes(instruction) {
                for &place in &instruction.uses.writes {
                    growing |= !std::mem::replace(&mut held[place as usize], true);
                }
            }
        }
    }
    (0..layout.count32).filter(|&place| held[place as usize]).map(Reg32).collect()
}
