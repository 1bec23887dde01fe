//! Loading foreign libraries.

use std::path::Path;

use libloading::Library;

use crate::base::{Error, Result};

/// Loads the library at `path` for the rest of the process.
///
/// A later request for a library of the same SONAME gets this one: so a test names the driver that CUDA
/// calls will reach, before the first of them.
pub fn preload(path: &Path) -> Result<()> {
    let path = path.canonicalize().map_err(|e| Error::io("open", path, &e))?;
    std::mem::forget(open(path.as_os_str()).map_err(|e| Error::input(e).file(&path))?);
    Ok(())
}

/// Opens a library by path or by a name that the loader knows.
pub(super) fn open(name: impl AsRef<std::ffi::OsStr>) -> std::result::Result<Library, String> {
    // SAFETY: loading runs the library's initialisers. The libraries asked for are NVIDIA's driver, its
    // compiler, or the one that the caller names to stand in for them.
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    unsafe { Library::new(name.as_ref()) }.map_err(|e| format!("cannot load it: {e}"))
}
