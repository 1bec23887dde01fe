//! `preceptor train`: one training run.

use std::process::ExitCode;

use clap::Args;

use super::Common;
use super::source::RunArgs;
use crate::base::Result;
use crate::train::signals::StopSignal;
use crate::train::{self, Outcome};

#[derive(Debug, Args)]
pub(super) struct Train {
    #[command(flatten)]
    run: RunArgs,
    /// Go on from the newest checkpoint of the output folder
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let locate = |e| self.run.locate(e);
        let config = self.run.load(common)?;
        let (text, decisive) = (config.to_toml(), config.decisive());
        let stop = StopSignal::listen()?;
        let outcome = train::run(&config.job(&text, &decisive), self.resume, &stop).map_err(locate)?;
        Ok(match outcome {
            Outcome::Finished | Outcome::AlreadyFinished => ExitCode::SUCCESS,
            Outcome::Stopped(signal) => ExitCode::from(128 + signal),
        })
    }
}
