//! Signals that ask a run to stop: it finishes the update, writes a checkpoint and exits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::base::{Error, Result};

/// The last stop signal received, if any.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicUsize>);

impl StopSignal {
    /// Listens for SIGINT and SIGTERM. A second one ends the process at once, as it would without us.
    pub fn listen() -> Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            let seen = Arc::clone(&stop.0);
            let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
            // Order matters: the default action runs only once the flag is already set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&armed))
                .and_then(|_| signal_hook::flag::register(signal, armed))
                .and_then(|_| signal_hook::flag::register_usize(signal, seen, signal as usize))
                .map_err(|e| Error::environment(format!("cannot listen for signal {signal}: {e}")))?;
        }
        Ok(stop)
    }

    /// The signal's number, once there was one.
    pub fn received(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as u8),
        }
    }
}
