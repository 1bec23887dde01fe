//! `cargo xtask kernels`: compiles and executes every CUDA kernel on a machine without a GPU.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Result, cargo, root, run, scratch, target};
use crate::python;

/// What kernels are checked with.
pub(crate) struct Tools {
    /// NVIDIA's compiler as a library.
    pub(crate) nvrtc: PathBuf,
    /// NVIDIA's disassembler.
    nvdisasm: PathBuf,
    /// The stand-in driver.
    pub(crate) stand_in: PathBuf,
}

impl Tools {
    /// Fetches NVIDIA's, builds ours.
    pub(crate) fn prepare() -> Result<Self> {
        let (nvrtc, nvdisasm) = (nvidia("lib/libnvrtc.so.13")?, nvidia("bin/nvdisasm")?);
        // With a test among them, what dependencies are built with is what `cargo test` builds them with: once for both.
        run(cargo().args([
            "build",
            "--quiet",
            "--workspace",
            "--lib",
            "--bin",
            "kernels",
            "--test",
            "floor",
        ]))?;
        Ok(Self { nvrtc, nvdisasm, stand_in: target().join("debug/libcuda.so") })
    }

    /// A command of the harness.
    fn harness(&self, verb: &str) -> Command {
        let mut command = Command::new(target().join("debug/kernels"));
        command.arg(verb).arg("--nvrtc").arg(&self.nvrtc).arg("--stand-in").arg(&self.stand_in);
        command.arg("--cache").arg(scratch().join("kernels"));
        command
    }

    /// The checks of the kernels that `arguments` name, or of all; see `kernels check --help`.
    pub(crate) fn check(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.harness("check");
        command
            .arg("--nvdisasm")
            .arg(&self.nvdisasm)
            .arg("--budgets")
            .arg(root().join("kernels/budgets.toml"));
        run(command.args(arguments))
    }

    /// Breaks the kernels in every way that is listed; each fault must be caught.
    pub(crate) fn faults(&self, kernels: &[&str]) -> Result<()> {
        let mut command = self.harness("faults");
        command.arg("--nvdisasm").arg(&self.nvdisasm);
        command.arg("--budgets").arg(root().join("kernels/budgets.toml"));
        run(command.arg("--lists").arg(root().join("testkit/kernels/faults")).args(kernels))
    }

    /// The pack for a GPU, on the stand-in: the interpreter beside itself.
    pub(crate) fn gpu_check(&self) -> Result<()> {
        let out = target().join("gpu-check-stand-in");
        run(self.harness("gpu-check").args(["--device", "h100", "--out"]).arg(out))
    }
}

/// The pack on the machine's own GPU and driver, its raw results in `out`. Nothing is fetched: such machines often
/// reach no network, and have NVIDIA's compiler.
pub(crate) fn gpu_check(out: &str) -> Result<()> {
    run(cargo().args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "kernels",
        "--",
        "gpu-check",
        "--out",
        out,
    ]))
}

/// A file of NVIDIA's packages.
fn nvidia(file: &str) -> Result<PathBuf> {
    let library = python::environment_folder("cuda")?.join("lib");
    let entries = fs::read_dir(&library).map_err(|e| format!("{}: {e}", library.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path().join("site-packages/nvidia/cu13").join(file));
    let what = || format!("{}: no package brought nvidia/cu13/{file}", library.display());
    found.find(|path| path.exists()).ok_or_else(what)
}
