//! The cost of packing: an update's examples to micro-batches and to a token forest, with and without shared prefixes.
//! Criterion divides the tokens by the time.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use preceptor::base::philox::{Philox, Purpose, Stream};
use preceptor::data::Tokenized;
use preceptor::data::pack::{forest, micro_batches};

/// Examples of an update, tokens that those of one question share, and each one's own.
const EXAMPLES: usize = 64;
const SHARED: usize = 200;
const OWN: usize = 20;
/// Tokens of a micro-batch.
const BUDGET: usize = 4096;

/// Examples in runs of `alike` that begin with the same tokens.
fn examples(numbers: &mut Stream, alike: usize) -> Vec<Tokenized> {
    let mut tokens = |len: usize| -> Vec<u32> { (0..len).map(|_| numbers.below(49_152)).collect() };
    let mut examples = Vec::with_capacity(EXAMPLES);
    while examples.len() < EXAMPLES {
        let prefix = tokens(SHARED);
        for _ in 0..alike.min(EXAMPLES - examples.len()) {
            examples.push(Tokenized::prompt(&[prefix.clone(), tokens(OWN)].concat()));
        }
    }
    examples
}

fn packing(criterion: &mut Criterion) {
    let mut numbers = Philox::new(1, Purpose::Sampling).stream([0; 3]);
    for alike in [1, 8] {
        let examples = examples(&mut numbers, alike);
        let numbered: Vec<(u32, &Tokenized)> = (0..).zip(&examples).collect();
        for share in [false, true] {
            let mut group = criterion.benchmark_group(if share { "packing, shared" } else { "packing" });
            group.throughput(Throughput::Elements((EXAMPLES * (SHARED + OWN)) as u64));
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
