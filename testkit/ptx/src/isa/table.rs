//! All instructions: what stands before a mnemonic's first dot, and who decodes it.

use super::decode::Decoder;

/// Bases and decoders. A base that is not listed is refused by name.
pub const DECODERS: &[(&str, Decoder)] = &[
    ("cp", super::async_copy::decode),
    ("ldmatrix", super::matrix::decode_load),
    ("mbarrier", super::mbarrier::decode),
    ("mma", super::mma::decode),
    ("stmatrix", super::matrix::decode_store),
    ("wgmma", super::wgmma::decode),
];

/// The decoder of a base.
pub fn decoder(base: &str) -> Option<Decoder> {
    DECODERS.iter().find(|(name, _)| *name == base).map(|&(_, decoder)| decoder)
}
