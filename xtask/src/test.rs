//! `cargo xtask test`: prepares what tests need, runs all of them and counts, then checks the kernels.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::kernels::Tools;
use crate::process::{Result, announce, cannot_start, cargo};
use crate::{check, python};

/// With everything prepared, a test that skips itself is as bad as one that fails.
pub(crate) fn run() -> Result<()> {
    let smollm2 = python::smollm2()?;
    let tools = Tools::prepare()?;
    check()?;
    // --show-output: a skip is a line that a passing test prints.
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"])
        .env("PRECEPTOR_SMOLLM2", smollm2)
        .env("PRECEPTOR_NVRTC", &tools.nvrtc)
        .env("PRECEPTOR_STAND_IN", &tools.stand_in)
        .stdout(Stdio::piped());
    announce(&command);
    let mut tests = command.spawn().map_err(|e| cannot_start(&command, &e))?;
    let output = tests.stdout.take().expect("stdout is piped");
    let mut counts = Counts::default();
    let mut stdout = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| format!("cannot read the tests' output: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        counts.read(&line);
        writeln!(stdout, "{line}").map_err(|e| format!("cannot write to standard output: {e}"))?;
    }
    let status = tests.wait().map_err(|e| cannot_start(&command, &e))?;
    writeln!(stdout, "\n{counts}").map_err(|e| format!("cannot write to standard output: {e}"))?;
    match counts {
        _ if !status.success() => Err(format!("cargo test: {status}")),
        Counts { passed: 0, .. } => Err("no test ran".into()),
        Counts { skipped: 1.., .. } => Err("a test was skipped although everything was prepared".into()),
        _ => tools.check(&[]).and_then(|()| tools.faults(&["--one-each"])).and_then(|()| tools.gpu_check()),
    }
}

/// What the tests' output says.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: u64,
}

impl Counts {
    /// Adds a line of output: a harness's summary, or `skipped: REASON`.
    fn read(&mut self, line: &str) {
        self.skipped += u64::from(line.starts_with("skipped: "));
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        for part in summary.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_all_harnesses_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 9 tests",
            "test a ... ok",
            "test result: ok. 9 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s",
            "skipped: PRECEPTOR_SMOLLM2 is not set",
            "a test may say skipped: here, which is no skip",
            "test result: FAILED. 30 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 39, failed: 2, ignored: 1, skipped: 1 });
        assert_eq!(counts.to_string(), "39 passed, 2 failed, 1 ignored, 1 skipped");
    }
}
