//! Files that are either whole or absent: write to a temporary name, sync, rename, sync the folder.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Reads a whole text file.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    String::from_utf8(bytes).map_err(|e| {
        Error::input(format!("not UTF-8 text at byte {}", e.utf8_error().valid_up_to())).file(path)
    })
}

/// Creates the folder and its parents.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("create", path, &e))
}

/// Replaces the file at `path` by `bytes`: a reader, or a crash, sees the old content or the new, whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// As [`write_atomic`], for content that is made as it is written; `write` gets a buffered file.
///
/// A device or a pipe (`/dev/stdout`) is written to as it is.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<()> {
    let folder = parent(path);
    let fail = |e: &std::io::Error| Error::io("write", path, e);
    if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let file = File::options().write(true).open(path).map_err(|e| fail(&e))?;
        let mut out = BufWriter::new(&file);
        return write(&mut out).and_then(|()| out.flush()).map_err(|e| fail(&e));
    }
    let file = temporary(0o666).tempfile_in(folder).map_err(|e| fail(&e))?;
    let mut out = BufWriter::new(file.as_file());
    write(&mut out).and_then(|()| out.flush()).map_err(|e| fail(&e))?;
    drop(out);
    file.as_file().sync_all().map_err(|e| fail(&e))?;
    file.persist(path).map_err(|e| fail(&e.error))?;
    sync_folder(folder)
}

/// Makes a folder that appears whole or not at all: `fill` writes into a temporary folder beside it.
///
/// Files are synced before the rename. `path` must not exist yet. If `fill` fails, nothing remains.
pub fn write_folder_atomic(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = parent(path);
    create_folder(folder)?;
    let temporary = temporary(0o777).tempdir_in(folder).map_err(|e| Error::io("create", folder, &e))?;
    fill(temporary.path()).map_err(|e| e.moved(temporary.path(), path))?;
    for entry in list(temporary.path())? {
        File::open(&entry).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", &entry, &e))?;
    }
    sync_folder(temporary.path())?;
    fs::rename(temporary.path(), path).map_err(|e| Error::io("rename to", path, &e))?;
    let _moved = temporary.keep(); // renamed away: there is nothing left to delete
    sync_folder(folder)
}

/// The start of the names that [`write_folder_atomic`] uses before the rename; such a folder found later
/// is what a killed process left, and can be deleted.
pub const TEMPORARY_PREFIX: &str = ".unfinished-";

/// Refuses a file that cannot be written, before the work whose result it is to hold.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = parent(path);
    if path.is_dir() {
        return Err(Error::input("it is a folder, needed a file to write").file(path));
    }
    if !folder.is_dir() {
        let what = format!("cannot write it: there is no folder {}", folder.display());
        return Err(Error::input(what).file(path).hint("make the folder first"));
    }
    Ok(())
}

/// Temporary names with the permissions that the user's umask leaves of `mode`.
fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX).permissions(Permissions::from_mode(mode));
    builder
}

/// The entries of a folder, sorted by name.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e: std::io::Error| Error::io("read", folder, &e);
    let mut paths = fs::read_dir(folder)
        .map_err(fail)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(fail)?;
    paths.sort();
    Ok(paths)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("step-1");
        let result = write_folder_atomic(&target, |t| {
            write_atomic(&t.join("half"), b"half")?;
            Err(Error::environment("disk full"))
        });
        assert!(result.is_err());
        assert_eq!(list(home.path()).unwrap(), Vec::<PathBuf>::new());
        write_folder_atomic(&target, |t| write_atomic(&t.join("whole"), b"whole")).unwrap();
        assert_eq!(read_text(&target.join("whole")).unwrap(), "whole");
    }
}
