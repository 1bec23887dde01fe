//! `preceptor study`: models x data x orders x seeds, and what the differences are worth.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Common, output};
use crate::base::Result;
use crate::config;
use crate::recipes::study::{self, File, Ran, Shard, Study as Opened};
use crate::train::signals::StopSignal;

#[derive(Debug, Args)]
pub(super) struct Study {
    /// Study file
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Do every N-th cell, from the I-th on; any number of machines can share one folder
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Set a value over the file's: table.key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Study {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let locate = |e| config::locate(e, &self.study, &self.set);
        let shard: Shard = match &self.shard {
            Some(text) => text.parse().map_err(|e: crate::base::Error| e.key("--shard"))?,
            None => Shard::ALL,
        };
        let mut file: File = config::load(&self.study, &self.set)?;
        common.override_device(&mut file.device);
        let opened = Opened::open(&file).map_err(locate)?;
        let stop = StopSignal::listen()?;
        let ran = study::run(&opened, shard, &stop).map_err(locate)?;
        let summary = opened.summary()?;
        study::write(&opened, &summary)?;
        tracing::info!("{} holds the report", opened.folder().join("report.html").display());
        output::print(|out| match common.json {
            true => writeln!(out, "{}", serde_json::json!(summary)),
            false => study::print(out, &summary),
        })?;
        Ok(match ran {
            Ran::Finished => ExitCode::SUCCESS,
            Ran::Stopped(signal) => ExitCode::from(128 + signal),
        })
    }
}
