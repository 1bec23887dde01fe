//! `preceptor order`: the training order alone.

use std::process::ExitCode;

use clap::Args;

use super::Common;
use crate::base::Result;

#[derive(Debug, Args)]
pub(super) struct Order {}

impl Order {
    pub(super) fn run(&self, _common: &Common) -> Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
