//! Development commands, run as `cargo xtask COMMAND`; [`USAGE`] lists them.
//!
//! What a command fetches or makes goes under `target/xtask`, so `cargo clean` removes it.

mod fuzz;
mod process;
mod python;
mod test;

use std::process::ExitCode;

use process::{Result, cargo, root, run};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                        formatting, lints, documentation; the fuzz targets must compile
  test                         fetches what tests need by pip, then check, then every test; a skip fails
  bench [NAME]                 criterion benches, all or those whose name contains NAME
  golden                       makes tests/golden again, by Transformers and PEFT
  peers                        lets PEFT, Transformers and TensorBoard read what preceptor writes
  fuzz [TARGET] [--seconds N]  fuzzes one target or each in turn, for N seconds (60)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["check"] => check(),
        ["test"] => test::run(),
        ["bench"] => run(cargo().arg("bench")),
        ["bench", name] => run(cargo().args(["bench", "--", name])),
        ["golden"] => golden(),
        ["peers"] => peers(),
        ["fuzz", ref rest @ ..] => fuzz::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Everything about the source that needs no test to run.
fn check() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    fuzz::check()
}

fn golden() -> Result<()> {
    let python = python::environment("peers")?;
    let model = python::smollm2()?;
    let scripts = root().join("tests/golden");
    run(&mut python::script(&python, &scripts.join("make.py")))?;
    run(python::script(&python, &scripts.join("make_smollm2.py")).arg(model))
}

fn peers() -> Result<()> {
    let python = python::environment("peers")?;
    run(cargo().args(["build", "--release"]))?;
    let program = process::target().join("release/preceptor");
    run(python::script(&python, &root().join("xtask/peers.py")).arg(program).arg(root().join("tests/golden")))
}
