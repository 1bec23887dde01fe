//! What every floor may use: errors, random numbers, atomic files, hashes.

pub mod error;
pub mod files;
pub mod hash;
pub mod philox;

pub use error::{Error, Kind, Result};
