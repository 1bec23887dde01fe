//! Lines to tokens and loss masks.

use std::ops::Range;
use std::path::Path;

use super::line::{Body, Format, Line, Tokens, letter};
use super::template::Rendered;
use super::{LossOn, Settings, Template, Tokenized, Tokenizer};
use crate::base::{Error, Result};

/// Turns lines into tokenised examples.
#[derive(Debug)]
pub struct Encoder {
    /// Absent only for lines that are token ids already.
    tokenizer: Option<Tokenizer>,
    template: Template,
    max_seq_length: usize,
    append_eos: bool,
    loss_on: LossOn,
    label_smoothing: f32,
    vocab_size: usize,
}

/// The examples of one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// One; of a preference the chosen and the rejected, of a text its parts.
    pub examples: Vec<Tokenized>,
    /// Whether a prompt lost tokens.
    pub truncated: bool,
}

/// A prompt and, for each option, the token that stands for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// What precedes the letter, `[T]`.
    pub prompt: Vec<u32>,
    /// The token of each option's letter after the prompt; no two are equal.
    pub tokens: Vec<u32>,
}

/// Tokens that may be too many still.
struct Draft {
    ids: Vec<u32>,
    labels: Vec<Option<u32>>,
    /// The special tokens at the start, which are kept.
    special: usize,
    /// Where the first completion starts; the prompt before it may lose tokens.
    completion: usize,
}

impl Encoder {
    /// The encoder of `settings` for the model at `model`, a Hugging Face directory or a `.gguf` file, whose ids are below `vocab_size`.
    ///
    /// `label_smoothing` holds for lines that set none. Lines of token ids need no tokenizer.
    pub fn open(
        settings: &Settings,
        loss_on: LossOn,
        label_smoothing: f32,
        model: &Path,
        vocab_size: usize,
    ) -> Result<Self> {
        if settings.max_seq_length < 2 {
            let found = settings.max_seq_length;
            return Err(Error::input(format!("found {found}, needed at least 2")).key("data.max_seq_length"));
        }
        let is_tokens = settings.format == Format::Tokens;
        let (tokenizer, template) = if is_tokens && !Tokenizer::exists(model)? {
            (None, Template::Exam)
        } else {
            let tokenizer = Tokenizer::open(model)?;
            let name = if is_tokens { "exam" } else { &settings.template };
            let template = Template::open(name, settings.format, model, &tokenizer)?;
            if settings.append_eos && !is_tokens && tokenizer.eos().is_empty() {
                return Err(Error::input("found no `eos_token`, which `data.append_eos` needs")
                    .file(tokenizer.names_file())
                    .hint("name the model's end-of-sequence token there, or set `data.append_eos = false`"));
            }
            (Some(tokenizer), template)
        };
        Ok(Self {
            tokenizer,
            template,
            max_seq_length: settings.max_seq_length,
            append_eos: settings.append_eos,
            loss_on,
            label_smoothing,
            vocab_size,
        })
    }

