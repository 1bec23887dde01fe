//! A module: its kernels, its variables and where its lines come from.

use std::collections::HashMap;

use super::body;
use super::builder::{Outer, Relocation};
use super::declaration::Declaration;
use super::lexer::Tokens;
use crate::isa::Instruction;
use crate::machine::registers::{Layout, Reg32};
use crate::memory::global::Memory;

/// Everything in one PTX text.
#[derive(Default)]
pub struct Module {
    /// Its PTX version, `8.7`.
    pub version: String,
    /// The architecture that it was written for, `sm_80`.
    pub target: String,
    /// Its `.entry` functions, in the order of the text.
    pub kernels: Vec<Kernel>,
    /// Source files by the number that `.loc` uses; empty where a number is not used.
    pub files: Vec<String>,
    /// Its `.global` and `.const` variables; see [`Module::place`].
    pub variables: Vec<Variable>,
}

/// An `.entry` function.
#[derive(Default)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of all parameters with the gaps between them.
    pub parameter_bytes: u32,
    /// Bytes of shared memory that it declares; dynamic shared memory starts behind them.
    pub static_shared: u32,
    /// Bytes of local memory of each thread.
    pub local_bytes: u32,
    /// `.maxntid`: the most threads that a block may have.
    pub max_threads: Option<u32>,
    /// `.reqntid`: the only shape that a block may have.
    pub required_threads: Option<[u32; 3]>,
    /// Its instructions; branches lead to indices into them.
    pub code: Vec<Instruction>,
    /// Full mnemonics, by [`Instruction::mnemonic`].
    pub mnemonics: Vec<String>,
    /// Its registers.
    pub layout: Layout,
    /// What the text calls them, by [`Layout::place`].
    pub register_names: HashMap<u32, String>,
    /// Registers that may hold the promise of a product that is on its way.
    pub promised: Vec<Reg32>,
    /// Constants that hold addresses of the module's variables.
    pub relocations: Vec<Relocation>,
}

/// A kernel's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it starts in the parameters.
    pub offset: u32,
    /// Its bytes.
    pub bytes: u32,
    /// Its alignment in bytes.
    pub align: u32,
}

/// A `.global` or `.const` variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u32,
    /// The values that it starts with; zeros follow.
    pub initial: Vec<u8>,
    /// Where it is, once placed.
    pub address: Option<u64>,
}

