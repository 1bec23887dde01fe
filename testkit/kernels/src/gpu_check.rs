//! Everything that only a GPU can show, in one folder of raw results.
//!
//! Each part is this program once more, since a driver is loaded once a process; what it prints becomes a file.
//! On the stand-in the pack compares the interpreter with itself: that proves the pack.

use std::path::Path;
use std::process::{Command, Stdio};

use preceptor::base::{Error, Result, files};

use crate::run::Setup;

/// compute-sanitizer's tools.
const SANITIZERS: [&str; 4] = ["memcheck", "racecheck", "initcheck", "synccheck"];

/// Runs all parts; returns whether each did as it should, and prints a line for each.
pub fn run(setup: &Setup, device: Option<&str>, out: &Path) -> Result<bool> {
    let raw = out.join("conformance.bin");
    let mut passes = true;
    let mut part = |name: &str, file: &str, command: &mut Command| -> Result<()> {
        let done = command.stderr(Stdio::inherit()).output();
        let done = done.map_err(|e| Error::environment(format!("{name} does not start: {e}")))?;
        files::write_atomic(&out.join(file), &done.stdout)?;
        passes &= done.status.success();
        let verdict = if done.status.success() { "passed" } else { "FAILED" };
        eprintln!("{name}: {verdict}, {}", out.join(file).display());
        Ok(())
    };
    std::fs::create_dir_all(out).map_err(|e| Error::environment(e.to_string()).file(out))?;
    part("conformance", "conformance.txt", own("conformance", setup, device)?.arg("--out").arg(&raw))?;
    part("cases", "cases.json", &mut own("run", setup, device)?)?;
    let mut bench = own("bench", setup, device)?;
    if setup.stand_in.is_some() {
        bench.arg("--small");
    }
    part("bench", "bench.jsonl", &mut bench)?;
    if setup.stand_in.is_some() {
        eprintln!("skipped: compute-sanitizer sees a GPU only");
        return Ok(passes);
    }
    if Command::new("compute-sanitizer").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: compute-sanitizer was not found");
        return Ok(passes);
    }
    for tool in SANITIZERS {
        let run = own("run", setup, device)?;
        let mut command = Command::new("compute-sanitizer");
        command.args(["--tool", tool, "--error-exitcode", "1"]).arg(run.get_program()).args(run.get_args());
        part(tool, &format!("{tool}.txt"), &mut command)?;
    }
    Ok(passes)
}

/// This program with another command and the same setup.
fn own(verb: &str, setup: &Setup, device: Option<&str>) -> Result<Command> {
    let program =
        std::env::current_exe().map_err(|e| Error::environment(format!("cannot find myself: {e}")))?;
    let mut command = Command::new(program);
    command.arg(verb).args(setup.arguments());
    if let Some(device) = device {
        command.args(["--device", device]);
    }
    Ok(command)
}