    /// The tokenizer; an error where the model has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            Error::input("the model has no tokenizer").hint("only token ids can be used with it")
        })
    }

    /// The examples of a line. Errors name neither the file nor the line.
    pub fn encode(&self, line: &Line) -> Result<Encoded> {
        let text = |rendered: Rendered| self.draft(&rendered, self.append_eos);
        let drafts = match &line.body {
            Body::Text(text) => return self.parts(line, text),
            Body::Tokens(tokens) => vec![self.given(tokens)?],
            Body::Preference(pair) => vec![
                text(self.template.line(line)?)?,
                text(self.template.prompt_completion(&pair.prompt, &pair.rejected)?)?,
            ],
            _ => vec![text(self.template.line(line)?)?],
        };
        let mut encoded = Encoded { examples: Vec::with_capacity(drafts.len()), truncated: false };
        for draft in drafts {
            let (example, truncated) = self.fit(line, draft)?;
            encoded.examples.push(example);
            encoded.truncated |= truncated;
        }
        Ok(encoded)
    }

    /// What precedes the completion of a line, special tokens included; for generation. It is not cut.
    ///
    /// Of a conversation that is all up to its last turn if an assistant speaks it, else all of it.
    pub fn prompt(&self, line: &Line) -> Result<Vec<u32>> {
        if let Body::Tokens(tokens) = &line.body {
            let end = tokens.labels.iter().position(Option::is_some).unwrap_or(tokens.input_ids.len());
            return Ok(tokens.input_ids[..end].to_vec());
        }
        let tokenizer = self.tokenizer()?;
        let rendered = match &line.body {
            Body::Messages(messages) => self.template.to_answer(messages)?,
            _ => self.template.line(line)?,
        };
        let end = rendered.completions.last().map_or(rendered.text.len(), |span| span.start);
        let ids = tokenizer.encode(without_last_blanks(&rendered.text[..end]))?.ids;
        let prefix = if rendered.has_special_tokens { &[][..] } else { tokenizer.prefix() };
        let prompt = [prefix, &ids].concat();
        self.check_tokens(&prompt)?;
        Ok(prompt)
    }

    /// The prompt of a question and the token of each letter after it; `shots` are solved questions that
    /// stand before it.
    ///
    /// What all letters begin with (an empty thought, in some chat templates) belongs to the prompt.
    pub fn letters(&self, line: &Line, shots: &[&Line]) -> Result<Letters> {
        let letters = (0..options(line)?.len()).map(|i| letter(i).to_string());
        let drafts = letters
            .map(|letter| self.draft(&self.template.mcqa(shots, line, &letter)?, false))
            .collect::<Result<Vec<_>>>()?;
        let first = &drafts[0];
        let shared = (0..first.ids.len())
            .take_while(|&i| drafts.iter().all(|draft| draft.ids.get(i) == Some(&first.ids[i])))
            .count();
        let tokens: Vec<u32> = drafts.iter().filter_map(|draft| draft.ids.get(shared).copied()).collect();
        let distinct: std::collections::HashSet<&u32> = tokens.iter().collect();
        if distinct.len() < drafts.len() {
            let error = Error::input("two letters begin with the same token, so they cannot be told apart");
            return Err(
                error.hint("use another template, or a model whose tokenizer has a token for each letter")
            );
        }
        // cut as in training, where the letter and the end follow
        let longest = drafts.iter().map(|draft| draft.ids.len() - shared).max().unwrap_or(0);
        let completion = longest + usize::from(self.append_eos);
        let excess = (shared + completion).saturating_sub(self.max_seq_length);
        let before = first.special.max(1);
        if before + excess > shared {
            return Err(self.too_long(completion, before));
        }
        drafts.iter().try_for_each(|draft| self.check_tokens(&draft.ids))?;
        let mut prompt = first.ids[..shared].to_vec();
        prompt.drain(first.special..first.special + excess);
        Ok(Letters { prompt, tokens })
    }

    /// The question with the text of each option as its answer, without an end-of-sequence token.
    pub fn option_texts(&self, line: &Line, shots: &[&Line]) -> Result<Vec<Tokenized>> {
        let answer = |option: &String| {
            let draft = self.draft(&self.template.mcqa(shots, line, option)?, false)?;
            Ok(self.fit(line, draft)?.0)
        };
        options(line)?.iter().map(answer).collect()
    }

    /// Token ids as they are.
    fn given(&self, tokens: &Tokens) -> Result<Draft> {
        let Tokens { input_ids, labels } = tokens.clone();
        self.check_ids("input_ids", input_ids.iter().copied().map(Some))?;
        self.check_ids("labels", labels.iter().copied())?;
        let completion = labels.iter().position(Option::is_some).unwrap_or(labels.len());
        let special = self.tokenizer.as_ref().map_or(0, |t| special_tokens(&input_ids, t.prefix()));
        Ok(Draft { ids: input_ids, labels, special, completion })
    }

    /// A text, split evenly where it is too long; each part has the special tokens in front.
    fn parts(&self, line: &Line, text: &str) -> Result<Encoded> {
        let tokenizer = self.tokenizer()?;
        let mut ids = tokenizer.encode(text)?.ids;
        if ids.is_empty() {
            check_known(text)?;
        }
        if self.append_eos {
            ids.extend(tokenizer.eos().first().filter(|_| !ends_with_any(&ids, tokenizer.eos())));
        }
        let special = tokenizer.prefix();
        let room = self.max_seq_length.saturating_sub(special.len());
        if room == 0 {
            return Err(self.too_long(1, special.len()));
        }
        let count = ids.len().div_ceil(room).max(1);
        let examples = (0..count).map(|part| {
            let own = &ids[part * ids.len() / count..(part + 1) * ids.len() / count];
            let ids = [special, own].concat();
            let labels = labels(&ids, std::slice::from_ref(&(special.len()..ids.len())));
            let draft = Draft { completion: special.len(), special: special.len(), ids, labels };
            Ok(self.fit(line, draft)?.0)
        });
        Ok(Encoded { examples: examples.collect::<Result<_>>()?, truncated: false })
    }

    fn draft(&self, rendered: &Rendered, append_eos: bool) -> Result<Draft> {
        let tokenizer = self.tokenizer()?;
        let tokens = tokenizer.encode(&rendered.text)?;
        let mut completions: Vec<Range<usize>> = Vec::with_capacity(rendered.completions.len());
        for span in &rendered.completions {
            let from = completions.last().map_or(0, |last| last.end);
            let start = without_last_blanks(&rendered.text[..span.start]).len();
            let first = position(&tokens.bytes, from, |bytes| bytes.end > start);
            let end = position(&tokens.bytes, first, |bytes| bytes.start >= span.end);
            if first == end {
                check_known(&rendered.text[span.clone()])?;
            }
            // the line end that a template puts after the end of a turn is never generated
            let last = (first..end).rev().find(|&i| tokenizer.eos().contains(&tokens.ids[i]));
            let rest = |i: usize| rendered.text.get(tokens.bytes[i].end..span.end).unwrap_or_default();
            completions.push(match last {
                Some(i) if rest(i).trim().is_empty() => first..i + 1,
                _ => first..end,
            });
        }

        let mut ids = if rendered.has_special_tokens { Vec::new() } else { tokenizer.prefix().to_vec() };
        let added = ids.len();
        ids.extend(tokens.ids);
        let special = special_tokens(&ids, tokenizer.prefix());
        completions.iter_mut().for_each(|c| *c = c.start + added..c.end + added);
        let completion = completions.first().map_or(ids.len(), |c| c.start);
        if let (true, Some(last)) = (append_eos, completions.last_mut())
            && !ends_with_any(&ids[..last.end], tokenizer.eos())
            && let Some(&eos) = tokenizer.eos().first()
        {
            ids.insert(last.end, eos);
            last.end += 1;
        }
        let labels = match self.loss_on {
            LossOn::Completion => labels(&ids, &completions),
            LossOn::All => labels(&ids, std::slice::from_ref(&(special..ids.len()))),
        };
        Ok(Draft { ids, labels, special, completion })
    }

    /// Cuts the prompt to fit; the bool says whether it lost tokens.
    fn fit(&self, line: &Line, draft: Draft) -> Result<(Tokenized, bool)> {
        let Draft { mut ids, mut labels, special, completion } = draft;
        self.check_tokens(&ids)?;
        let excess = ids.len().saturating_sub(self.max_seq_length);
        // something must remain in front of the completion, or its first token would not be learned
        let before = special.max(1).min(completion);
        if completion - before < excess {
            return Err(self.too_long(ids.len() - completion, before));
        }
        let cut = special.min(completion)..special.min(completion) + excess;
        ids.drain(cut.clone());
        labels.drain(cut);
        if let Some(first) = labels.first_mut() {
            *first = None;
        }
        if labels.iter().all(Option::is_none) {
            return Err(Error::input(format!(
                "no token carries loss among {}: the first has nothing to predict it",
                ids.len()
            ))
            .hint("give the line a prompt or a longer completion"));
        }
        let smoothing = line.smoothing.unwrap_or(self.label_smoothing);
        Ok((Tokenized { input_ids: ids, labels, weight: line.weight, smoothing }, excess > 0))
    }

    fn too_long(&self, completion: usize, before: usize) -> Error {
        let max = self.max_seq_length;
        Error::input(format!(
            "the completion has {completion} tokens and needs {before} before it, \
             but `data.max_seq_length` = {max}"
        ))
        .hint("raise `data.max_seq_length`, or shorten the line; a completion is never cut")
    }

    /// Some tokenizers know more tokens than their model; a text that has none of them is fine.
    fn check_tokens(&self, ids: &[u32]) -> Result<()> {
        let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) else { return Ok(()) };
        let token = self.tokenizer.as_ref().and_then(|t| t.token(*id)).unwrap_or_default();
        Err(Error::input(format!(
            "the text has the token {token:?}, id {id}, but the model's vocabulary has only {} ids",
            self.vocab_size
        ))
        .hint("remove the token from the line, or use the tokenizer that belongs to the model"))
    }

    fn check_ids(&self, key: &str, ids: impl Iterator<Item = Option<u32>>) -> Result<()> {
        let unknown = ids
            .enumerate()
            .find_map(|(i, id)| id.filter(|&id| id as usize >= self.vocab_size).map(|id| (i, id)));
        let Some((i, id)) = unknown else { return Ok(()) };
        let what = format!("found {id}, needed an id below the model's vocabulary size {}", self.vocab_size);
        Err(Error::input(what).key(format!("{key}[{i}]")))
    }
}

