//! The cost of one epoch's order on a million examples, and of its file.

use std::io::{self, BufWriter};

use criterion::{Criterion, criterion_group, criterion_main};
use preceptor::base::philox::{Philox, Purpose};
use preceptor::sampler::{Labels, Settings, Strategy, order, order_hash, write_order};

const EXAMPLES: u32 = 1_000_000;

fn orders(criterion: &mut Criterion) {
    let mut stream = Philox::new(1, Purpose::Order).stream([0; 3]);
    let ids: Vec<String> = (0..EXAMPLES).map(|i| format!("example-{i}")).collect();
    let categories: Vec<String> = (0..EXAMPLES).map(|_| format!("category-{}", stream.below(60))).collect();
    let difficulties: Vec<f64> = (0..EXAMPLES).map(|_| f64::from(stream.next_f32())).collect();
    let labels = Labels { n: ids.len(), categories: Some(&categories), difficulties: Some(&difficulties) };

    let mut group = criterion.benchmark_group("sampler");
    group.sample_size(10);
    for strategy in Strategy::ALL {
        let settings = Settings { strategy, ..Settings::default() };
        group.bench_function(strategy.name(), |b| b.iter(|| order(&settings, &labels, 0, 32)));
    }
    let random = order(&Settings::default(), &labels, 0, 32).expect("a random order needs no labels");
    group.bench_function("hash", |b| b.iter(|| order_hash(&random, &ids)));
    group.bench_function("file", |b| {
        b.iter(|| write_order(&mut BufWriter::new(io::sink()), 0, &random, &ids, &labels));
    });
    group.finish();
}

criterion_group!(benches, orders);
criterion_main!(benches);
