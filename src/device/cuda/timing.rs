//! Time on the device's own clock.

use cudarc::driver::sys::CUevent_flags;

use super::{Cuda, failed};
use crate::base::Result;

impl Cuda {
    /// Milliseconds that the device takes for the work that `queue` puts on the stream, between two events.
    pub fn elapsed_ms(&self, queue: impl FnOnce() -> Result<()>) -> Result<f64> {
        let event = || {
            let flags = Some(CUevent_flags::CU_EVENT_DEFAULT); // with a time stamp
            self.stream.record_event(flags).map_err(|e| failed("record an event", e))
        };
        let start = event()?;
        queue()?;
        let end = event()?;
        Ok(f64::from(start.elapsed_ms(&end).map_err(|e| failed("read a time", e))?))
    }
}