/// Targets for the ids in `trained`; the first id never is one.
fn labels(ids: &[u32], trained: &[Range<usize>]) -> Vec<Option<u32>> {
    let mut labels = vec![None; ids.len()];
    for i in trained.iter().cloned().flatten().filter(|&i| i > 0) {
        labels[i] = Some(ids[i]);
    }
    labels
}

fn options(line: &Line) -> Result<&[String]> {
    match &line.body {
        Body::Mcqa(mcqa) => Ok(&mcqa.options),
        _ => Err(Error::input("found a line without options, needed a multiple-choice question")),
    }
}

/// Refuses a text without tokens that is more than blanks: some vocabularies pass over what they lack.
fn check_known(text: &str) -> Result<()> {
    let Some(character) = text.trim().chars().next() else { return Ok(()) };
    Err(Error::input(format!(
        "nothing of what is to be learned is in the tokenizer's vocabulary, {character:?} neither"
    ))
    .hint("write the line in characters that the model knows, or use another model"))
}

fn special_tokens(ids: &[u32], prefix: &[u32]) -> usize {
    if ids.starts_with(prefix) { prefix.len() } else { 0 }
}

fn ends_with_any(ids: &[u32], ends: &[u32]) -> bool {
    ids.last().is_some_and(|last| ends.contains(last))
}

/// The first index from `from` on whose range `holds`, else the length.
fn position(ranges: &[Range<usize>], from: usize, holds: impl Fn(&Range<usize>) -> bool) -> usize {
    ranges[from..].iter().position(holds).map_or(ranges.len(), |i| from + i)
}

/// The text without the blanks at its end, which belong to the completion: a token of most vocabularies
/// has its blank in front. A line end is not a blank; it is a part of the prompt that a model waits for.
fn without_last_blanks(text: &str) -> &str {
    const LINE_ENDS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    text.trim_end_matches(|c: char| c.is_whitespace() && !LINE_ENDS.contains(&c))
}
