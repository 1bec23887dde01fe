//! The order of the training data: every strategy as a function of (labels, seed, epoch).
//!
//! ```text
//! data in categories M, S; numbers are difficulties; parts = 2
//!   blocked                  M3 M1 M4 M2 | S2 S1 S3
//!   blocked-curriculum       M1 M2 M3 M4 | S1 S2 S3
//!   interleaved              M3 M1 | S2 S1 | M4 M2 | S3
//!   interleaved-curriculum   M1 M2 | S1 S2 | M3 M4 | S3
//! ```
//!
//! Nothing here keeps state: [`order`](fn@order) draws an epoch's order anew from its arguments, so a resumed run
//! needs no more than the epoch and the place in it, and ranks that ask separately agree.
//! Sources: "Fine-tuning large language models with human-inspired learning strategies in medical
//! question answering", arXiv 2408.07888 (the orders by category and difficulty); Platanios et al.,
//! "Competence-based curriculum learning", NAACL 2019, as used by CMCL, arXiv 2206.14579 (`competence`).

mod competence;
mod file;
mod labels;
mod mixture;
mod order;
mod settings;
mod warnings;

pub use file::{order_hash, write_order};
pub use labels::Labels;
pub use order::order;
pub use settings::{Settings, Strategy};
pub use warnings::warnings;
