//! Declarations of variables and parameters: `.align 16 .b8 name[64] = {1, 2}`.

use super::lexer::Tokens;
use super::operand::Operand;
use crate::isa::types::Type;

/// A declared variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declaration<'t> {
    pub(super) name: &'t str,
    pub(super) bytes: u32,
    pub(super) align: u32,
    /// `name[]`: the size is given at launch.
    pub(super) open: bool,
    /// The bytes of its initialiser; empty where there is none.
    pub(super) initial: Vec<u8>,
}

impl<'t> Declaration<'t> {
    /// Reads what follows the state space, up to the `;`, `,` or `)` behind it.
    pub(super) fn parse(tokens: &mut Tokens<'t>) -> Result<Self, String> {
        let (mut align, mut ty, mut lanes, mut pointer) = (None, None, 1_u64, false);
        while tokens.peek().starts_with('.') {
            let line = tokens.error("");
            match tokens.take() {
                ".align" => {
                    let bytes: u32 = tokens.number()?;
                    // Behind `.ptr` it is the pointee's.
                    if !pointer {
                        align = Some(bytes);
                    }
                }
                ".ptr" => pointer = true,
                ".global" | ".shared" | ".const" | ".local" if pointer => {}
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                other => match Type::parse(&other[1..]) {
                    Some(parsed) => ty = Some(parsed),
                    None => return Err(format!("{line}`{other}` in a declaration")),
                },
            }
        }
        let ty = ty.ok_or_else(|| tokens.error("a declaration without a type"))?;
        let name = tokens.take();
        let (mut elements, mut open) = (lanes, false);
        while tokens.accept("[") {
            if tokens.peek() == "]" {
                open = true;
            } else {
                let count: u64 = tokens.number()?;
                elements =
                    elements.checked_mul(count).ok_or_else(|| tokens.error("a variable without end"))?;
            }
            tokens.expect("]")?;
        }
        let width = u64::from(ty.bytes());
        let align = align.unwrap_or(ty.bytes() * lanes as u32);
        if !align.is_power_of_two() {
            return Err(tokens.error(&format!("`{name}` is aligned to {align} bytes")));
        }
        let mut initial = Vec::new();
        if tokens.accept("=") {
            let value = Operand::parse(tokens)?;
            bytes_of(&value, ty, &mut initial).map_err(|message| tokens.error(&message))?;
        }
        let bytes = if open { Some(initial.len() as u64) } else { elements.checked_mul(width) };
        // what does not fit 32 bits fits no memory that a launch has
        let bytes = bytes.filter(|&bytes| bytes < 1 << 32);
        let bytes = bytes.ok_or_else(|| tokens.error(&format!("`{name}` has 4 GiB or more")))? as u32;
        if initial.len() > bytes as usize {
            return Err(
                tokens.error(&format!("`{name}` has {bytes} bytes and {} bytes of values", initial.len()))
            );
        }
        Ok(Self { name, bytes, align, open, initial })
    }
}

fn bytes_of(value: &Operand<'_>, ty: Type, bytes: &mut Vec<u8>) -> Result<(), String> {
    let bits = match (value, ty) {
        (Operand::Vector(elements), _) => {
            return elements.iter().try_for_each(|element| bytes_of(element, ty, bytes));
        }
        (Operand::Integer(value), _) => *value as u64,
        (Operand::Single(bits), Type::F64) => f64::from(f32::from_bits(*bits)).to_bits(),
        (Operand::Single(bits), _) => u64::from(*bits),
        (Operand::Double(bits), Type::F32) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
        (Operand::Double(bits), _) => *bits,
        (Operand::Decimal(value), Type::F32) => u64::from((*value as f32).to_bits()),
        (Operand::Decimal(value), Type::F64) => value.to_bits(),
        (other, _) => return Err(format!("`{other}` as a value of a variable is not supported")),
    };
    let width = ty.bytes() as usize;
    bytes.extend_from_slice(&bits.to_le_bytes()[..width.min(8)]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Declaration<'_>, String> {
        Declaration::parse(&mut Tokens::new(text).unwrap())
    }

    #[test]
    fn sizes_alignments_and_values() {
        let array = parse(".align 16 .b8 tile[64]").unwrap();
        assert_eq!((array.name, array.bytes, array.align, array.open), ("tile", 64, 16, false));
        let open = parse(".align 128 .b8 smem[]").unwrap();
        assert_eq!((open.bytes, open.align, open.open), (0, 128, true));
        let pointer = parse(".u64 .ptr .global .align 1 x").unwrap();
        assert_eq!((pointer.bytes, pointer.align), (8, 8));
        let table = parse(".u16 t[2][2] = {{1, -1}, {3}}").unwrap();
        assert_eq!((table.bytes, &table.initial[..]), (8, &[1, 0, 255, 255, 3, 0][..]));
        let pair = parse(".v2 .f32 p").unwrap();
        assert_eq!((pair.bytes, pair.align), (8, 8));
        assert_eq!(parse(".f32 pi = 0f40490FDB").unwrap().initial, 0x4049_0FDB_u32.to_le_bytes());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(parse(".texref t").unwrap_err(), "PTX line 1: `.texref` in a declaration");
        assert!(parse(".u64 p = other").unwrap_err().contains("`other` as a value"));
        assert!(parse(".align 3 .b8 x[3]").unwrap_err().contains("aligned to 3"));
        assert!(parse(".u8 x[1] = {1, 2}").unwrap_err().contains("2 bytes of values"));
    }
}
