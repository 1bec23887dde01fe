//! The only floor that sees model, data and objective together.
