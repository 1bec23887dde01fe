//! Every op against the plain form of its equation in f64, and its gradient against central differences.
//!
//! A reference is written in [`approx::Approx`]: the exact value, together with how far rounding can take f32
//! arithmetic from it. No tolerance is a number of its own.

mod adamw;
mod approx;
mod attention;
mod attention_truth;
mod cross_entropy;
mod dropout;
mod embedding;
mod gated;
mod inputs;
mod linear;
mod lora;
mod rmsnorm;
mod rope;
mod rows;
