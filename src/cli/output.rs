//! Standard output: data only, and a reader that goes away (`| head`) is no error.

use std::io::{self, Write};

use crate::base::{Error, Result};

/// Writes to stdout by `write`, buffered; a closed pipe ends the output silently.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::environment(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
