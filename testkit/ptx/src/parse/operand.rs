//! What stands behind a mnemonic, before names mean anything.

use std::fmt;

use super::lexer::Tokens;

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'t> {
    /// `_`: a result that nobody wants.
    Sink,
    /// A register, special register, variable, parameter or label.
    Name(&'t str),
    /// `variable+4`.
    Sum(&'t str, i64),
    /// `!%p`.
    Not(&'t str),
    /// `%p|%q`: two results.
    Pair(Box<Self>, Box<Self>),
    /// An integer; negative ones as two's complement.
    Integer(i64),
    /// `0fXXXXXXXX`: the bits of an f32.
    Single(u32),
    /// `0dXXXXXXXXXXXXXXXX`: the bits of an f64.
    Double(u64),
    /// `1.5`.
    Decimal(f64),
    /// `{a, b, ..}`, and `(a, b)` of a call.
    Vector(Vec<Self>),
    /// `[base + offset]`, `[base, {coordinates}]`.
    Address {
        /// A register, a variable or an absolute address.
        base: Box<Self>,
        /// Bytes added to the base.
        offset: i64,
        /// A tensor's coordinates; empty where there are none.
        coordinates: Vec<Self>,
    },
}

impl<'t> Operand<'t> {
    /// Reads one operand.
    pub fn parse(tokens: &mut Tokens<'t>) -> Result<Self, String> {
        let token = tokens.peek();
        match token {
            "{" => Ok(Self::Vector(Self::parse_list(tokens, "{", "}")?)),
            "(" => Ok(Self::Vector(Self::parse_list(tokens, "(", ")")?)),
            "[" => Self::parse_address(tokens),
            "_" => {
                tokens.take();
                Ok(if tokens.accept("|") {
                    Self::Pair(Box::new(Self::Sink), Box::new(Self::parse(tokens)?))
                } else {
                    Self::Sink
                })
            }
            "!" => {
                tokens.take();
                Ok(Self::Not(tokens.take()))
            }
            "-" => {
                tokens.take();
                match Self::parse(tokens)? {
                    Self::Integer(value) => Ok(Self::Integer(value.wrapping_neg())),
                    Self::Decimal(value) => Ok(Self::Decimal(-value)),
                    other => Err(tokens.error(&format!("`-{other}` is not a number"))),
                }
            }
            "WARP_SZ" => {
                tokens.take();
                Ok(Self::Integer(32))
            }
            _ if token.starts_with(|c: char| c.is_ascii_digit()) => {
                let number =
                    number(token).ok_or_else(|| tokens.error(&format!("`{token}` is not a number")))?;
                tokens.take();
                Ok(number)
            }
            _ if token.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '%' | '_' | '$')) => {
                tokens.take();
                match tokens.peek() {
                    "|" => {
                        tokens.take();
                        Ok(Self::Pair(Box::new(Self::Name(token)), Box::new(Self::parse(tokens)?)))
                    }
                    "+" | "-" => Ok(Self::Sum(token, parse_offset(tokens)?)),
                    _ => Ok(Self::Name(token)),
                }
            }
            _ => Err(tokens.error(&format!("`{token}` is not an operand"))),
        }
    }

    /// Reads `open a, b, .. close`.
    pub fn parse_list(tokens: &mut Tokens<'t>, open: &str, close: &str) -> Result<Vec<Self>, String> {
        tokens.expect(open)?;
        let mut list = Vec::new();
        while !tokens.accept(close) {
            if !list.is_empty() {
                tokens.expect(",")?;
            }
            list.push(Self::parse(tokens)?);
        }
        Ok(list)
    }

    fn parse_address(tokens: &mut Tokens<'t>) -> Result<Self, String> {
        tokens.expect("[")?;
        let (base, offset) = match Self::parse(tokens)? {
            Self::Sum(name, offset) => (Self::Name(name), offset),
            base => (base, parse_offset(tokens)?),
        };
        let coordinates = if tokens.accept(",") { Self::parse_list(tokens, "{", "}")? } else { Vec::new() };
        tokens.expect("]")?;
        Ok(Self::Address { base: Box::new(base), offset, coordinates })
    }
}

