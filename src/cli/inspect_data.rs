//! The data half of `preceptor inspect`: an example token by token, with which tokens carry loss.

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use super::output;
use crate::base::{Error, Result};
use crate::data::{Counts, Dataset, Encoder, Tokenized, Tokenizer};

/// Marks a token that carries loss.
const MARK: char = '*';

/// Checks the whole data set, then prints the tokens of one example, counted from 0.
///
/// Fails on the first example without a trained token.
pub(super) fn inspect(dataset: &mut Dataset, encoder: &Encoder, example: usize, as_json: bool) -> Result<()> {
    let counts = dataset.prepare(encoder)?;
    if example >= dataset.len() {
        let what = format!("found no example {example}, needed one of 0 to {}", dataset.len() - 1);
        return Err(Error::input(what).file(dataset.path()).key("--example"));
    }
    let examples = dataset.tokenized(example, encoder)?;
    let tokenizer = encoder.tokenizer().ok();
    output::print(|out| match as_json {
        true => print_json(out, dataset, &counts, example, &examples, tokenizer),
        false => print_text(out, dataset, &counts, example, &examples, tokenizer),
    })
}

fn print_text(
    out: &mut dyn Write,
    dataset: &Dataset,
    counts: &Counts,
    example: usize,
    examples: &[Tokenized],
    tokenizer: Option<&Tokenizer>,
) -> io::Result<()> {
    let (on, off) = if io::stdout().is_terminal() { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
    let place = format!("{}:{}", dataset.path().display(), dataset.line_number(example));
    writeln!(out, "example {} of {place}; {MARK} carries loss", dataset.id(example))?;
    for tokenized in examples {
        writeln!(out, "{:>6} {:>8}    token", "index", "id")?;
        for (i, (&id, label)) in tokenized.input_ids.iter().zip(&tokenized.labels).enumerate() {
            let text = shown(id, tokenizer);
            match label {
                None => writeln!(out, "{i:>6} {id:>8}    {text}")?,
                Some(target) if *target == id => writeln!(out, "{on}{i:>6} {id:>8} {MARK}  {text}{off}")?,
                Some(target) => {
                    let target = shown(*target, tokenizer);
                    writeln!(out, "{on}{i:>6} {id:>8} {MARK}  {text} (target {target}){off}")?;
                }
            }
        }
        let (tokens, trained) = (tokenized.input_ids.len(), tokenized.trained_tokens());
        let Tokenized { weight, smoothing, .. } = tokenized;
        writeln!(out, "{tokens} tokens, {trained} carry loss; weight {weight}, smoothing {smoothing}")?;
    }
    let Counts { examples, truncated, split, skipped, tokens, trained_tokens, longest } = counts;
    writeln!(
        out,
        "all {examples} examples: {tokens} tokens, {trained_tokens} carry loss, longest {longest}"
    )?;
    writeln!(out, "{truncated} prompts truncated, {split} texts split, {skipped} bad lines skipped")
}

fn print_json(
    out: &mut dyn Write,
    dataset: &Dataset,
    counts: &Counts,
    example: usize,
    examples: &[Tokenized],
    tokenizer: Option<&Tokenizer>,
) -> io::Result<()> {
    let tokens = |tokenized: &Tokenized| {
        let pairs = tokenized.input_ids.iter().zip(&tokenized.labels).enumerate();
        let token = |(i, (&id, label)): (usize, (&u32, &Option<u32>))| json!({"index": i, "id": id, "text": shown(id, tokenizer), "loss": label.is_some(), "target": label});
        let tokens: Vec<_> = pairs.map(token).collect();
        json!({
            "tokens": tokens,
            "trained_tokens": tokenized.trained_tokens(),
            "weight": tokenized.weight,
            "smoothing": tokenized.smoothing,
        })
    };
    let report = json!({
        "file": dataset.path(),
        "line": dataset.line_number(example),
        "id": dataset.id(example),
        "examples": examples.iter().map(tokens).collect::<Vec<_>>(),
        "total": {
            "examples": counts.examples,
            "tokens": counts.tokens,
            "trained_tokens": counts.trained_tokens,
            "longest": counts.longest,
            "truncated": counts.truncated,
            "split": counts.split,
            "skipped": counts.skipped,
        },
    });
    writeln!(out, "{report}")
}

/// A token's text with its blanks and line ends visible, else the way the vocabulary writes it.
fn shown(id: u32, tokenizer: Option<&Tokenizer>) -> String {
    let Some(tokenizer) = tokenizer else { return String::new() };
    match tokenizer.decode(&[id], false) {
        // a piece of a character has no text of its own
        Ok(text) if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) => format!("{text:?}"),
        _ => tokenizer.token(id).unwrap_or_else(|| "not in the vocabulary".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Format, LossOn, Settings};

    #[test]
    fn a_mark_stands_at_each_token_that_carries_loss() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("d.jsonl");
        std::fs::write(&path, "{\"input_ids\":[5,6,7],\"labels\":[5,-100,9],\"id\":\"x\"}\n").unwrap();
        let settings = Settings { format: Format::Tokens, ..Settings::default() };
        let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, home.path(), 10).unwrap();
        let mut dataset = Dataset::open(&path, Format::Tokens, 0).unwrap();
        let counts = dataset.prepare(&encoder).unwrap();
        let examples = dataset.tokenized(0, &encoder).unwrap();

        let mut text = Vec::new();
        print_text(&mut text, &dataset, &counts, 0, &examples, None).unwrap();
        let text = String::from_utf8(text).unwrap();
        let marked: Vec<bool> = text.lines().skip(2).take(3).map(|line| line.contains(MARK)).collect();
        assert_eq!(marked, [false, false, true], "{text}");
        assert!(text.contains("3 tokens, 1 carry loss; weight 1, smoothing 0"), "{text}");

        let mut out = Vec::new();
        print_json(&mut out, &dataset, &counts, 0, &examples, None).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(report["examples"][0]["tokens"][2]["target"], 9);
        assert_eq!(report["examples"][0]["tokens"][1]["loss"], false);
        assert_eq!(report["total"]["trained_tokens"], 1);
    }
}
