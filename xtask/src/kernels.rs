//! `cargo xtask kernels`: compiles and executes every CUDA kernel on a machine without a GPU.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Result, cargo, root, run, scratch, target};
use crate::python;

/// The checks of the kernels that `arguments` name, or of all; the rest is `kernels check --help`.
pub(crate) fn check(arguments: &[&str]) -> Result<()> {
    let mut command = harness("check")?;
    command.arg("--nvdisasm").arg(nvidia("bin/nvdisasm")?);
    run(command.arg("--budgets").arg(root().join("kernels/budgets.toml")).args(arguments))
}

/// A command of the harness, with the pinned compiler and the stand-in driver.
pub(crate) fn harness(verb: &str) -> Result<Command> {
    let nvrtc = nvidia("lib/libnvrtc.so.13")?;
    let stand_in = stand_in()?;
    run(cargo().args(["build", "--quiet", "--package", "kernels"]))?;
    let mut command = Command::new(target().join("debug/kernels"));
    command
        .arg(verb)
        .arg("--nvrtc")
        .arg(nvrtc)
        .arg("--stand-in")
        .arg(stand_in)
        .arg("--cache")
        .arg(scratch().join("kernels"));
    Ok(command)
}

/// The stand-in driver, built for the machine that runs it: most of the time is spent in there.
fn stand_in() -> Result<PathBuf> {
    let folder = target().join("testkit");
    run(cargo()
        .args(["build", "--quiet", "--release", "--package", "libcuda"])
        .args(["--config", r#"build.rustflags=["-C", "target-cpu=native"]"#, "--target-dir"])
        .arg(&folder))?;
    Ok(folder.join("release/libcuda.so"))
}

/// A file of NVIDIA's packages.
fn nvidia(file: &str) -> Result<PathBuf> {
    let library = python::environment_folder("cuda")?.join("lib");
    let entries = fs::read_dir(&library).map_err(|e| format!("{}: {e}", library.display()))?;
    let found = entries.flatten().map(|entry| entry.path().join("site-packages/nvidia/cu13").join(file));
    let what = || format!("{}: no package brought nvidia/cu13/{file}", library.display());
    found.into_iter().find(|path| path.exists()).ok_or_else(what)
}
