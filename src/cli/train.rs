//! `preceptor train`: one training run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Common;
use crate::base::Result;
use crate::config::{self, Config};
use crate::train::signals::StopSignal;
use crate::train::{self, Outcome};

#[derive(Debug, Args)]
pub(super) struct Train {
    /// Configuration file
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Set a value over the file's: table.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the newest checkpoint of the output folder
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let locate = |e| config::locate(e, &self.config, &self.set);
        let mut config = Config::load(&self.config, &self.set)?;
        common.override_device(&mut config.device);
        config.check().map_err(locate)?;
        let (text, decisive) = (config.to_toml(), config.decisive());
        let stop = StopSignal::listen()?;
        let outcome = train::run(&config.job(&text, &decisive), self.resume, &stop).map_err(locate)?;
        Ok(match outcome {
            Outcome::Finished | Outcome::AlreadyFinished => ExitCode::SUCCESS,
            Outcome::Stopped(signal) => ExitCode::from(128 + signal),
        })
    }
}
