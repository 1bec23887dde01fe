//! `preceptor generate`: text that follows a prompt, or each line of a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::source::{self, DataArgs, ModelArgs};
use super::{Common, output};
use crate::base::{Error, Result};
use crate::data::line::PromptCompletion;
use crate::data::{self, Body, Encoder, Format, Line, LossOn, Tokenizer};
use crate::model::Spec;
use crate::train::generate::{Drawn, Prompt, Sampling, Transcript};

#[derive(Debug, Args)]
#[group(id = "prompts", required = true, multiple = false, args = ["prompt", "data"])]
pub(super) struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to go on from, or under `--template chat` a user's turn to answer
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// JSONL, CSV or Parquet file: what precedes each line's completion is a prompt
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What its lines are [default: told by the first line's keys]
    #[arg(long, value_name = "FORMAT", requires = "data")]
    format: Option<String>,
    /// exam, chat (the model's own), or a minijinja file
    #[arg(long, default_value = "exam", value_name = "TEMPLATE")]
    template: String,
    /// Most tokens of a text [default: 256, or fewer if the model's context has no room for them]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_new_tokens: Option<usize>,
    /// 0 takes the most probable token; above it tokens are drawn, the more evenly the higher
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f64,
    /// Draw from the most probable tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    /// Texts for each prompt
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    num_samples: u32,
    /// Names the random numbers: the same seed gives the same texts, however many are written at a time
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// End a text before this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Tell each token's log-probability; output is JSON lines
    #[arg(long)]
    logprobs: bool,
}

/// A prompt as tokens, and what it is called.
struct Asked {
    id: String,
    tokens: Vec<u32>,
    most: usize,
}

/// A line of the output.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    sample: usize,
    text: &'a str,
    finish: &'static str,
    prompt_tokens: usize,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenRow>>,
}

#[derive(Serialize)]
struct TokenRow {
    id: u32,
    token: String,
    logprob: f64,
}

/// When the first token came, and how many followed.
struct Clock {
    start: Instant,
    first: Option<f64>,
    tokens: usize,
}

impl Generate {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        self.check()?;
        let device = common.open_device()?;
        let (encoder, asked) = self.ask()?;
        let tokenizer = encoder.tokenizer()?;
        let (model, adapter) = self.model.open(&device)?;
        let generator = source::generator(&device, &model, adapter.as_ref());
        let sampling = Sampling { temperature: self.temperature, top_p: self.top_p, seed: self.seed };
        if self.temperature == 0.0 && self.num_samples > 1 {
            tracing::warn!("all samples of a prompt are the same at temperature 0");
        }

        let as_lines = common.json || self.logprobs || self.data.is_some();
        let streams = !as_lines && self.num_samples == 1;
        let prompts: Vec<Prompt<'_>> = (0..)
            .zip(&asked)
            .map(|(place, Asked { tokens, most, .. })| Prompt {
                tokens,
                place,
                samples: self.num_samples,
                most: *most,
            })
            .collect();
        let mut clock = Clock { start: Instant::now(), first: None, tokens: 0 };
        for group in generator.groups(&prompts) {
            let asked = &asked[group.clone()];
            let mut texts: Vec<Vec<Transcript>> = asked
                .iter()
                .map(|asked| vec![Transcript::new(&asked.tokens); self.num_samples as usize])
                .collect();
            let mut outcome = Ok(());
            let mut take = |prompt: usize, sample: usize, drawn: Drawn| -> Result<bool> {
                clock.tick();
                let text = &mut texts[prompt][sample];
                let goes_on = text.push(tokenizer, &self.stop, drawn)?;
                let ended = !goes_on || text.drawn.len() == asked[prompt].most;
                if ended && goes_on {
                    text.flush(tokenizer, &self.stop)?;
                }
                if streams {
                    let piece = text.told(&self.stop, ended);
                    output::print(|out| write!(out, "{piece}{}", if ended { "\n" } else { "" }))?;
                }
                Ok(goes_on)
            };
            generator.run(&prompts[group], &sampling, |prompt, sample, drawn| {
                let goes_on = if outcome.is_ok() { take(prompt, sample, drawn) } else { Ok(false) };
                goes_on.unwrap_or_else(|e| {
                    outcome = Err(e);
                    false
                })
            });
            outcome?;
            if !streams {
                self.write(tokenizer, asked, &texts, as_lines)?;
            }
        }
        clock.report();
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let what = format!("found {}, needed a number from 0 on", self.temperature);
            return Err(Error::input(what).key("--temperature"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let what = format!("found {}, needed a number above 0, at most 1", self.top_p);
            return Err(Error::input(what).key("--top-p"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::input("found an empty text, needed one to look for").key("--stop"));
        }
        Ok(())
    }

    /// Everything that is to be continued, checked, and the encoder that made it.
    fn ask(&self) -> Result<(Encoder, Vec<Asked>)> {
        let folder = &self.model.model;
        let spec = Spec::read(folder)?;
        if let Some(path) = &self.data {
            let args = DataArgs {
                data: path.clone(),
                format: self.format.clone(),
                template: self.template.clone(),
                max_seq_length: None,
            };
            let data = args.open()?;
            if data.format() == Format::Text {
                return Err(Error::input("the lines are texts, which have no prompt").file(path).hint(
                    "needed lines that are a prompt and its completion, such as {\"prompt\", \"completion\"}",
                ));
            }
            let encoder = args.encoder(&data, folder, false)?;
            let asked = (0..data.len()).map(|index| {
                let line = data.line(index)?;
                let tokens =
                    encoder.prompt(&line).and_then(|tokens| self.asked(data.id(index), tokens, &spec));
                tokens.map_err(|e| e.at(path, data.line_number(index)))
            });
            let asked = asked.collect::<Result<_>>()?;
            return Ok((encoder, asked));
        }
        let settings = data::Settings {
            format: Format::PromptCompletion,
            template: self.template.clone(),
            max_seq_length: spec.context,
            append_eos: false,
            ..data::Settings::default()
        };
        let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, folder, spec.vocabulary)?;
        let prompt = self.prompt.clone().unwrap_or_default();
        let line =
            Line::plain(Body::PromptCompletion(PromptCompletion { prompt, completion: String::new() }));
        let asked = encoder
            .prompt(&line)
            .and_then(|tokens| self.asked("1", tokens, &spec))
            .map_err(|e| e.key("--prompt"))?;
        Ok((encoder, vec![asked]))
    }

