//! The only floor that sees model, data and objective together.

pub mod schedule;
pub mod step;
