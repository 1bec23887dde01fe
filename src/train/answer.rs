//! Multiple-choice questions without training: by letter, by the options' texts, or by what the model writes.

use std::collections::BTreeMap;

use super::generate::{Generator, Prompt, Sampling, Transcript};
use super::score::{Likelihood, Scorer, chunks};
use super::shots::Shots;
use crate::base::Result;
use crate::data::line::{Mcqa, letter};
use crate::data::{Body, Dataset, Encoder, Line, Tokenized};
use crate::ops::cross_entropy;

/// A multiple-choice question as the model answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Of each option: softmax over the letters' next-token logits, or over the options' log-likelihoods.
    pub probabilities: Vec<f64>,
    /// Index of the right option.
    pub answer: usize,
    /// Its subject, if it has one.
    pub subject: Option<String>,
}

impl Answered {
    /// Index of the most probable option; the first of equals.
    pub fn choice(&self) -> usize {
        let best =
            |best: usize, i: usize| if self.probabilities[i] > self.probabilities[best] { i } else { best };
        (0..self.probabilities.len()).fold(0, best)
    }
}

/// A multiple-choice question as the model answers it in its own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What it wrote.
    pub text: String,
    /// Index of the option whose letter it named first, if it named one.
    pub choice: Option<usize>,
    /// Index of the right option.
    pub answer: usize,
    /// Its subject, if it has one.
    pub subject: Option<String>,
}

/// How options of different lengths are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// By the log-likelihood of the whole text.
    None,
    /// By the log-likelihood a token.
    Tokens,
    /// By the log-likelihood a byte of the option's text.
    Bytes,
}

impl Normalization {
    fn score(self, likelihood: &Likelihood, option: &str) -> f64 {
        let length = match self {
            Self::None => 1,
            Self::Tokens => likelihood.tokens,
            Self::Bytes => option.len(),
        };
        -likelihood.sum_nll / length as f64
    }
}

impl Scorer<'_> {
    /// Answers every question of `data` by comparing the next-token logits of the letters.
    pub fn letters(&self, data: &Dataset, encoder: &Encoder) -> Result<Vec<Answered>> {
        self.letters_after(data, encoder, &Shots::default())
    }

    /// As [`Scorer::letters`], with solved questions before each.
    pub fn letters_after(&self, data: &Dataset, encoder: &Encoder, shots: &Shots) -> Result<Vec<Answered>> {
        for_questions(data, shots, |questions, shots| {
            let letters = questions.iter().map(|q| q.say(data, encoder.letters(&q.line, shots)));
            let letters = letters.collect::<Result<Vec<_>>>()?;
            let prompts: Vec<Tokenized> = letters.iter().map(|l| Tokenized::prompt(&l.prompt)).collect();
            let mut logits: Vec<Vec<f32>> = vec![Vec::new(); prompts.len()];
            self.each_hidden(&prompts, |forest, hidden| {
                let rows = forest.site_tokens();
                for site in &forest.sites {
                    let row = rows.binary_search(&site.token).expect("a site's token has a row");
                    let question = site.example as usize;
                    let tokens = &letters[question].tokens;
                    logits[question] =
                        cross_entropy::logits_at(self.device, hidden, self.model.head(), row, tokens);
                }
            });
            let logits = logits.iter().map(|logits| logits.iter().map(|&z| f64::from(z)).collect::<Vec<_>>());
            Ok(questions.iter().zip(logits).map(|(question, logits)| question.answered(&logits)).collect())
        })
    }

    /// Answers every question of `data` by the likelihood of each option's text as its answer. What the
    /// options' sequences have in common, the question, is computed once.
    pub fn option_texts(
        &self,
        data: &Dataset,
        encoder: &Encoder,
        shots: &Shots,
        normalization: Normalization,
    ) -> Result<Vec<Answered>> {
        for_questions(data, shots, |questions, shots| {
            let options = questions.iter().map(|q| q.say(data, encoder.option_texts(&q.line, shots)));
            let examples = options.collect::<Result<Vec<_>>>()?.concat();
            let likelihoods = self.likelihoods(&examples);
            let mut rest = &likelihoods[..];
            let answered = questions.iter().map(|question| {
                let options = &question.mcqa().options;
                let own = rest.split_off(..options.len()).expect("one likelihood an option");
                let score =
                    |(likelihood, option): (&Likelihood, &String)| normalization.score(likelihood, option);
                question.answered(&own.iter().zip(options).map(score).collect::<Vec<_>>())
            });
            Ok(answered.collect())
        })
    }

    /// Lets the model write at most `most` tokens after every question of `data`, the most probable ones, and
    /// takes the first letter of an option that stands alone in them.
    pub fn written(
        &self,
        data: &Dataset,
        encoder: &Encoder,
        shots: &Shots,
        most: usize,
    ) -> Result<Vec<Written>> {
        let Self { device, model, adapter, micro_batch_tokens: tokens_at_a_time } = *self;
        let generator = Generator { device, model, adapter, tokens_at_a_time };
        let tokenizer = encoder.tokenizer()?;
        for_questions(data, shots, |questions, shots| {
            let prompts = questions.iter().map(|q| q.say(data, encoder.letters(&q.line, shots)));
            let prompts = prompts.map(|letters| Ok(letters?.prompt)).collect::<Result<Vec<_>>>()?;
            let most = |tokens: &[u32]| most.min(model.spec().context.saturating_sub(tokens.len())).max(1);
            let prompts: Vec<Prompt<'_>> = prompts
                .iter()
                .map(|tokens| Prompt { tokens, place: 0, samples: 1, most: most(tokens) })
                .collect();
            let mut texts: Vec<Transcript> = prompts.iter().map(|p| Transcript::new(p.tokens)).collect();
            let mut outcome = Ok(());
            for group in generator.groups(&prompts) {
                let first = group.start;
                generator.run(&prompts[group], &Sampling::GREEDY, |prompt, _, drawn| {
                    let (text, question) = (&mut texts[first + prompt], &questions[first + prompt]);
                    let goes_on = text.push(tokenizer, &[], drawn).unwrap_or_else(|e| {
                        outcome = Err(e);
                        false
                    });
                    // a letter at the end may be a word's first
                    let found = first_letter(&text.text, question.mcqa().options.len());
                    goes_on && found.is_none_or(|(_, end)| end == text.text.len())
                });
            }
            outcome?;
            let written = |(question, text): (&Question, &Transcript)| Written {
                text: text.text.clone(),
                choice: first_letter(&text.text, question.mcqa().options.len()).map(|(choice, _)| choice),
                answer: question.mcqa().answer,
                subject: question.line.subject.clone(),
            };
            Ok(questions.iter().zip(&texts).map(written).collect())
        })
    }
}

