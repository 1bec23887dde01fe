//! A study: every model on every data set in every order with every seed, and what the differences are worth.
//!
//! ```text
//! STUDY.toml -> Study (settings, checked against files and columns)
//!   cells: for each (model, data): one evaluation before training, then strategies x difficulty columns x seeds
//!   OUT/cells/NAME/   cell.json (what it is), the run's own folder, result.json (appears last: the cell is done)
//!   OUT/              study.csv  summary.json  report.html
//! ```
//!
//! A cell is a function of its settings and its data, so it does not matter which process, on which machine, made
//! which cell, and in which order.

mod cells;
mod execute;
mod files;
mod report;
mod result;
mod settings;
mod summary;
mod table;

pub use cells::{Arm, Cell, Shard, Study};
pub use execute::{Ran, run};
pub use files::write;
pub use report::{Words, page};
pub use result::CellResult;
pub use settings::{DataEntry, File, ModelEntry, Settings};
pub use summary::{Comparison, Group, Measured, Row, Summary};
pub use table::{csv, print};
