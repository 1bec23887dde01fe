//! Files mapped into memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::base::{Error, Result};

/// Maps the whole file at `path`, read-only. An empty file is refused.
#[expect(
    unsafe_code,
    reason = "a mapping's content can change under it; that is the caller's trust in the file"
)]
pub fn map(path: &Path) -> Result<Arc<Mmap>> {
    let fail = |e: std::io::Error| Error::io("open", path, &e);
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() || metadata.len() == 0 {
        let found = if metadata.is_file() { "an empty file" } else { "no regular file" };
        return Err(Error::input(format!("found {found}, needed a file with content")).file(path));
    }
    // SAFETY: the mapping is read-only and private to this process, and every read goes through bounds
    // that were checked against its length. A file that somebody truncates or rewrites while it is
    // mapped breaks this; weights and data are files that nobody edits during a run.
    unsafe { Mmap::map(&file) }.map(Arc::new).map_err(fail)
}
