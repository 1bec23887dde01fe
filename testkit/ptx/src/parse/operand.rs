//! What stands behind a mnemonic, before names mean anything.

use std::fmt;

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'t> {
    /// `_`: a result that nobody wants.
    Sink,
    /// A register, special register, variable, parameter or label.
    Name(&'t str),
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

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink => f.write_str("_"),
            Self::Name(name) => f.write_str(name),
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
