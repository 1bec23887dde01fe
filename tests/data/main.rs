//! Dataset lines to tokens to forests, against brute force and stored goldens.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod encode;
mod index;
mod kinds;
mod line;
mod model;
mod pack;
mod template;
