//! preceptor fine-tunes language models with little data.
//!
//! The folders are the floors of a house; a floor uses only floors below it (`tests/architecture.rs`
//! holds that). From the ground up: [`base`], [`tensor`], [`device`], [`ops`], then the neighbours
//! [`adapter`] and [`model`], [`data`], [`sampler`], [`report`], then [`train`], [`config`], [`recipes`] and [`cli`].
//! ARCHITECTURE.md walks along the main path.

pub mod adapter;
pub mod base;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod model;
pub mod ops;
pub mod recipes;
pub mod report;
pub mod sampler;
pub mod tensor;
pub mod train;
