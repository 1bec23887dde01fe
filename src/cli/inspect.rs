//! `preceptor inspect`: what a data file, a model or an adapter holds, fully checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::json;

use super::source::DataArgs;
use super::{Common, inspect_data, output};
use crate::adapter::peft;
use crate::base::{Error, Result};
use crate::data::{Format, Tokenizer};
use crate::model::settings::WeightStorage;
use crate::model::{Files, Model, Spec};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Hugging Face directory or .gguf file of a model
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// PEFT adapter
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// JSONL, CSV or Parquet file; shows an example token by token
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What its lines are [default: told by the first line's keys]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// exam, chat (the model's own), or a minijinja file
    #[arg(long, default_value = "exam", value_name = "TEMPLATE")]
    template: String,
    /// Most tokens of an example
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    max_seq_length: usize,
    /// Which example to show, from 0
    #[arg(long, default_value_t = 0, value_name = "N")]
    example: usize,
}

impl Inspect {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        match (&self.data, &self.adapter, &self.model) {
            (Some(data), None, Some(model)) => self.data(data, model, common)?,
            (Some(_), _, _) => {
                return Err(Error::input("data is shown as a model sees it")
                    .key("--data")
                    .hint("give --data with --model, and without --adapter"));
            }
            (None, Some(adapter), model) => self.adapter(adapter, model.as_deref(), common)?,
            (None, None, Some(model)) => self.model(model, common)?,
            (None, None, None) => {
                return Err(Error::input("found nothing to look at")
                    .hint("give --model, --adapter, or --data with --model"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn data(&self, data: &Path, model: &Path, common: &Common) -> Result<()> {
        let args = DataArgs {
            data: data.to_path_buf(),
            format: self.format.clone(),
            template: self.template.clone(),
            max_seq_length: Some(self.max_seq_length),
        };
        let mut data = args.open()?;
        let encoder = args.encoder(&data, model, data.format() != Format::Tokens)?;
        inspect_data::inspect(&mut data, &encoder, self.example, common.json)
    }

    fn model(&self, folder: &Path, common: &Common) -> Result<()> {
        let files = Files::open(folder)?;
        let model = Model::new(files.spec()?, &files, WeightStorage::Stored)?;
        let tokenizer = Tokenizer::open(folder);
        if let Err(error) = &tokenizer {
            tracing::warn!("{error}; only token ids can be used with this model");
        }
        let (spec, mut types) = (model.spec(), BTreeMap::<String, usize>::new());
        let mut parameters = 0;
        for tensor in files.tensors() {
            *types.entry(tensor.dtype).or_default() += 1;
            parameters += tensor.shape.iter().product::<usize>();
        }
        output::print(|out| {
            if common.json {
                let tensors: BTreeMap<&str, _> = files
                    .tensors()
                    .into_iter()
                    .map(|tensor| (tensor.name, json!({"dtype": tensor.dtype, "shape": tensor.shape})))
                    .collect();
                let facts = json!({
                    "model_type": spec.model_type, "parameters": parameters, "tied": spec.tied,
                    "layers": spec.layers.len(), "hidden": spec.hidden, "query_heads": spec.query_heads,
                    "key_value_heads": spec.key_value_heads, "head_dim": spec.head_dim,
                    "intermediate": spec.intermediate, "vocabulary": spec.vocabulary, "context": spec.context,
                    "tokenizer": tokenizer.is_ok(), "tensors": tensors,
                });
                return writeln!(out, "{facts}");
            }
            let windows = spec.layers.iter().filter(|l| l.window.is_some()).count();
            writeln!(out, "{}: {}", folder.display(), spec.model_type)?;
            writeln!(out, "parameters      {parameters}")?;
            writeln!(out, "layers          {} ({windows} with a sliding window)", spec.layers.len())?;
            writeln!(out, "hidden          {}, feed-forward {}", spec.hidden, spec.intermediate)?;
            writeln!(
                out,
                "heads           {} query, {} key-value, {} wide",
                spec.query_heads, spec.key_value_heads, spec.head_dim
            )?;
            writeln!(
                out,
                "vocabulary      {} ({})",
                spec.vocabulary,
                if spec.tied { "tied head" } else { "head of its own" }
            )?;
            writeln!(out, "context         {}", spec.context)?;
            for (dtype, count) in &types {
                writeln!(out, "tensors         {count} of {dtype}")?;
            }
            writeln!(out, "tokenizer       {}", if tokenizer.is_ok() { "yes" } else { "no" })
        })
    }

    fn adapter(&self, folder: &Path, model: Option<&Path>, common: &Common) -> Result<()> {
        let device = common.open_device()?;
        let linears = match model {
            Some(model) => Spec::read(model)?.linears(),
            None => peft::linears(folder)?,
        };
        let adapter = peft::read(&device, folder, &linears)?;
        output::print(|out| {
            if common.json {
                let modules: Vec<_> = adapter
                    .modules()
                    .iter()
                    .map(|m| json!({"module": m.linear.to_string(), "r": m.rank, "alpha": m.alpha, "scale": adapter.scale(m)}))
                    .collect();
                return writeln!(out, "{}", json!({"parameters": adapter.len(), "modules": modules}));
            }
            writeln!(
                out,
                "{}: {} parameters in {} linears",
                folder.display(),
                adapter.len(),
                adapter.modules().len()
            )?;
            for m in adapter.modules() {
                let (outputs, inputs) = (m.linear.outputs, m.linear.inputs);
                writeln!(
                    out,
                    "{:<40} {outputs} x {inputs}, r {}, scale {}",
                    m.linear.to_string(),
                    m.rank,
                    adapter.scale(m)
                )?;
            }
            Ok(())
        })
    }
}
