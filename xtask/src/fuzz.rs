//! `cargo xtask fuzz`: cargo-fuzz on the pinned stable toolchain.

use std::fs;
use std::process::Command;

use crate::process::{Result, cargo, root, run as run_command, scratch};

const CARGO_FUZZ: &str = "0.13.2";

/// Runs one target, or each in turn, for a number of seconds.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (targets, seconds) = match *arguments {
        [] => (all()?, "60"),
        ["--seconds", seconds] => (all()?, seconds),
        [target] => (vec![target.into()], "60"),
        [target, "--seconds", seconds] => (vec![target.into()], seconds),
        _ => return Err("usage: cargo xtask fuzz [TARGET] [--seconds N]".into()),
    };
    seconds.parse::<u32>().map_err(|e| format!("--seconds {seconds}: {e}"))?;
    let tools = scratch().join("tools");
    let cargo_fuzz = tools.join("bin/cargo-fuzz");
    // Fast when that version is there already.
    run_command(
        cargo()
            .args(["install", "--quiet", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ, "--root"])
            .arg(&tools),
    )?;
    run_command(Command::new("python3").arg("fuzz/seeds.py").current_dir(root()))?;
    for target in targets {
        run_command(
            Command::new(&cargo_fuzz)
                .current_dir(root())
                // Sanitizers are unstable compiler flags; this lets the stable compiler take them.
                .env("RUSTC_BOOTSTRAP", "1")
                // A sanitizer's hooks are not to be optimised across crates.
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .args(["run", "--features", "libfuzzer", "--target-dir"])
                .arg(scratch().join("fuzz"))
                .args([target.as_str(), "--", &format!("-max_total_time={seconds}"), "-rss_limit_mb=2048"]),
        )?;
    }
    Ok(())
}

/// The names of all targets, sorted.
fn all() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
