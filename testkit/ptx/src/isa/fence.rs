//! Fences between proxies, and for the initialisation of mbarriers.
//!
//! Source: PTX ISA, "membar / fence".

use super::decode::{Decoded, Mnemonic, Operands};
use super::{Class, Flow};

/// Whether a fence is one of this file.
pub fn owns(mnemonic: &Mnemonic<'_>) -> bool {
    mnemonic.modifiers.iter().any(|modifier| modifier.starts_with("proxy") || *modifier == "mbarrier_init")
}

/// `fence.proxy.async{.SPACE}`, `fence.proxy.alias`, `fence.mbarrier_init.release.cluster`.
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    operands.expect(0..=0)?;
    match mnemonic.modifiers[..] {
        ["proxy", "async"]
        | ["proxy", "async", "global" | "shared::cta" | "shared::cluster"]
        | ["proxy", "alias"]
        | ["mbarrier_init", "release", "cluster"] => Ok(Decoded::execute(Class::Async, |_, _| Flow::Next)),
        _ => Err(format!("modifiers .{}", mnemonic.modifiers.join("."))),
    }
}
