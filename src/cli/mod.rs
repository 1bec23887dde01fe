//! The command line: one file a command. Data goes to stdout, logs and progress to stderr.

mod inspect_data;
mod order;
mod output;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::base::Error;

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
    /// Device: auto, cpu or cuda
    #[arg(long, global = true, value_name = "KIND")]
    device: Option<String>,
    /// CPU threads; 0 = all
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The training order alone; needs no model
    Order(order::Order),
}

/// Runs the command of the process's arguments; the exit code follows the error's kind.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    let result = match &cli.command {
        Command::Order(command) => command.run(&cli.common),
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Prints the error and its advice; the exit code follows its kind.
fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if let Some(hint) = error.advice() {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(error.kind().exit_code())
}
