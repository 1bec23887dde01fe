//! `preceptor demo`: the bundled model and questions in every order.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Common, output};
use crate::base::Result;
use crate::recipes::{demo, study};
use crate::train::signals::StopSignal;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder for the results; a demonstration that was stopped goes on there
    #[arg(long, default_value = "preceptor-demo", value_name = "DIR")]
    out: PathBuf,
}

impl Demo {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let mut device = crate::device::Settings::default();
        common.override_device(&mut device);
        let stop = StopSignal::listen()?;
        let found = demo::run(&self.out, &device, &stop)?;
        output::print(|out| {
            if common.json {
                return writeln!(out, "{}", found.json);
            }
            study::print(out, &found.summary)?;
            writeln!(out, "{}", demo::outcome(&found.summary))?;
            writeln!(out, "{} shows it, with what it can show and what not.", found.report.display())
        })?;
        Ok(match found.ran {
            study::Ran::Finished => ExitCode::SUCCESS,
            study::Ran::Stopped(signal) => ExitCode::from(128 + signal),
        })
    }
}
