//! Fences between proxies, and for the initialisation of mbarriers.
//!
//! Source: PTX ISA, "membar / fence".

use super::decode::{Decoded, Mnemonic, Operands};
use super::{Class, Flow, control};

/// `fence.proxy.async{.SPACE}`, `fence.proxy.alias`, `fence.mbarrier_init.release.cluster`, and the fences of
/// [`control::fence`].
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    match mnemonic.modifiers[..] {
        ["proxy", "async"]
        | ["proxy", "async", "global" | "shared::cta" | "shared::cluster"]
        | ["proxy", "alias"]
        | ["mbarrier_init", "release", "cluster"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |_, _| Flow::Next))
        }
        _ => control::fence(mnemonic, operands),
    }
}
