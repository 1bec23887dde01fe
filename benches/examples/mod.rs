//! An update's examples, as long as real ones.

use preceptor::base::philox::{Philox, Purpose};
use preceptor::data::Tokenized;

/// Examples of an update, tokens that those of one question share, and each one's own.
const EXAMPLES: usize = 64;
const SHARED: usize = 200;
const OWN: usize = 20;
/// Tokens of a micro-batch.
pub(crate) const BUDGET: usize = 4096;

/// Examples in runs of `alike` that begin with the same tokens.
pub(crate) fn examples(alike: usize) -> Vec<Tokenized> {
    let mut numbers = Philox::new(1, Purpose::Sampling).stream([0; 3]);
    let mut tokens = |len: usize| -> Vec<u32> { (0..len).map(|_| numbers.below(49_152)).collect() };
    let mut examples = Vec::with_capacity(EXAMPLES);
    while examples.len() < EXAMPLES {
        let prefix = tokens(SHARED);
        for _ in 0..alike.min(EXAMPLES - examples.len()) {
            examples.push(Tokenized::prompt(&[prefix.clone(), tokens(OWN)].concat()));
        }
    }
    examples
}
