//! What a line is about, as a point: the mean of a model's final hidden states over the line's own text.

use crate::base::{Error, Result};
use crate::data::{Body, Dataset, Line, Tokenizer};
use crate::device::{Buffer, Device};
use crate::model::{Batch, Model, Pass, pass::Keep};
use crate::tensor::Forest;

/// Tokens of a line that are looked at.
const LONGEST: usize = 512;
/// Tokens that are computed at a time.
const TOKENS_AT_A_TIME: usize = 2048;

/// The text that says what a line is about: of a question its words and its options, without letters or answer.
pub(super) fn text(line: &Line) -> Option<String> {
    Some(match &line.body {
        Body::Mcqa(q) => [std::slice::from_ref(&q.question), &q.options].concat().join("\n"),
        Body::PromptCompletion(p) => format!("{}{}", p.prompt, p.completion),
        Body::Messages(messages) => {
            messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")
        }
        Body::Instruction(i) => [i.instruction.as_str(), &i.input, &i.output].join("\n"),
        Body::Text(text) => text.clone(),
        Body::Preference(p) => format!("{}{}", p.prompt, p.chosen),
        Body::Tokens(_) => return None,
    })
}

/// A point for each example of `data`: centred, and of length 1. `n x D`.
///
/// The tokens that the tokenizer puts first take part in the pass but not in the mean: they are alike everywhere.
pub fn points(device: &Device, model: &Model, tokenizer: &Tokenizer, data: &Dataset) -> Result<Buffer> {
    let (prefix, width) = (tokenizer.prefix(), model.spec().hidden);
    let longest = LONGEST.min(model.spec().context);
    let mut sequences = Vec::with_capacity(data.len());
    for example in 0..data.len() {
        let at = |e: Error| e.at(data.path(), data.line_number(example));
        let text = text(&data.line(example)?);
        let text = text.ok_or_else(|| at(Error::input("found token ids, needed text")))?;
        let ids = tokenizer.encode(&text).map_err(at)?.ids;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= model.spec().vocabulary) {
            return Err(at(Error::input(format!("its text has token {id}, which the model does not"))));
        }
        let sequence: Vec<u32> = prefix.iter().chain(&ids).copied().take(longest).collect();
        if sequence.len() <= prefix.len() {
            return Err(at(Error::input("its text has no token")));
        }
        sequences.push(sequence);
    }
    let mut means = vec![0.0; sequences.len() * width];
    let mut first = 0;
    while first < sequences.len() {
        let mut tokens = 0;
        let fits = |s: &&Vec<u32>| {
            tokens += s.len();
            tokens <= TOKENS_AT_A_TIME
        };
        let count = sequences[first..].iter().take_while(fits).count().max(1);
        let chunk = first..first + count;
        let forest = Forest::of_sequences(sequences[chunk.clone()].iter().map(Vec::as_slice));
        let batch = Batch::new(&forest, (0..forest.len() as u32).collect());
        let pass = device.run(|| Pass::forward(device, model, None, &batch, None, Keep::Nothing));
        for (segment, mean) in forest.segments.iter().zip(means[chunk.start * width..].chunks_mut(width)) {
            let own = segment.range().start + prefix.len()..segment.range().end;
            let states = &pass.hidden.values()[own.start * width..own.end * width];
            for (d, mean) in mean.iter_mut().enumerate() {
                let sum: f64 = states.iter().skip(d).step_by(width).map(|&h| f64::from(h)).sum();
                *mean = sum / own.len() as f64;
            }
        }
        first = chunk.end;
    }
    normalise(&mut means, width);
    let values: Vec<f32> = means.iter().map(|&v| v as f32).collect();
    Ok(device.upload(&values, sequences.len(), width))
}

/// Takes the mean of all rows from each and scales it to length 1: what all lines share tells none apart.
fn normalise(rows: &mut [f64], width: usize) {
    let n = (rows.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for row in rows.chunks(width) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    for row in rows.chunks_mut(width) {
        row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
}
