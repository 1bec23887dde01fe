//! All instructions: what stands before a mnemonic's first dot, and who decodes it.

use super::decode::Decoder;

/// Bases and decoders. A base that is not listed is refused by name.
pub const DECODERS: &[(&str, Decoder)] = &[];

/// The decoder of a base.
pub fn decoder(base: &str) -> Option<Decoder> {
    DECODERS.iter().find(|(name, _)| *name == base).map(|&(_, decoder)| decoder)
}