/// Reads `+4`, `+-4`, `-4` or nothing.
fn parse_offset(tokens: &mut Tokens<'_>) -> Result<i64, String> {
    if tokens.peek() != "-" && !tokens.accept("+") {
        return Ok(0);
    }
    match Operand::parse(tokens)? {
        Operand::Integer(offset) => Ok(offset),
        other => Err(tokens.error(&format!("`{other}` is not an offset"))),
    }
}

/// A literal: decimal, `0x`, `0b`, octal, with `U`; `0f` and `0d` bits; a decimal fraction.
fn number<'t>(text: &str) -> Option<Operand<'t>> {
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let prefix = text.get(..2).unwrap_or_default();
    let digits = text.get(2..).unwrap_or_default();
    match prefix {
        "0f" | "0F" if digits.len() == 8 => return hex(digits).map(|bits| Operand::Single(bits as u32)),
        "0d" | "0D" if digits.len() == 16 => return hex(digits).map(Operand::Double),
        _ => {}
    }
    let whole = text.strip_suffix('U').unwrap_or(text);
    let value = match prefix {
        "0x" | "0X" => u64::from_str_radix(&whole[2..], 16).ok(),
        "0b" | "0B" => u64::from_str_radix(&whole[2..], 2).ok(),
        _ if whole.len() > 1 && whole.starts_with('0') => u64::from_str_radix(&whole[1..], 8).ok(),
        _ => whole.parse().ok(),
    };
    match value {
        Some(value) => Some(Operand::Integer(value as i64)),
        None => text.parse().ok().filter(|_| text.contains(['.', 'e', 'E'])).map(Operand::Decimal),
    }
}

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink => f.write_str("_"),
            Self::Name(name) => f.write_str(name),
            Self::Sum(name, offset) => write!(f, "{name}+{offset}"),
            Self::Not(name) => write!(f, "!{name}"),
            Self::Pair(first, second) => write!(f, "{first}|{second}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Single(bits) => write!(f, "0f{bits:08X}"),
            Self::Double(bits) => write!(f, "0d{bits:016X}"),
            Self::Decimal(value) => write!(f, "{value:?}"),
            Self::Vector(elements) => write!(f, "{{{}}}", list(elements)),
            Self::Address { base, offset, coordinates } => {
                write!(f, "[{base}")?;
                if *offset != 0 {
                    write!(f, "+{offset}")?;
                }
                if !coordinates.is_empty() {
                    write!(f, ", {{{}}}", list(coordinates))?;
                }
                f.write_str("]")
            }
        }
    }
}

fn list(operands: &[Operand<'_>]) -> String {
    operands.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Operand<'_>, String> {
        Operand::parse(&mut Tokens::new(text)?)
    }

    #[test]
    fn numbers_of_every_form() {
        let cases = [
            ("17", Operand::Integer(17)),
            ("-1", Operand::Integer(-1)),
            ("0x1FU", Operand::Integer(31)),
            ("0b101", Operand::Integer(5)),
            ("017", Operand::Integer(15)),
            ("0", Operand::Integer(0)),
            ("0xFFFFFFFFFFFFFFFF", Operand::Integer(-1)),
            ("-9223372036854775808", Operand::Integer(i64::MIN)),
            ("0f3F800000", Operand::Single(1.0_f32.to_bits())),
            ("0dBFF0000000000000", Operand::Double((-1.0_f64).to_bits())),
            ("-2.5", Operand::Decimal(-2.5)),
            ("1e3", Operand::Decimal(1000.0)),
            ("WARP_SZ", Operand::Integer(32)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["0xG", "12ab", "0f3F8", "-%r1", ";"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_offsets_and_coordinates() {
        let text = |text| parse(text).unwrap().to_string();
        assert_eq!(text("[%rd1+-8]"), "[%rd1+-8]");
        assert_eq!(text("[%rd1-8]"), "[%rd1+-8]");
        assert_eq!(text("[tile+16]"), "[tile+16]");
        assert_eq!(text("[%rd1, {%r1,%r2}]"), "[%rd1, {%r1, %r2}]");
        assert_eq!(text("{%f1, _, 0f00000000}"), "{%f1, _, 0f00000000}");
        assert_eq!(text("%p1|_"), "%p1|_");
        assert_eq!(text("tile+4"), "tile+4");
        assert!(parse("[%rd1+%r2]").is_err());
    }
}
