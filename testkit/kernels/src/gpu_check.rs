//! Everything that only a GPU can show, in one folder of raw results.
//!
//! Each part is this program once more, since a driver is loaded once a process; what it prints becomes a file.
//! On the stand-in the pack compares the interpreter with itself: that proves the pack.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

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
        passes &= said(name, &out.join(file), done.status);
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
    // Beside each other: they are slow, each on a core of its own, and nothing is timed any more.
    let mut started = Vec::new();
    for tool in SANITIZERS {
        let run = own("run", setup, device)?;
        let path = out.join(format!("{tool}.txt"));
        let file = File::create(&path).map_err(|e| Error::environment(e.to_string()).file(&path))?;
        let mut command = Command::new("compute-sanitizer");
        command.args(["--tool", tool, "--error-exitcode", "1"]).arg(run.get_program()).args(run.get_args());
        let child = command.stdout(file).spawn();
        let child =
            child.map_err(|e| Error::environment(format!("compute-sanitizer does not start: {e}")))?;
        started.push((tool, path, child));
    }
    for (tool, path, mut child) in started {
        let status = child.wait().map_err(|e| Error::environment(format!("{tool} is lost: {e}")))?;
        passes &= said(tool, &path, status);
    }
    Ok(passes)
}

/// Prints what a part came to; returns whether it passed.
fn said(name: &str, file: &Path, status: ExitStatus) -> bool {
    let verdict = if status.success() { "passed" } else { "FAILED" };
    eprintln!("{name}: {verdict}, {}", file.display());
    status.success()
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
