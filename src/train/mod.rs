//! The only floor that sees model, data and objective together.
//!
//! [`trainer`] is a run, [`step`] one update of it. [`score`] asks a model without training it.

pub mod accuracy;
pub mod checkpoint;
pub mod flops;
pub mod folder;
pub mod learner;
pub mod plan;
mod same_run;
pub mod schedule;
pub mod score;
pub mod settings;
pub mod signals;
pub mod step;
pub mod trainer;

pub use learner::Learner;
pub use settings::Settings;
pub use trainer::{Job, Outcome, run};
