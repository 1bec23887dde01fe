//! `preceptor merge`: base and adapter as one Hugging Face directory.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Common, output};
use crate::adapter::{merge, peft};
use crate::base::{Error, Result};
use crate::model::Spec;
use crate::tensor::{Checkpoint, Gguf};

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Hugging Face directory of the base model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PEFT adapter to merge into it
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// New directory for the result
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Merge {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let device = common.open_device()?;
        if Gguf::is_named_by(&self.model) {
            return Err(Error::input("found a GGUF file, needed the Hugging Face directory of the base model")
                .file(&self.model)
                .hint("a merged model keeps its base's files and types; use the adapter beside the GGUF file instead"));
        }
        let base = Checkpoint::open(&self.model)?;
        let adapter = peft::read(&device, &self.adapter, &Spec::read(&self.model)?.linears())?;
        let error = merge::merge(&device, &base, &adapter, &self.out)?;
        output::print(|out| {
            if common.json {
                serde_json::to_writer(&mut *out, &error)?;
                return writeln!(out);
            }
            writeln!(out, "{}: {} weights merged", self.out.display(), error.merged)?;
            writeln!(
                out,
                "merge error by rounding to the stored type: largest {:.3e}, {:.3} % of the update (root mean square)",
                error.largest,
                100.0 * error.relative_to_update,
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
