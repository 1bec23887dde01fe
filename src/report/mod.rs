//! What a run leaves behind: metrics lines, TensorBoard events, an HTML page; and what it shows meanwhile.
//!
//! Plain structs come in, files go out; nothing here calls back into a run.

mod axis;
pub mod chart;
pub mod dot_whisker;
mod drawing;
pub mod metrics;
mod order_strip;
pub mod page;
mod progress;
pub mod run;
mod tensorboard;

pub use metrics::{EvalMetrics, Line, MetricsLog, StepMetrics};
pub use order_strip::{OrderItem, order_strip};
pub use progress::Progress;
pub use tensorboard::EventsFile;
