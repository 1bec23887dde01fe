//! `preceptor score`: the negative log-likelihood of each completion, one JSON object a line.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::source::{self, DataArgs, ModelArgs};
use super::{Common, output};
use crate::base::Result;
use crate::data::Format;

#[derive(Debug, Args)]
pub(super) struct Score {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Score the end-of-sequence token after a completion, too
    #[arg(long)]
    append_eos: bool,
}

#[derive(Serialize)]
struct Row {
    id: String,
    tokens: usize,
    sum_nll: f64,
    mean_nll: f64,
}

impl Score {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let device = common.open_device()?;
        let mut data = self.data.open()?;
        let encoder = self.data.encoder(&data, &self.model.model, self.append_eos)?;
        data.prepare(&encoder)?;
        let (model, adapter) = self.model.open(&device)?;
        let scorer = source::scorer(&device, &model, adapter.as_ref());
        const EXAMPLES_AT_A_TIME: usize = 64;
        for start in (0..data.len()).step_by(EXAMPLES_AT_A_TIME) {
            let (mut ids, mut examples) = (Vec::new(), Vec::new());
            for index in start..(start + EXAMPLES_AT_A_TIME).min(data.len()) {
                let encoded = data.tokenized(index, &encoder)?;
                let names: &[&str] =
                    if data.format() == Format::Preference { &["#chosen", "#rejected"] } else { &[""] };
                ids.extend(names.iter().map(|name| format!("{}{name}", data.id(index))));
                examples.extend(encoded);
            }
            let found = scorer.likelihoods(&examples);
            output::print(|out| {
                for (id, likelihood) in ids.into_iter().zip(&found) {
                    let (tokens, sum_nll) = (likelihood.tokens, likelihood.sum_nll);
                    serde_json::to_writer(
                        &mut *out,
                        &Row { id, tokens, sum_nll, mean_nll: sum_nll / tokens as f64 },
                    )?;
                    writeln!(out)?;
                }
                Ok(())
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
