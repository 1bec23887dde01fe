//! The cost of packing: an update's examples to micro-batches and to a token forest, with and without shared prefixes.
//! Criterion divides the tokens by the time.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use preceptor::data::Tokenized;
use preceptor::data::pack::{forest, micro_batches};

mod examples;

use examples::{BUDGET, examples};

fn packing(criterion: &mut Criterion) {
    for alike in [1, 8] {
        let examples = examples(alike);
        let tokens: usize = examples.iter().map(|example| example.needed().len()).sum();
        let numbered: Vec<(u32, &Tokenized)> = (0..).zip(&examples).collect();
        for share in [false, true] {
            let mut group = criterion.benchmark_group(if share { "packing, shared" } else { "packing" });
            group.throughput(Throughput::Elements(tokens as u64));
            group.bench_function(BenchmarkId::new("forest", alike), |b| {
                b.iter(|| forest(black_box(&numbered), share));
            });
            group.bench_function(BenchmarkId::new("micro_batches", alike), |b| {
                b.iter(|| micro_batches(black_box(&numbered), BUDGET, share));
            });
            group.finish();
        }
    }
}

criterion_group!(benches, packing);
criterion_main!(benches);
