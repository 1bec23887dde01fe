//! Progress of a run on stderr: a bar on a terminal, log lines elsewhere, and neither for whom information is not
//! logged.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use super::StepMetrics;

const TEMPLATE: &str = "{bar:24} {pos}/{len}  {msg}  {eta} left";

/// Shows how far a run is; the caller decides how often.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    total_steps: u64,
}

impl Progress {
    /// A run of `total_steps` updates, `done` of which a resumed run has behind it.
    pub fn new(done: u64, total_steps: u64) -> Self {
        let is_shown = tracing::enabled!(tracing::Level::INFO) && stderr().is_terminal();
        let bar = is_shown.then(|| bar(done, total_steps));
        Self { bar, total_steps }
    }

    /// Shows the state after an update.
    pub fn step(&self, metrics: &StepMetrics) {
        let StepMetrics { step, loss, tokens_per_s, learning_rate, .. } = metrics;
        match &self.bar {
            Some(bar) => {
                bar.set_position(*step);
                bar.set_message(format!("loss {loss:.4}  {tokens_per_s:.0} tokens/s"));
            }
            None => tracing::info!(
                "step {step}/{}: loss {loss:.4}, {tokens_per_s:.0} tokens/s, learning rate {learning_rate:.3e}",
                self.total_steps
            ),
        }
    }

    /// Logs a line, with the bar out of its way.
    pub fn say(&self, line: &str) {
        let log = || tracing::info!("{line}");
        match &self.bar {
            Some(bar) => bar.suspend(log),
            None => log(),
        }
    }
}

fn bar(done: u64, total_steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("a test builds this bar");
    let bar = ProgressBar::new(total_steps).with_style(style);
    bar.set_position(done);
    bar.reset_eta(); // or the updates of an earlier process would count as this one's speed
    bar
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_bar_starts_where_the_run_stands() {
        let bar = bar(30, 110);
        assert_eq!((bar.position(), bar.length()), (30, Some(110)));
    }
}
