//! A kernel's body: scopes, declarations, labels, instructions.

use std::collections::HashMap;

use super::builder::{Builder, Outer, Symbol};
use super::declaration::Declaration;
use super::lexer::Tokens;
use super::module::{Kernel, after};
use super::operand::Operand;
use crate::isa::decode::{Mnemonic, Operands};
use crate::isa::types::Type;
use crate::isa::uses::{self, Noted, Uses};
use crate::isa::{Class, Guard, Instruction, Place, Step, table};

/// Reads `{ .. }` into `kernel`.
pub(super) fn parse(
    tokens: &mut Tokens<'_>,
    names: &HashMap<&str, Outer>,
    kernel: &mut Kernel,
) -> Result<(), String> {
    tokens.expect("{")?;
    let mut body = Body {
        builder: Builder::new(&kernel.parameters, names),
        kernel,
        mnemonics: HashMap::new(),
        noted: Vec::new(),
        branch_targets: HashMap::new(),
        place: Place::default(),
        line: 0,
    };
    loop {
        if tokens.done() {
            return Err(tokens.error(&format!("kernel `{}` has no end", body.kernel.name)));
        }
        if tokens.peek() == "}" && !body.builder.close() {
            tokens.take();
            break;
        }
        if !tokens.accept("}") {
            body.statement(tokens)?;
        }
    }
    body.finish()
}

struct Body<'k, 't> {
    builder: Builder,
    kernel: &'k mut Kernel,
    mnemonics: HashMap<String, u32>,
    /// The registers of each instruction; they get places when all are known.
    noted: Vec<Noted>,
    /// Tables of `brx.idx`.
    branch_targets: HashMap<&'t str, Vec<Operand<'t>>>,
    place: Place,
    line: u32,
}

