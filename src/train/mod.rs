//! The only floor that sees model, data and objective together.
//!
//! [`trainer`] is a run, [`step`] one update of it. [`score`] asks a model without training it, [`generate`] lets
//! it write.

pub mod accuracy;
pub mod answer;
pub mod bench;
pub mod checkpoint;
pub mod flops;
pub mod folder;
pub mod forecast;
pub mod generate;
pub mod learner;
pub mod plan;
pub mod same_run;
pub mod schedule;
pub mod score;
pub mod settings;
pub mod shots;
pub mod signals;
pub mod step;
pub mod trainer;
mod updates;

pub use learner::Learner;
pub use settings::Settings;
pub use trainer::{Job, Outcome, run, run_on};
