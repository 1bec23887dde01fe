//! Fences between proxies, and for the initialisation of mbarriers.
//!
//! Plain stores and cp.async work through the generic proxy, bulk copies and wgmma through the asynchronous
//! one. That one sees what the other wrote only behind a `fence.proxy.async`: by who wrote, before a barrier
//! makes the write visible, or by who reads, after it. Only shared memory is checked for that.
//!
//! Source: PTX ISA, "membar / fence".

use super::decode::{Decoded, Mnemonic, Operands};
use super::{Class, Flow, control};

/// `fence.proxy.async{.SPACE}`, `fence.proxy.alias`, `fence.mbarrier_init.release.cluster`, and the fences of
/// [`control::fence`].
pub fn decode(mnemonic: &Mnemonic<'_>, operands: &mut Operands<'_>) -> Result<Decoded, String> {
    match mnemonic.modifiers[..] {
        ["proxy", "async"] | ["proxy", "async", "shared::cta" | "shared::cluster"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |x, mask| {
                x.block.clocks.fence_proxy(x.warp.id, mask, x.warp.live);
                Flow::Next
            }))
        }
        ["proxy", "async", "global"] | ["proxy", "alias"] | ["mbarrier_init", "release", "cluster"] => {
            operands.expect(0..=0)?;
            Ok(Decoded::execute(Class::Async, |_, _| Flow::Next))
        }
        _ => control::fence(mnemonic, operands),
    }
}
