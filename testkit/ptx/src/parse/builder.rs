//! Gives registers, constants and variables of a kernel their places while its text is read.

use std::collections::HashMap;

use super::declaration::Declaration;
use super::module::Parameter;
use crate::isa::types::Type;
use crate::machine::registers::{Layout, Pred, Reg32, Reg64, Register, Special};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A register of `bits` bits, 32 or fewer.
    Reg32 {
        /// Its place.
        register: Reg32,
        /// Its declared width.
        bits: u8,
    },
    /// A register of 64 bits.
    Reg64(Reg64),
    /// A register of 128 bits: low half, high half.
    Reg128(Reg64, Reg64),
    /// A predicate.
    Pred(Pred),
    /// A shared variable: its offset in the block's shared memory.
    Shared(u32),
    /// `.extern .shared`: starts behind all shared variables, aligned to so many bytes.
    DynamicShared(u32),
    /// A local variable: its offset in the thread's local memory.
    Local(u32),
    /// A parameter of the kernel: its offset.
    Param(u32),
    /// A `.global` or `.const` variable of the module: its index.
    Variable(u32),
}

/// A name that the module declares around its kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// A shared variable; kernels that name it allocate it.
    Shared {
        /// Its bytes.
        bytes: u32,
        /// Its alignment in bytes.
        align: u32,
    },
    /// `.extern .shared`.
    DynamicShared {
        /// Its alignment in bytes.
        align: u32,
    },
    /// A `.global` or `.const` variable: its index.
    Variable(u32),
}

impl Outer {
    pub(super) fn shared(declaration: &Declaration<'_>) -> Self {
        if declaration.open {
            Self::DynamicShared { align: declaration.align }
        } else {
            Self::Shared { bytes: declaration.bytes, align: declaration.align }
        }
    }
}

/// A 64-bit constant that is known when the module's variables have addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Index into the layout's 64-bit constants.
    pub constant: u32,
    /// Index of the variable.
    pub variable: u32,
    /// Bytes added to its address.
    pub offset: i64,
}

/// A branch target that is looked up when the whole body is read.
#[derive(Clone, Debug)]
pub struct LabelReference {
    /// The scope that the reference stands in.
    pub scope: usize,
    /// The label.
    pub name: String,
}

/// The names and constants of one kernel.
#[derive(Debug, Default)]
pub struct Builder {
    /// Registers and what they hold from the start.
    pub layout: Layout,
    /// Addresses to be filled in.
    pub relocations: Vec<Relocation>,
    /// Branch targets to be resolved, in the order of their use.
    pub references: Vec<LabelReference>,
    scopes: Vec<Scope>,
    scope: usize,
    labels: HashMap<(usize, String), u32>,
    constants32: HashMap<u32, Reg32>,
    constants64: HashMap<u64, Reg64>,
    constant_predicates: [Option<Pred>; 2],
    specials: HashMap<Special, Reg32>,
    variables: HashMap<(u32, i64), Reg64>,
    outer: HashMap<String, Outer>,
    shared_bytes: u32,
    shared_align: u32,
    /// Indices of constants that grow by the start of dynamic shared memory when it is known.
    dynamic32: Vec<usize>,
    dynamic64: Vec<usize>,
}

#[derive(Debug, Default)]
struct Scope {
    parent: usize,
    symbols: HashMap<String, Symbol>,
    /// `%r<100>` declares a prefix; its registers get places when they are first used.
    ranges: HashMap<String, (Type, u32)>,
}

impl Builder {
    /// With the names of a kernel's parameters and of the module around it.
    pub fn new(parameters: &[Parameter], outer: &HashMap<&str, Outer>) -> Self {
        let symbols = parameters.iter().map(|it| (it.name.clone(), Symbol::Param(it.offset))).collect();
        Self {
            scopes: vec![Scope { symbols, ..Scope::default() }],
            outer: outer.iter().map(|(name, outer)| ((*name).to_owned(), *outer)).collect(),
            shared_align: 1,
            ..Self::default()
        }
    }

    /// Opens a scope: `{`.
    pub fn open(&mut self) {
        self.scopes.push(Scope { parent: self.scope, ..Scope::default() });
        self.scope = self.scopes.len() - 1;
    }

