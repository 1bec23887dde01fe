//! Instructions of the host's short paths, counted by Callgrind: on a busy machine their time says little, and their count
//! is the same each time, but for the tenths of a percent that a hash map's random seed moves where an order goes by
//! category. `cargo xtask bench instructions` runs it; it wants valgrind.

#![expect(missing_docs, unused_qualifications, reason = "gungraun's macros write such code")]

use std::hint::black_box;
use std::ops::Range;

use gungraun::{library_benchmark, library_benchmark_group, main};
use preceptor::base::philox::{Philox, Purpose};
use preceptor::data::pack::{self, micro_batches};
use preceptor::data::{Format, Line, Tokenized};
use preceptor::sampler::{self, Labels, Settings, Strategy};
use preceptor::tensor::Forest;

mod examples;

use examples::{BUDGET, examples};

const QUESTION: &[u8] = br#"{"id": "q1", "question": "Which vitamin do the gut's bacteria make?", "options": ["A", "C", "D", "K"],
    "answer": 3, "subject": "nutrition", "difficulty": 0.25}"#;
const CONVERSATION: &[u8] = br#"{"messages": [{"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "Which vitamin do the gut's bacteria make?"}, {"role": "assistant", "content": "Vitamin K."}]}"#;
const TEXT: &[u8] =
    br#"{"text": "The gut's bacteria make vitamin K, which the liver needs for clotting factors."}"#;

#[library_benchmark]
#[bench::question(QUESTION, Format::Mcqa)]
#[bench::conversation(CONVERSATION, Format::Messages)]
#[bench::text(TEXT, Format::Text)]
fn line(text: &[u8], format: Format) -> Line {
    Line::parse(black_box(text), format).expect("the line is right")
}

fn numbered(examples: &[Tokenized]) -> Vec<(u32, &Tokenized)> {
    (0..).zip(examples).collect()
}

#[library_benchmark]
#[bench::alone(examples(1), false)]
#[bench::shared(examples(8), true)]
fn forest(examples: Vec<Tokenized>, share: bool) -> Forest {
    pack::forest(black_box(&numbered(&examples)), share)
}

#[library_benchmark]
#[bench::alone(examples(1), false)]
#[bench::shared(examples(8), true)]
fn batches(examples: Vec<Tokenized>, share: bool) -> Vec<Range<usize>> {
    micro_batches(black_box(&numbered(&examples)), BUDGET, share)
}

/// The categories and difficulties of ten thousand examples.
fn labels() -> (Vec<String>, Vec<f64>) {
    let mut numbers = Philox::new(1, Purpose::Order).stream([0; 3]);
    (0..10_000).map(|_| (format!("category-{}", numbers.below(60)), f64::from(numbers.next_f32()))).unzip()
}

#[library_benchmark]
#[bench::random(labels(), Strategy::Random)]
#[bench::curriculum(labels(), Strategy::Curriculum)]
#[bench::blocked(labels(), Strategy::Blocked)]
#[bench::interleaved(labels(), Strategy::Interleaved)]
fn order((categories, difficulties): (Vec<String>, Vec<f64>), strategy: Strategy) -> Vec<u32> {
    let n = categories.len();
    let labels = Labels { n, categories: Some(&categories), difficulties: Some(&difficulties) };
    sampler::order(&Settings { strategy, ..Settings::default() }, black_box(&labels), 0, 32)
        .expect("every label is there")
}

library_benchmark_group!(name = data, benchmarks = [line, forest, batches]);
library_benchmark_group!(name = orders, benchmarks = order);
main!(library_benchmark_groups = [data, orders]);
