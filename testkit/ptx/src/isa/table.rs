//! All instructions: what stands before a mnemonic's first dot, and who decodes it.

use super::decode::Decoder;
use super::{arithmetic, bits, compare, float, integer, special};

/// Bases and decoders. A base that is not listed is refused by name.
pub const DECODERS: &[(&str, Decoder)] = &[
    ("abs", arithmetic::abs),
    ("add", arithmetic::add),
    ("and", bits::and),
    ("bfe", bits::bfe),
    ("bfi", bits::bfi),
    ("bfind", bits::bfind),
    ("brev", bits::brev),
    ("clz", bits::clz),
    ("cnot", bits::cnot),
    ("copysign", float::copysign),
    ("cos", special::cos),
    ("div", arithmetic::div),
    ("ex2", special::ex2),
    ("fma", arithmetic::fma),
    ("lg2", special::lg2),
    ("lop3", bits::lop3),
    ("mad", arithmetic::mad),
    ("max", arithmetic::max),
    ("min", arithmetic::min),
    ("mul", arithmetic::mul),
    ("neg", arithmetic::neg),
    ("not", bits::not),
    ("or", bits::or),
    ("popc", bits::popc),
    ("prmt", bits::prmt),
    ("rcp", special::rcp),
    ("rem", integer::rem),
    ("rsqrt", special::rsqrt),
    ("sad", integer::sad),
    ("selp", compare::selp),
    ("set", compare::set),
    ("setp", compare::setp),
    ("shf", bits::shf),
    ("shl", bits::shl),
    ("shr", bits::shr),
    ("sin", special::sin),
    ("slct", compare::slct),
    ("sqrt", special::sqrt),
    ("sub", arithmetic::sub),
    ("tanh", special::tanh),
    ("testp", compare::testp),
    ("xor", bits::xor),
];

/// The decoder of a base.
pub fn decoder(base: &str) -> Option<Decoder> {
    DECODERS.iter().find(|(name, _)| *name == base).map(|&(_, decoder)| decoder)
}
