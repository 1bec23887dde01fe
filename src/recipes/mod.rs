//! Chains of runs: what one training run alone does not answer.
//!
//! [`study`] trains every model on every data set in every order and says what the differences are worth, by
//! [`statistics`]. [`demo`] is a study of what the program carries. [`label`] makes the columns that orders need.

pub mod demo;
pub mod label;
mod quiet;
pub mod statistics;
pub mod study;
