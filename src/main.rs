//! The `preceptor` command: parse, run, map the error to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    preceptor::cli::main()
}
