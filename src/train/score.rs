//! Likelihoods without training: the NLL of completions, and letter probabilities of questions.

use crate::adapter::Lora;
use crate::base::Result;
use crate::data::{Body, Dataset, Encoder, Tokenized, pack};
use crate::device::Device;
use crate::model::{Batch, Model, Pass, pass::Keep};
use crate::ops::cross_entropy;
use crate::tensor::Forest;

use super::step;

/// A model as it is asked: base, maybe an adapter, and how many tokens it computes at a time.
#[derive(Clone, Copy, Debug)]
pub struct Scorer<'a> {
    /// Where it computes.
    pub device: &'a Device,
    /// The base.
    pub model: &'a Model,
    /// The adapter on it.
    pub adapter: Option<&'a Lora>,
    /// Tokens that are computed at a time: a matter of memory, not of results.
    pub micro_batch_tokens: usize,
}

/// How likely a completion is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Number of scored tokens.
    pub tokens: usize,
    /// Sum of their negative log-likelihoods, in nats.
    pub sum_nll: f64,
}

/// A multiple-choice question as the model answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Softmax over the letters' next-token logits.
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

impl Scorer<'_> {
    /// The likelihood of each example's trained tokens, smoothing aside. One entry an example.
    pub fn likelihoods(&self, examples: &[Tokenized]) -> Vec<Likelihood> {
        let plain: Vec<Tokenized> =
            examples.iter().map(|e| Tokenized { smoothing: 0.0, ..e.clone() }).collect();
        let mut found = vec![Likelihood::default(); plain.len()];
        for forest in self.forests(&plain) {
            for site in step::evaluate(self.device, self.model, self.adapter, &forest) {
                let of_example = &mut found[site.example as usize];
                of_example.tokens += 1;
                of_example.sum_nll += site.loss;
            }
        }
        found
    }

    /// sum(w l) / sum(w) over the whole of `data`, smoothing included: its loss as training would see it.
    pub fn loss(&self, data: &Dataset, encoder: &Encoder) -> Result<f64> {
        let (mut losses, mut weights) = (0.0, 0.0);
        for chunk in chunks(data.len()) {
            let mut examples = Vec::new();
            for index in chunk {
                examples.extend(data.tokenized(index, encoder)?);
            }
            for forest in self.forests(&examples) {
                for site in step::evaluate(self.device, self.model, self.adapter, &forest) {
                    losses += f64::from(site.weight) * site.loss;
                    weights += f64::from(site.weight);
                }
            }
        }
        Ok(losses / weights)
    }

    /// Answers every question of `data` by comparing the next-token logits of the letters.
    pub fn letters(&self, data: &Dataset, encoder: &Encoder) -> Result<Vec<Answered>> {
        let mut answered = Vec::with_capacity(data.len());
        for chunk in chunks(data.len()) {
            let mut questions = Vec::new();
            for index in chunk {
                let at = |e: crate::base::Error| e.at(data.path(), data.line_number(index));
                let line = data.line(index)?;
                let letters = encoder.letters(&line, &[]).map_err(at)?;
                questions.push((line, letters));
            }
            // The prompt, with any letter as the target: what is wanted is the state that predicts it.
            let prompts: Vec<Tokenized> = questions
                .iter()
                .map(|(_, letters)| {
                    let mut labels = vec![None; letters.prompt.len()];
                    labels.push(Some(letters.tokens[0]));
                    let input_ids = letters.prompt.iter().chain(&letters.tokens[..1]).copied().collect();
                    Tokenized { input_ids, labels, weight: 1.0, smoothing: 0.0 }
                })
                .collect();
            let mut logits: Vec<Vec<f32>> = vec![Vec::new(); prompts.len()];
            for forest in self.forests(&prompts) {
                let batch = Batch::at_sites(&forest);
                let pass = Pass::forward(self.device, self.model, self.adapter, &batch, None, Keep::Nothing);
                for site in &forest.sites {
                    let row =
                        batch.rows().binary_search(&site.token).expect("a site's token is a wanted row");
                    let question = site.example as usize;
                    let tokens = &questions[question].1.tokens;
                    logits[question] =
                        cross_entropy::logits_at(self.device, &pass.hidden, self.model.head(), row, tokens);
                }
            }
            answered.extend(questions.into_iter().zip(logits).map(|((line, _), logits)| {
                let answer = if let Body::Mcqa(question) = &line.body { question.answer } else { 0 };
                Answered { probabilities: softmax(&logits), answer, subject: line.subject }
            }));
        }
        Ok(answered)
    }

    fn forests(&self, examples: &[Tokenized]) -> impl Iterator<Item = Forest> {
        let placed: Vec<(u32, &Tokenized)> = (0..).zip(examples).collect();
        let groups = pack::micro_batches(&placed, self.micro_batch_tokens, true);
        groups.into_iter().map(move |group| pack::forest(&placed[group], true))
    }
}

/// Examples that are held in memory at a time.
fn chunks(examples: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    const EXAMPLES: usize = 256;
    (0..examples).step_by(EXAMPLES).map(move |start| start..(start + EXAMPLES).min(examples))
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|&z| f64::from(z - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}
