//! Likelihoods without training: the NLL of completions. `answer.rs` asks questions.

use crate::adapter::Lora;
use crate::base::Result;
use crate::data::{Dataset, Encoder, Tokenized, pack};
use crate::device::{Buffer, Device};
use crate::model::{Batch, Cache, Model, Pass, pass::Keep};
use crate::tensor::Forest;

use super::step;

pub use super::answer::Answered;

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

impl Scorer<'_> {
    /// The likelihood of each example's trained tokens, smoothing aside. One entry an example.
    pub fn likelihoods(&self, examples: &[Tokenized]) -> Vec<Likelihood> {
        let plain: Vec<Tokenized> =
            examples.iter().map(|e| Tokenized { smoothing: 0.0, ..e.clone() }).collect();
        let mut found = vec![Likelihood::default(); plain.len()];
        self.each_hidden(&plain, |forest, hidden| {
            for site in step::losses(self.device, self.model, forest, hidden) {
                let of_example = &mut found[site.example as usize];
                of_example.tokens += 1;
                of_example.sum_nll += site.loss;
            }
        });
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
            self.each_hidden(&examples, |forest, hidden| {
                for site in step::losses(self.device, self.model, forest, hidden) {
                    losses += f64::from(site.weight) * site.loss;
                    weights += f64::from(site.weight);
                }
            });
        }
        Ok(losses / weights)
    }

    /// Computes the examples' final hidden states, a micro-batch at a time: calls `each` with the micro-batch
    /// and its states, one row for each of [`Forest::site_tokens`].
    ///
    /// What all examples begin with is computed once, if it is long enough to be worth a cache.
    pub(super) fn each_hidden(&self, examples: &[Tokenized], mut each: impl FnMut(&Forest, &Buffer)) {
        const WORTH_A_CACHE: usize = 64;
        let prefix = common_prefix(examples);
        if prefix < WORTH_A_CACHE || examples.len() < 2 {
            for forest in self.forests(examples) {
                let batch = Batch::at_sites(&forest);
                let (device, model, adapter) = (self.device, self.model, self.adapter);
                let pass = device.run(|| Pass::forward(device, model, adapter, &batch, None, Keep::Nothing));
                each(&forest, &pass.hidden);
            }
            return;
        }
        let rest: Vec<Tokenized> = examples.iter().map(|example| example.without_first(prefix)).collect();
        let longest = rest.iter().map(|example| example.needed().len()).max().unwrap_or(0);
        let rows = prefix + longest.max(self.micro_batch_tokens);
        let mut cache = Cache::new(self.device, self.model, self.adapter, rows, prefix + longest);
        let trunk = Forest::of_sequences([&examples[0].input_ids[..prefix]]);
        cache.extend_by(&trunk, None, &[], self.micro_batch_tokens, |_, _| ());
        let (trunk_runs, last) = (cache.runs(), prefix as u32 - 1);
        for forest in self.forests(&rest) {
            cache.extend_by(&forest, Some(last), &forest.site_tokens(), forest.len(), |_, hidden| {
                each(&forest, hidden);
            });
            cache.truncate(trunk_runs);
        }
    }

    fn forests(&self, examples: &[Tokenized]) -> impl Iterator<Item = Forest> {
        let placed: Vec<(u32, &Tokenized)> = (0..).zip(examples).collect();
        let groups = pack::micro_batches(&placed, self.micro_batch_tokens, true);
        groups.into_iter().map(move |group| pack::forest(&placed[group], true))
    }
}

/// Tokens that all examples begin with and that predict nothing: what comes before their first loss.
fn common_prefix(examples: &[Tokenized]) -> usize {
    let Some((first, others)) = examples.split_first() else { return 0 };
    let before_loss = |e: &Tokenized| e.losses().next().map_or(0, |(position, _)| position);
    others.iter().fold(before_loss(first), |prefix, other| {
        let end = prefix.min(before_loss(other));
        first.input_ids[..end].iter().zip(&other.input_ids).take_while(|(a, b)| a == b).count()
    })
}

/// Examples that are held in memory at a time.
pub(super) fn chunks(examples: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    const EXAMPLES: usize = 256;
    (0..examples).step_by(EXAMPLES).map(move |start| start..(start + EXAMPLES).min(examples))
}
