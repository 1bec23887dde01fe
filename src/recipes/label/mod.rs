//! Makes the columns that orders need: a difficulty from how sure models are, topics from what lines are about.

mod column;
pub mod difficulty;
pub mod embed;
pub mod kmeans;
mod telling;
pub mod topics;