    /// Closes a scope: `}`; false where only the outermost is left.
    pub fn close(&mut self) -> bool {
        let open = self.scope != 0;
        self.scope = self.scopes[self.scope].parent;
        open
    }

    /// Declares a name in the current scope.
    pub fn declare(&mut self, name: &str, symbol: Symbol) {
        self.scopes[self.scope].symbols.insert(name.to_owned(), symbol);
    }

    /// Declares a register: `.reg .b32 %a`.
    pub fn declare_register(&mut self, name: &str, ty: Type) {
        let symbol = self.register(ty);
        self.declare(name, symbol);
    }

    /// Declares the registers `prefix0` .. `prefix(count-1)`: `.reg .b32 %r<100>`.
    pub fn declare_registers(&mut self, prefix: &str, ty: Type, count: u32) {
        self.scopes[self.scope].ranges.insert(prefix.to_owned(), (ty, count));
    }

    /// What a name means here, from the innermost scope outwards.
    pub fn symbol(&mut self, name: &str) -> Option<Symbol> {
        let mut scope = self.scope;
        loop {
            if let Some(&symbol) = self.scopes[scope].symbols.get(name) {
                return Some(symbol);
            }
            let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
            if let Some(&(ty, count)) = self.scopes[scope].ranges.get(prefix)
                && name[prefix.len()..].parse::<u32>().is_ok_and(|number| number < count)
            {
                let symbol = self.register(ty);
                self.scopes[scope].symbols.insert(name.to_owned(), symbol);
                return Some(symbol);
            }
            if scope == 0 {
                return self.outer_symbol(name);
            }
            scope = self.scopes[scope].parent;
        }
    }

    fn outer_symbol(&mut self, name: &str) -> Option<Symbol> {
        let symbol = match *self.outer.get(name)? {
            Outer::Shared { bytes, align } => Symbol::Shared(self.allocate_shared(bytes, align)),
            Outer::DynamicShared { align } => Symbol::DynamicShared(align),
            Outer::Variable(index) => Symbol::Variable(index),
        };
        self.scopes[0].symbols.insert(name.to_owned(), symbol);
        Some(symbol)
    }

    /// Makes room in shared memory; the result is its offset. What exceeds 32 bits stays at their limit, which
    /// no launch allows.
    pub fn allocate_shared(&mut self, bytes: u32, align: u32) -> u32 {
        let place = self.shared_bytes.checked_next_multiple_of(align).unwrap_or(u32::MAX);
        self.shared_bytes = place.saturating_add(bytes);
        place
    }

    /// The register that holds the start of dynamic shared memory plus `offset`.
    pub fn dynamic_shared32(&mut self, align: u32, offset: u32) -> Reg32 {
        self.shared_align = self.shared_align.max(align);
        let register = self.register32();
        self.dynamic32.push(self.layout.constants32.len());
        self.layout.constants32.push((register, offset));
        register
    }

    /// As [`Builder::dynamic_shared32`], of 64 bits.
    pub fn dynamic_shared64(&mut self, align: u32, offset: u64) -> Reg64 {
        self.shared_align = self.shared_align.max(align);
        let register = self.register64();
        self.dynamic64.push(self.layout.constants64.len());
        self.layout.constants64.push((register, offset));
        register
    }

    /// Fixes where dynamic shared memory starts: behind the static bytes, which are returned.
    pub fn finish_shared(&mut self) -> u32 {
        let start = self.shared_bytes.checked_next_multiple_of(self.shared_align).unwrap_or(u32::MAX);
        for &index in &self.dynamic32 {
            let (_, value) = &mut self.layout.constants32[index];
            *value = value.wrapping_add(start);
        }
        for &index in &self.dynamic64 {
            let (_, value) = &mut self.layout.constants64[index];
            *value = value.wrapping_add(u64::from(start));
        }
        start
    }

    /// A new register of a type.
    pub fn register(&mut self, ty: Type) -> Symbol {
        match ty {
            Type::Pred => Symbol::Pred(self.predicate()),
            Type::B128 => Symbol::Reg128(self.register64(), self.register64()),
            _ if ty.bytes() == 8 => Symbol::Reg64(self.register64()),
            _ => Symbol::Reg32 { register: self.register32(), bits: (ty.bytes() * 8) as u8 },
        }
    }