/// A question and its place in its file.
struct Question {
    index: usize,
    line: Line,
}

impl Question {
    fn mcqa(&self) -> &Mcqa {
        match &self.line.body {
            Body::Mcqa(mcqa) => mcqa,
            _ => unreachable!("the encoder refuses lines that are no questions"),
        }
    }

    /// Names the line in an error about it.
    fn say<T>(&self, data: &Dataset, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.at(data.path(), data.line_number(self.index)))
    }

    fn answered(&self, scores: &[f64]) -> Answered {
        let (answer, subject) = (self.mcqa().answer, self.line.subject.clone());
        Answered { probabilities: softmax(scores), answer, subject }
    }
}

/// Calls `answer` with questions that have the same shots before them, and the shots; returns what it says of
/// each, in the order of the data.
fn for_questions<T>(
    data: &Dataset,
    shots: &Shots,
    mut answer: impl FnMut(&[Question], &[&Line]) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let mut by_shots: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for index in 0..data.len() {
        let places =
            shots.before(&data.line(index)?).map_err(|e| e.at(data.path(), data.line_number(index)))?;
        by_shots.entry(places).or_default().push(index);
    }
    let mut found = Vec::with_capacity(data.len());
    for (places, indices) in by_shots {
        for chunk in chunks(indices.len()) {
            let read = |&index: &usize| Ok(Question { index, line: data.line(index)? });
            let questions = indices[chunk].iter().map(read).collect::<Result<Vec<_>>>()?;
            let answers = answer(&questions, &shots.lines(&places))?;
            found.extend(questions.iter().map(|q| q.index).zip(answers));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, answer)| answer).collect())
}

/// The first character of the East Asian scripts.
const EAST_ASIAN: char = '\u{2E80}';

/// The option whose letter stands in the text first, with neither letter nor digit beside it, and where it ends.
/// Scripts that write no blanks between words may stand beside it.
fn first_letter(text: &str, options: usize) -> Option<(usize, usize)> {
    let mut before = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let alone = |beside: Option<char>| beside.is_none_or(|c| !c.is_alphanumeric() || c >= EAST_ASIAN);
        let option = (0..options).find(|&option| letter(option) == c);
        if let (Some(option), true, true) = (option, alone(before), alone(characters.peek().map(|(_, c)| *c)))
        {
            return Some((option, at + c.len_utf8()));
        }
        before = Some(c);
    }
    None
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = scores.iter().map(|z| (z - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_that_stands_alone_is_the_answer() {
        let cases = [
            (" B", 4, Some(1)),
            ("B) Left ventricle", 4, Some(1)),
            ("The answer is (C).", 4, Some(2)),
            ("**D**", 4, Some(3)),
            ("E", 4, None), // no such option
            ("Both Are Correct", 4, None),
            ("b", 4, None),
            ("B12, so D", 4, Some(3)),
            ("Ärzte: A", 2, Some(0)),
            ("答案是B。", 4, Some(1)),
            ("Ответ: С", 4, None), // a Cyrillic letter
            ("", 4, None),
        ];
        for (text, options, expected) in cases {
            assert_eq!(first_letter(text, options).map(|(choice, _)| choice), expected, "{text:?}");
        }
    }
}
