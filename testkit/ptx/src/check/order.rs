//! Which blocks know of each other's writes through atomics, in launches whose blocks run one by one.
//!
//! An atomic update of a word publishes what its block did so far and whatever it knew, and learns what was
//! published through that word before: locks and counters order blocks so. Every atomic counts as a release
//! and an acquire; a fence that is missing beside a relaxed one is not seen.

use std::collections::{BTreeSet, HashMap};

/// Blocks by number.
type Blocks = BTreeSet<u64>;

/// The order of the blocks of one launch.
#[derive(Debug, Default)]
pub struct Order {
    known: HashMap<u64, Blocks>,
    published: HashMap<u64, Blocks>,
}

impl Order {
    /// A block updates the word at an address.
    pub fn atomic(&mut self, block: u64, address: u64) {
        let published = self.published.entry(address).or_default();
        let known = self.known.entry(block).or_default();
        known.extend(published.iter().copied());
        published.extend(known.iter().copied());
        published.insert(block);
    }

    /// Whether what `other` did is ordered before what `block` does now.
    pub fn knows(&self, block: u64, other: u64) -> bool {
        block == other || self.known.get(&block).is_some_and(|known| known.contains(&other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knowledge_passes_through_a_word_and_along_a_chain() {
        let mut order = Order::default();
        order.atomic(0, 100);
        order.atomic(1, 100);
        order.atomic(1, 200);
        order.atomic(2, 200);
        order.atomic(3, 300);
        assert!(order.knows(1, 0) && order.knows(2, 1) && order.knows(2, 0));
        assert!(!order.knows(0, 1) && !order.knows(3, 0) && order.knows(3, 3));
    }
}
