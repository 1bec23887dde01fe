//! The command line: one file a command. Data goes to stdout, logs and progress to stderr.

mod bench;
mod demo;
mod doctor;
mod evaluate;
mod generate;
mod init;
mod inspect;
mod inspect_data;
mod label;
mod merge;
mod order;
mod output;
mod plan;
mod score;
mod source;
mod study;
mod train;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::base::{Error, Result};
use crate::device::settings::Kind;
use crate::device::{self, Device};

/// Fine-tunes language models with little data.
#[derive(Debug, Parser)]
#[command(name = "preceptor", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Device to compute on
    #[arg(long, global = true, value_name = "KIND", help_heading = "Everywhere")]
    device: Option<DeviceKind>,
    /// CPU threads; 0 = all. Results do not depend on it
    #[arg(long, global = true, value_name = "N", help_heading = "Everywhere")]
    threads: Option<usize>,
    /// Print the result as JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceKind {
    Auto,
    Cpu,
    Cuda,
}

impl Common {
    /// `settings` with what the command line says instead.
    fn override_device(&self, settings: &mut device::Settings) {
        if let Some(kind) = self.device {
            settings.kind = match kind {
                DeviceKind::Auto => Kind::Auto,
                DeviceKind::Cpu => Kind::Cpu,
                DeviceKind::Cuda => Kind::Cuda,
            };
        }
        settings.threads = self.threads.unwrap_or(settings.threads);
    }

    fn open_device(&self) -> Result<Device> {
        let mut settings = device::Settings::default();
        self.override_device(&mut settings);
        Device::open(&settings)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seven orders on a bundled model and bundled questions, before and after, in about two minutes
    Demo(demo::Demo),
    /// One training run
    Train(train::Train),
    /// Multiple-choice accuracy with its interval, calibration and a table by subject
    Evaluate(evaluate::Evaluate),
    /// Memory and FLOPs of a training run, before it runs
    Plan(plan::Plan),
    /// The training order alone; needs no model
    Order(order::Order),
    /// Text, with token log-probabilities
    Generate(generate::Generate),
    /// The negative log-likelihood of each completion
    Score(score::Score),
    /// The columns that orders need: difficulty or topics
    Label(label::Label),
    /// Models x data x orders x seeds, and what the differences are worth
    Study(study::Study),
    /// Base and adapter as one Hugging Face directory
    Merge(merge::Merge),
    /// A new model: a tokenizer learned from text, random weights
    Init(init::Init),
    /// What a data file, a model or an adapter holds, fully checked
    Inspect(inspect::Inspect),
    /// Time and work of a run's updates, op by op, against their floors
    Bench(bench::Bench),
    /// Devices, their measured peaks, and what is missing
    Doctor(doctor::Doctor),
}

/// Runs the command of the process's arguments; the exit code follows the error's kind.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    tell_of_bugs();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    let result = match &cli.command {
        Command::Demo(command) => command.run(&cli.common),
        Command::Train(command) => command.run(&cli.common),
        Command::Evaluate(command) => command.run(&cli.common),
        Command::Plan(command) => command.run(&cli.common),
        Command::Order(command) => command.run(),
        Command::Generate(command) => command.run(&cli.common),
        Command::Score(command) => command.run(&cli.common),
        Command::Label(command) => command.run(&cli.common),
        Command::Study(command) => command.run(&cli.common),
        Command::Merge(command) => command.run(&cli.common),
        Command::Init(command) => command.run(&cli.common),
        Command::Inspect(command) => command.run(&cli.common),
        Command::Bench(command) => command.run(&cli.common),
        Command::Doctor(command) => command.run(&cli.common),
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// A panic is a bug of ours: its message asks for a report. The exit code is Rust's own, 101.
fn tell_of_bugs() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        eprintln!(
            "this is a bug in preceptor {}; please report it with the command",
            env!("CARGO_PKG_VERSION")
        );
    }));
}

/// Prints the error and its advice; the exit code follows its kind.
fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if let Some(hint) = error.advice() {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(error.kind().exit_code())
}