    fn asked(&self, id: &str, tokens: Vec<u32>, spec: &Spec) -> Result<Asked> {
        if tokens.is_empty() {
            return Err(Error::input("the prompt has no token, needed one to go on from"));
        }
        let (wanted, room) = (self.max_new_tokens, spec.context.saturating_sub(tokens.len()));
        if room < wanted.unwrap_or(1) {
            let what = format!(
                "the prompt has {} tokens, {} are to follow, but the model's context is {}",
                tokens.len(),
                wanted.unwrap_or(1),
                spec.context
            );
            return Err(Error::input(what).hint("shorten the prompt, or lower --max-new-tokens"));
        }
        const DEFAULT: usize = 256;
        let most = wanted.unwrap_or(DEFAULT.min(room));
        Ok(Asked { id: id.to_owned(), tokens, most })
    }

    fn write(
        &self,
        tokenizer: &Tokenizer,
        asked: &[Asked],
        texts: &[Vec<Transcript>],
        as_lines: bool,
    ) -> Result<()> {
        let logprobs = |text: &Transcript| -> Result<Option<Vec<TokenRow>>> {
            if !self.logprobs {
                return Ok(None);
            }
            let row = |&Drawn { token: id, log_probability: logprob }: &Drawn| {
                Ok(TokenRow { id, token: tokenizer.decode(&[id], false)?, logprob })
            };
            text.drawn.iter().map(row).collect::<Result<_>>().map(Some)
        };
        for (asked, texts) in asked.iter().zip(texts) {
            for (sample, text) in texts.iter().enumerate() {
                let row = Row {
                    id: &asked.id,
                    sample,
                    text: &text.text,
                    finish: text.finish.name(),
                    prompt_tokens: asked.tokens.len(),
                    tokens: text.drawn.len(),
                    logprobs: logprobs(text)?,
                };
                output::print(|out| {
                    if as_lines {
                        serde_json::to_writer(&mut *out, &row)?;
                        writeln!(out)
                    } else {
                        writeln!(out, "{}{}", if sample > 0 { "\n" } else { "" }, row.text)
                    }
                })?;
            }
        }
        Ok(())
    }
}

impl Clock {
    fn tick(&mut self) {
        self.first.get_or_insert_with(|| self.start.elapsed().as_secs_f64());
        self.tokens += 1;
    }

    fn report(&self) {
        let (total, first) = (self.start.elapsed().as_secs_f64(), self.first.unwrap_or(0.0));
        let rate = (self.tokens.saturating_sub(1)) as f64 / (total - first).max(1e-9);
        let tokens = self.tokens;
        if tokens > 1 {
            tracing::info!("{tokens} tokens: the first after {first:.3} s, then {rate:.1} tokens/s");
        } else {
            tracing::info!("1 token after {first:.3} s");
        }
    }
}