    /// A new 32-bit register.
    pub fn register32(&mut self) -> Reg32 {
        self.layout.count32 += 1;
        Reg32(self.layout.count32 - 1)
    }

    /// A new 64-bit register.
    pub fn register64(&mut self) -> Reg64 {
        self.layout.count64 += 1;
        Reg64(self.layout.count64 - 1)
    }

    /// A new predicate.
    pub fn predicate(&mut self) -> Pred {
        self.layout.predicates += 1;
        Pred(self.layout.predicates - 1)
    }

    /// The register that holds a 32-bit constant.
    pub fn constant32(&mut self, value: u32) -> Reg32 {
        if let Some(&register) = self.constants32.get(&value) {
            return register;
        }
        let register = self.register32();
        self.constants32.insert(value, register);
        self.layout.constants32.push((register, value));
        register
    }

    /// The register that holds a 64-bit constant.
    pub fn constant64(&mut self, value: u64) -> Reg64 {
        if let Some(&register) = self.constants64.get(&value) {
            return register;
        }
        let register = self.register64();
        self.constants64.insert(value, register);
        self.layout.constants64.push((register, value));
        register
    }

    /// The predicate that is always `value`.
    pub fn constant_predicate(&mut self, value: bool) -> Pred {
        if let Some(predicate) = self.constant_predicates[usize::from(value)] {
            return predicate;
        }
        let predicate = self.predicate();
        self.constant_predicates[usize::from(value)] = Some(predicate);
        self.layout.constant_predicates.push((predicate, value));
        predicate
    }

    /// The register that holds a special register's value.
    pub fn special(&mut self, special: Special) -> Reg32 {
        if let Some(&register) = self.specials.get(&special) {
            return register;
        }
        let register = self.register32();
        self.specials.insert(special, register);
        self.layout.specials.push((register, special));
        register
    }

    /// The register that holds the address of a module's variable plus `offset`.
    pub fn variable(&mut self, variable: u32, offset: i64) -> Reg64 {
        if let Some(&register) = self.variables.get(&(variable, offset)) {
            return register;
        }
        let register = self.register64();
        self.variables.insert((variable, offset), register);
        let constant = self.layout.constants64.len() as u32;
        self.layout.constants64.push((register, 0));
        self.relocations.push(Relocation { constant, variable, offset });
        register
    }

    /// The names of all registers, by their places.
    pub fn register_names(&self) -> HashMap<u32, String> {
        let registers = |symbol: Symbol| match symbol {
            Symbol::Reg32 { register, .. } => [Some(Register::Bits32(register)), None],
            Symbol::Reg64(register) => [Some(Register::Bits64(register)), None],
            Symbol::Reg128(low, high) => [low, high].map(|half| Some(Register::Bits64(half))),
            Symbol::Pred(pred) => [Some(Register::Pred(pred)), None],
            _ => [None, None],
        };
        let named = self.scopes.iter().flat_map(|scope| &scope.symbols);
        let places = named.flat_map(|(name, &symbol)| {
            registers(symbol)
                .into_iter()
                .flatten()
                .map(|register| (self.layout.place(register), name.clone()))
        });
        places.collect()
    }

    /// Defines a label of the current scope; false where it is defined already.
    pub fn label(&mut self, name: &str, target: u32) -> bool {
        self.labels.insert((self.scope, name.to_owned()), target).is_none()
    }

    /// Notes a use of a label in the current scope; the result is an index into `references`.
    pub fn reference(&mut self, name: &str) -> u32 {
        self.references.push(LabelReference { scope: self.scope, name: name.to_owned() });
        self.references.len() as u32 - 1
    }

    /// Where a noted label leads: the innermost definition around its use.
    pub fn resolve(&self, reference: u32) -> Result<u32, String> {
        let LabelReference { scope, name } = &self.references[reference as usize];
        let mut scope = *scope;
        loop {
            if let Some(&target) = self.labels.get(&(scope, name.clone())) {
                return Ok(target);
            }
            if scope == 0 {
                return Err(format!("no label `{name}`"));
            }
            scope = self.scopes[scope].parent;
        }
    }
}