impl<'t> Body<'_, 't> {
    fn statement(&mut self, tokens: &mut Tokens<'t>) -> Result<(), String> {
        self.line = tokens.line();
        match tokens.peek() {
            "{" => {
                tokens.take();
                self.builder.open();
            }
            ".reg" => self.registers(tokens)?,
            ".shared" | ".local" => self.variable(tokens)?,
            ".loc" => {
                let words = tokens.take_line(self.line);
                let number =
                    |index: usize| words.get(index).and_then(|word: &&str| word.parse().ok()).unwrap_or(0);
                self.place = Place { file: number(1), line: number(2) };
            }
            // `.param` declares what a call passes; the call itself is refused.
            ".pragma" | ".param" => while tokens.take() != ";" && !tokens.done() {},
            _ if tokens.peek_second() == ":" => self.label(tokens)?,
            _ => self.instruction(tokens)?,
        }
        Ok(())
    }

    fn registers(&mut self, tokens: &mut Tokens<'t>) -> Result<(), String> {
        tokens.take();
        let ty = tokens.take();
        let ty = Type::parse(ty.trim_start_matches('.'))
            .ok_or_else(|| tokens.error(&format!("registers of type `{ty}` are not supported")))?;
        loop {
            let name = tokens.take();
            if tokens.accept("<") {
                let count = tokens.number()?;
                self.builder.declare_registers(name, ty, count);
                tokens.expect(">")?;
            } else {
                self.builder.declare_register(name, ty);
            }
            if tokens.accept(";") {
                return Ok(());
            }
            tokens.expect(",")?;
        }
    }

    fn variable(&mut self, tokens: &mut Tokens<'t>) -> Result<(), String> {
        let space = tokens.take();
        let declaration = Declaration::parse(tokens)?;
        tokens.expect(";")?;
        if space == ".shared" {
            let place = self.builder.allocate_shared(declaration.bytes, declaration.align);
            self.builder.declare(declaration.name, Symbol::Shared(place));
        } else {
            let place = after(self.kernel.local_bytes, &declaration);
            let (start, end) = place.ok_or_else(|| tokens.error("local memory of 4 GiB"))?;
            self.kernel.local_bytes = end;
            self.builder.declare(declaration.name, Symbol::Local(start));
        }
        Ok(())
    }

    fn label(&mut self, tokens: &mut Tokens<'t>) -> Result<(), String> {
        let name = tokens.take();
        tokens.take();
        if tokens.accept(".branchtargets") {
            let mut targets = vec![Operand::parse(tokens)?];
            while tokens.accept(",") {
                targets.push(Operand::parse(tokens)?);
            }
            tokens.expect(";")?;
            self.branch_targets.insert(name, targets);
        } else if tokens.accept(".callprototype") {
            while tokens.take() != ";" && !tokens.done() {}
        } else if !self.builder.label(name, self.kernel.code.len() as u32) {
            return Err(tokens.error(&format!("label `{name}` is defined twice in its scope")));
        }
        Ok(())
    }

    fn instruction(&mut self, tokens: &mut Tokens<'t>) -> Result<(), String> {
        let guard = if tokens.accept("@") { Some(self.guard(tokens)?) } else { None };
        self.line = tokens.line();
        let full = tokens.take();
        let mut operands = Vec::new();
        while !tokens.accept(";") {
            if !operands.is_empty() {
                tokens.expect(",")?;
            }
            operands.push(Operand::parse(tokens)?);
        }
        if full == "brx.idx" || full == "brx.idx.uni" {
            return self.indexed_branch(full, guard, &operands);
        }
        self.emit(full, guard, &operands)
    }

    fn guard(&mut self, tokens: &mut Tokens<'t>) -> Result<Guard, String> {
        let negated = tokens.accept("!");
        let name = tokens.take();
        match self.builder.symbol(name) {
            Some(Symbol::Pred(pred)) => Ok(Guard { pred, negated }),
            _ => Err(tokens.error(&format!("`{name}` is not a predicate"))),
        }
    }

    fn emit(&mut self, full: &str, guard: Option<Guard>, operands: &[Operand<'_>]) -> Result<(), String> {
        let mnemonic = Mnemonic::parse(full);
        let decoder = table::decoder(mnemonic.base).ok_or_else(|| self.unsupported(full, ""))?;
        let mut operands = Operands::new(operands, &mut self.builder);
        let decoded = decoder(&mnemonic, &mut operands);
        let noted = operands.into_noted();
        let decoded = decoded.map_err(|reason| self.unsupported(full, &format!(": {reason}")))?;
        self.noted.push(noted);
        let next = self.mnemonics.len() as u32;
        let mnemonic = *self.mnemonics.entry(full.to_owned()).or_insert_with(|| {
            self.kernel.mnemonics.push(full.to_owned());
            next
        });
        self.kernel.code.push(Instruction {
            guard,
            step: decoded.step,
            uses: Uses::default(),
            place: self.place,
            mnemonic,
            class: decoded.class,
        });
        Ok(())
    }

    /// `brx.idx` as one comparison and branch for each entry of its table.
    fn indexed_branch(
        &mut self,
        full: &str,
        guard: Option<Guard>,
        operands: &[Operand<'t>],
    ) -> Result<(), String> {
        let table = match operands {
            [_, Operand::Name(name)] if guard.is_none() => self.branch_targets.get(name).cloned(),
            _ => None,
        };
        let Some(targets) = table else {
            return Err(self.unsupported(full, ": needs a table that stands before it and no guard"));
        };
        const CHOSEN: &str = "%brx";
        for (index, target) in targets.iter().enumerate() {
            self.builder.declare_register(CHOSEN, Type::Pred);
            let Some(Symbol::Pred(pred)) = self.builder.symbol(CHOSEN) else {
                unreachable!("declared above")
            };
            self.emit(
                "setp.eq.u32",
                None,
                &[Operand::Name(CHOSEN), operands[0].clone(), Operand::Integer(index as i64)],
            )?;
            self.emit("bra", Some(Guard { pred, negated: false }), std::slice::from_ref(target))?;
        }
        self.emit("trap", None, &[])
    }

    fn unsupported(&self, full: &str, reason: &str) -> String {
        format!(
            "unsupported instruction `{full}` (PTX line {}, kernel {}){reason}",
            self.line, self.kernel.name
        )
    }

    fn finish(self) -> Result<(), String> {
        let Self { mut builder, kernel, mnemonics, noted, .. } = self;
        for (instruction, noted) in kernel.code.iter_mut().zip(noted) {
            instruction.uses = noted.place(&builder.layout, instruction.class);
        }
        kernel.register_names = builder.register_names();
        for instruction in &mut kernel.code {
            if let Step::Branch(target) = &mut instruction.step {
                *target =
                    builder.resolve(*target).map_err(|error| format!("kernel {}: {error}", kernel.name))?;
            }
        }
        // A body may end without `ret`, or with a label.
        let mnemonic = mnemonics.get("ret").copied().unwrap_or_else(|| {
            kernel.mnemonics.push("ret".to_owned());
            kernel.mnemonics.len() as u32 - 1
        });
        kernel.code.push(Instruction {
            guard: None,
            step: Step::Exit,
            uses: Uses::default(),
            place: Place::default(),
            mnemonic,
            class: Class::Control,
        });
        kernel.static_shared = builder.finish_shared();
        let makes = |instruction: &Instruction| {
            kernel.mnemonics[instruction.mnemonic as usize].starts_with("wgmma.mma_async")
        };
        kernel.promised = uses::promised(&kernel.code, &builder.layout, makes);
        kernel.layout = builder.layout;
        kernel.relocations = builder.relocations;
        Ok(())
    }
}
