//! What paired results of several seeds can show, and what they cannot.
//!
//! Two ways to train are asked the same `n` questions after training with the same `S` seeds. For question k, `d_k`
//! is the number of seeds with which only the first was right, less those with which only the second was:
//! an integer in -S..=S. Everything here is a function of the `d_k`, or of their parts by seed.
//!
//! | question | answer |
//! |---|---|
//! | are they equal, as far as these questions tell? | [`mcnemar()`], with [`holm()`] over all that were asked |
//! | how far apart are they, for other questions and other seeds? | [`bootstrap`] |
//! | what difference would have shown? | [`detectable()`] |
//! | what does a mean over seeds leave open? | [`seeds`] |

pub mod bootstrap;
mod detectable;
mod holm;
mod mcnemar;
mod normal;
pub mod seeds;

pub use detectable::detectable;
pub use holm::holm;
pub use mcnemar::{McNemar, Test, mcnemar};
