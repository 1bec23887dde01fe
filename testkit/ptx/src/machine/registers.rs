//! A warp's registers: three banks, 32 lanes each.
//!
//! Immediates, special registers and addresses of variables are registers too: they are filled once, when
//! a warp starts, so that an instruction reads all its operands alike. Values of 8 and 16 bits live in the
//! 32-bit bank with a zero upper part.

use super::{Lanes32, Lanes64, Mask, WARP};

/// A register of 32 bits or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg32(pub u32);

/// A register of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg64(pub u32);

/// A predicate register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pred(pub u32);

/// A register of any bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// Of 32 bits or fewer.
    Bits32(Reg32),
    /// Of 64 bits.
    Bits64(Reg64),
    /// A predicate.
    Pred(Pred),
}

/// How many registers a kernel uses, and what some of them hold from the start.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Registers of the 32-bit bank.
    pub count32: u32,
    /// Registers of the 64-bit bank.
    pub count64: u32,
    /// Predicates.
    pub predicates: u32,
    /// 32-bit constants.
    pub constants32: Vec<(Reg32, u32)>,
    /// 64-bit constants.
    pub constants64: Vec<(Reg64, u64)>,
    /// Constant predicates.
    pub constant_predicates: Vec<(Pred, bool)>,
    /// 32-bit special registers.
    pub specials: Vec<(Reg32, Special)>,
}

impl Layout {
    /// The place of a register among those of all banks.
    pub fn place(&self, register: Register) -> u32 {
        match register {
            Register::Bits32(Reg32(index)) => index,
            Register::Bits64(Reg64(index)) => self.count32 + index,
            Register::Pred(Pred(index)) => self.count32 + self.count64 + index,
        }
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        (self.count32 + self.count64 + self.predicates) as usize
    }

    /// The lanes of each register, by place, in which it holds no value when a warp starts.
    fn missing(&self) -> Vec<Mask> {
        let mut missing = vec![!0; self.places()];
        let filled = self.constants32.iter().map(|&(register, _)| Register::Bits32(register));
        let filled = filled.chain(self.constants64.iter().map(|&(register, _)| Register::Bits64(register)));
        let filled = filled.chain(self.constant_predicates.iter().map(|&(pred, _)| Register::Pred(pred)));
        let filled = filled.chain(self.specials.iter().map(|&(register, _)| Register::Bits32(register)));
        filled.for_each(|register| missing[self.place(register) as usize] = 0);
        missing
    }
}

/// A special register that does not change while a warp runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `%tid`, by axis.
    Tid(u8),
    /// `%ntid`.
    Ntid(u8),
    /// `%ctaid`.
    Ctaid(u8),
    /// `%nctaid`.
    Nctaid(u8),
    /// `%laneid`.
    Laneid,
    /// `%warpid`.
    Warpid,
    /// `%nwarpid`.
    Nwarpid,
    /// `%lanemask_eq`, `_le`, `_lt`, `_ge`, `_gt`.
    LanemaskEq,
    /// See above.
    LanemaskLe,
    /// See above.
    LanemaskLt,
    /// See above.
    LanemaskGe,
    /// See above.
    LanemaskGt,
    /// `%dynamic_smem_size`.
    DynamicShared,
    /// Always zero: `%cluster_ctarank`, `%cluster_ctaid.*`, `%smid`, ...
    Zero,
    /// Always one: `%cluster_nctarank`, `%cluster_nctaid.*`, `%nsmid`.
    One,
}

/// The values of all registers of one warp.
#[derive(Clone, Debug)]
pub struct Registers {
    bank32: Vec<Lanes32>,
    bank64: Vec<Lanes64>,
    predicates: Vec<Mask>,
    /// The lanes of each register, by [`Layout::place`], in which it holds no value.
    missing: Vec<Mask>,
    /// The place of the first predicate.
    first_pred: u32,
}

impl Registers {
    /// All zero but the constants.
    pub fn new(layout: &Layout) -> Self {
        let mut registers = Self {
            bank32: vec![[0; WARP]; layout.count32 as usize],
            bank64: vec![[0; WARP]; layout.count64 as usize],
            predicates: vec![0; layout.predicates as usize],
            missing: layout.missing(),
            first_pred: layout.count32 + layout.count64,
        };
        for &(register, value) in &layout.constants32 {
            registers.bank32[register.0 as usize] = [value; WARP];
        }
        for &(register, value) in &layout.constants64 {
            registers.bank64[register.0 as usize] = [value; WARP];
        }
        for &(register, value) in &layout.constant_predicates {
            registers.predicates[register.0 as usize] = if value { !0 } else { 0 };
        }
        registers
    }

    /// The lanes of a 32-bit register.
    #[inline(always)]
    pub fn get32(&self, register: Reg32) -> &Lanes32 {
        &self.bank32[register.0 as usize]
    }

    /// The lanes of a 64-bit register.
    #[inline(always)]
    pub fn get64(&self, register: Reg64) -> &Lanes64 {
        &self.bank64[register.0 as usize]
    }

    /// The lanes where a predicate holds.
    #[inline(always)]
    pub fn get_pred(&self, register: Pred) -> Mask {
        self.predicates[register.0 as usize]
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn set32(&mut self, register: Reg32, values: &Lanes32, mask: Mask) {
        put(&mut self.bank32[register.0 as usize], values, mask);
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn set64(&mut self, register: Reg64, values: &Lanes64, mask: Mask) {
        put(&mut self.bank64[register.0 as usize], values, mask);
    }

    /// The lanes in which any of these places holds no value.
    #[inline(always)]
    pub fn missing(&self, places: &[u32]) -> Mask {
        places.iter().fold(0, |lanes, &place| lanes | self.missing[place as usize])
    }

    /// The same of a predicate.
    #[inline(always)]
    pub fn missing_pred(&self, pred: Pred) -> Mask {
        self.missing[(self.first_pred + pred.0) as usize]
    }

    /// These places were written in the lanes of `mask`; of those, `without` hold no value.
    #[inline(always)]
    pub fn written(&mut self, places: &[u32], mask: Mask, without: Mask) {
        for &place in places {
            let missing = &mut self.missing[place as usize];
            *missing = *missing & !mask | without;
        }
    }

    /// The lanes of a 32-bit register, to be changed.
    #[inline(always)]
    pub fn get32_mut(&mut self, register: Reg32) -> &mut Lanes32 {
        &mut self.bank32[register.0 as usize]
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn set_pred(&mut self, register: Pred, values: Mask, mask: Mask) {
        let old = &mut self.predicates[register.0 as usize];
        *old = (*old & !mask) | (values & mask);
    }
}

#[inline(always)]
fn put<T: Copy>(old: &mut [T; WARP], new: &[T; WARP], mask: Mask) {
    if mask == !0 {
        *old = *new;
        return;
    }
    for lane in 0..WARP {
        old[lane] = if mask >> lane & 1 == 1 { new[lane] } else { old[lane] };
    }
}