impl Module {
    /// Reads a module. An error names the line and, for an instruction, its full mnemonic and its kernel.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens::new(text)?;
        let mut module = Self::default();
        let mut names = HashMap::new();
        while !tokens.done() {
            module.statement(&mut tokens, &mut names)?;
        }
        Ok(module)
    }

    /// A kernel by name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// Allocates the module's variables, writes their first values and tells the kernels their addresses.
    /// Needed once, before the first launch, where `variables` is not empty.
    pub fn place(&mut self, memory: &Memory) -> Result<(), String> {
        for variable in &mut self.variables {
            let address = memory.allocate(variable.bytes as usize, &variable.name);
            let mut bytes = variable.initial.clone();
            bytes.resize(variable.bytes as usize, 0);
            memory
                .write(address, &bytes)
                .map_err(|error| format!("variable `{}`: {error}", variable.name))?;
            variable.address = Some(address);
        }
        for kernel in &mut self.kernels {
            for relocation in &kernel.relocations {
                let address = self.variables[relocation.variable as usize].address.expect("placed above");
                let (_, value) = &mut kernel.layout.constants64[relocation.constant as usize];
                *value = address.wrapping_add_signed(relocation.offset);
            }
        }
        Ok(())
    }

    fn statement<'t>(
        &mut self,
        tokens: &mut Tokens<'t>,
        names: &mut HashMap<&'t str, Outer>,
    ) -> Result<(), String> {
        let line = tokens.line();
        let word = tokens.take();
        match word {
            ".version" => self.version = tokens.take().to_owned(),
            ".target" => self.target = tokens.take_line(line).first().copied().unwrap_or_default().to_owned(),
            ".address_size" => {
                if tokens.take() != "64" {
                    return Err(format!("PTX line {line}: addresses of 64 bits only"));
                }
            }
            ".file" => {
                self.file(&tokens.take_line(line)).map_err(|error| format!("PTX line {line}: {error}"))?;
            }
            ".visible" | ".weak" | ".extern" | ".common" | ";" => {}
            ".entry" => self.entry(tokens, names)?,
            ".func" => skip_function(tokens)?,
            ".section" => {
                tokens.take();
                tokens.skip_braces()?;
            }
            ".pragma" | ".alias" => skip_statement(tokens),
            ".shared" => {
                let declaration = Declaration::parse(tokens)?;
                tokens.expect(";")?;
                names.insert(declaration.name, Outer::shared(&declaration));
            }
            ".global" | ".const" => {
                let declaration = Declaration::parse(tokens)?;
                tokens.expect(";")?;
                names.insert(declaration.name, Outer::Variable(self.variables.len() as u32));
                self.variables.push(Variable {
                    name: declaration.name.to_owned(),
                    bytes: declaration.bytes,
                    initial: declaration.initial,
                    address: None,
                });
            }
            _ => return Err(format!("PTX line {line}: `{word}` outside of a function")),
        }
        Ok(())
    }

    fn file(&mut self, words: &[&str]) -> Result<(), String> {
        let number = words.first().and_then(|text| text.parse::<u16>().ok()).map(usize::from);
        let (Some(number), Some(name)) = (number, words.get(1)) else {
            return Err("a file without number or name".to_owned());
        };
        if self.files.len() <= number {
            self.files.resize(number + 1, String::new());
        }
        self.files[number] = name.trim_matches('"').to_owned();
        Ok(())
    }

    fn entry<'t>(&mut self, tokens: &mut Tokens<'t>, names: &HashMap<&'t str, Outer>) -> Result<(), String> {
        let mut kernel = Kernel { name: tokens.take().to_owned(), ..Kernel::default() };
        if tokens.accept("(") {
            while !tokens.accept(")") {
                tokens.accept(",");
                tokens.expect(".param")?;
                let declaration = Declaration::parse(tokens)?;
                let place = after(kernel.parameter_bytes, &declaration);
                let (offset, end) = place.ok_or_else(|| tokens.error("parameters of 4 GiB"))?;
                kernel.parameter_bytes = end;
                kernel.parameters.push(Parameter {
                    name: declaration.name.to_owned(),
                    offset,
                    bytes: declaration.bytes,
                    align: declaration.align,
                });
            }
        }
        while tokens.peek() != "{" {
            if tokens.accept(";") {
                return Ok(()); // declared, not defined
            }
            kernel.directive(tokens)?;
        }
        body::parse(tokens, names, &mut kernel)?;
        self.kernels.push(kernel);
        Ok(())
    }
}

impl Kernel {
    fn directive(&mut self, tokens: &mut Tokens<'_>) -> Result<(), String> {
        let line = tokens.line();
        match tokens.take() {
            ".maxntid" => self.max_threads = Some(product(shape(tokens)?)),
            ".reqntid" => {
                let shape = shape(tokens)?;
                self.max_threads = Some(product(shape));
                self.required_threads = Some(shape);
            }
            // Hints to the register allocator.
            ".minnctapersm" | ".maxnctapersm" | ".maxnreg" => {
                tokens.number::<u32>()?;
            }
            ".reqnctapercluster" if shape(tokens)? == [1, 1, 1] => {}
            ".reqnctapercluster" => {
                return Err(format!("PTX line {line}: clusters of blocks are not supported"));
            }
            ".pragma" => skip_statement(tokens),
            other => return Err(format!("PTX line {line}: kernel directive `{other}` is not supported")),
        }
        Ok(())
    }
}

/// Where a variable starts and ends that is placed behind `used` bytes; `None` beyond 32 bits.
pub(super) fn after(used: u32, declaration: &Declaration<'_>) -> Option<(u32, u32)> {
    let start = used.checked_next_multiple_of(declaration.align)?;
    Some((start, start.checked_add(declaration.bytes)?))
}

/// Reads `128`, `128, 1` or `128, 1, 1`.
fn shape(tokens: &mut Tokens<'_>) -> Result<[u32; 3], String> {
    let mut shape = [tokens.number()?, 1, 1];
    for axis in &mut shape[1..] {
        if tokens.accept(",") {
            *axis = tokens.number()?;
        }
    }
    Ok(shape)
}

fn product(shape: [u32; 3]) -> u32 {
    shape.iter().fold(1, |product: u32, &axis| product.saturating_mul(axis))
}

/// Skips a function: kernels cannot call any, so nothing in it is executed.
fn skip_function(tokens: &mut Tokens<'_>) -> Result<(), String> {
    while !tokens.done() && !matches!(tokens.peek(), "{" | ";") {
        tokens.take();
    }
    if tokens.accept(";") { Ok(()) } else { tokens.skip_braces() }
}

fn skip_statement(tokens: &mut Tokens<'_>) {
    while !tokens.done() && tokens.take() != ";" {}
}
