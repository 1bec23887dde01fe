//! Every op at the shapes of SmolLM2-135M, beside its floor: the FLOPs or bytes that the equation needs, over what this
//! machine did at most just before. Criterion divides them by the time (1 element = 1 FLOP). What fits a cache can take less
//! than its bytes from memory would.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;
use std::{iter, slice};

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use preceptor::base::philox::{Philox, Purpose, Stream};
use preceptor::device::{Buffer, Device, Settings, Weight};
use preceptor::ops::adamw::{self, Constants};
use preceptor::ops::attention::{self, Heads, Layout, Saved};
use preceptor::ops::cross_entropy::{self, Gradients, Target};
use preceptor::ops::gated::{self, Activation};
use preceptor::ops::linear::{self, Linear, Write};
use preceptor::ops::lora::{self, Dropout, Factors};
use preceptor::ops::rmsnorm::{self, Gain};
use preceptor::ops::rope::{self, Turn};
use preceptor::ops::{embedding, rows};
use preceptor::tensor::Forest;

const D: usize = 576;
const H: usize = 9;
const K: usize = 3;
const E: usize = 64;
const F: usize = 1536;
const V: usize = 49_152;
const R: usize = 16;
const LAYERS: usize = 30;
const TOKENS: [usize; 2] = [256, 2048];
const BYTES: usize = size_of::<f32>();

/// What every bench needs: a device and numbers.
struct Bench {
    device: Device,
    numbers: Stream,
}

impl Bench {
    fn new() -> Self {
        let device = Device::open(&Settings::default()).expect("a CPU is always there");
        Self { device, numbers: Philox::new(1, Purpose::Sampling).stream([0; 3]) }
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.numbers.next_f32() - 0.5).collect()
    }

    fn buffer(&mut self, rows: usize, cols: usize) -> Buffer {
        let values = self.values(rows * cols);
        self.device.upload(&values, rows, cols)
    }

    fn weight(&mut self, rows: usize, cols: usize) -> Weight {
        Weight::owned(self.values(rows * cols), rows, cols)
    }
}

/// Measures one form of an op at `n` tokens.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    form: &str,
    n: usize,
    work: Throughput,
    mut run: impl FnMut(),
) {
    say_floor(form, n, &work);
    group.throughput(work);
    group.bench_function(BenchmarkId::new(form, n), |b| b.iter(&mut run));
}

/// Prints the least time that `work` can take at the machine's pace of this moment.
#[expect(clippy::print_stdout, reason = "beside what criterion prints")]
fn say_floor(form: &str, n: usize, work: &Throughput) {
    static MACHINE: LazyLock<(Device, f64)> = LazyLock::new(|| {
        let device = Bench::new().device;
        let bandwidth = device.measure_bandwidth();
        (device, bandwidth)
    });
    let (device, bandwidth) = &*MACHINE;
    let seconds = match *work {
        Throughput::Elements(flops) => flops as f64 / device.measure_pace(),
        Throughput::Bytes(bytes) => bytes as f64 / bandwidth,
        _ => unreachable!("work is FLOPs or bytes"),
    };
    println!("{form}/{n}: floor {:.1?}", Duration::from_secs_f64(seconds));
}

fn flops(count: usize) -> Throughput {
    Throughput::Elements(count as u64)
}

fn bytes(values: usize) -> Throughput {
    Throughput::Bytes((values * BYTES) as u64)
}

fn row_ops(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let table = bench.weight(V, D);
    let gain = bench.weight(1, D);
    let gain = Gain { weight: &gain, offset: 0.0, eps: 1e-5 };
    for n in TOKENS {
        let (x, dy, mut y) = (bench.buffer(n, D), bench.buffer(n, D), bench.buffer(n, D));
        let mut rrms = bench.buffer(n, 1);
        let device = &bench.device;

        let mut group = criterion.benchmark_group("embedding");
        let ids: Vec<u32> = (0..n).map(|i| (i * 7919 % V) as u32).collect();
        measure(&mut group, "forward", n, bytes(2 * n * D), || {
            embedding::forward(device, &table, black_box(&ids), 1.0, &mut y);
        });
        group.finish();

        let mut group = criterion.benchmark_group("rmsnorm");
        measure(&mut group, "forward", n, bytes(2 * n * D), || {
            rmsnorm::forward(device, black_box(&x), gain, &mut y, &mut rrms);
        });
        measure(&mut group, "backward", n, bytes(4 * n * D), || {
            rmsnorm::backward(device, black_box(&dy), &x, &rrms, gain, &mut y);
        });
        group.finish();

        let mut group = criterion.benchmark_group("rows");
        let every_fourth: Vec<u32> = (0..n as u32).step_by(4).collect();
        let mut few = device.zeros(every_fourth.len(), D);
        measure(&mut group, "add", n, bytes(3 * n * D), || rows::add(device, black_box(&x), &mut y));
        measure(&mut group, "gather a quarter", n, bytes(2 * n * D / 4), || {
            rows::gather(device, black_box(&x), &every_fourth, &mut few);
        });
        measure(&mut group, "scatter a quarter", n, bytes(3 * n * D / 4), || {
            rows::scatter_add(device, black_box(&few), &every_fourth, &mut y);
        });
        group.finish();

        let (g, u, mut m) = (bench.buffer(n, F), bench.buffer(n, F), bench.buffer(n, F));
        let device = &bench.device;
        let mut group = criterion.benchmark_group("gated");
        measure(&mut group, "forward", n, bytes(3 * n * F), || {
            gated::forward(device, Activation::Silu, black_box(&g), &u, &mut m);
        });
        // in place: every call needs its inputs anew
        say_floor("backward", n, &bytes(5 * n * F));
        group.throughput(bytes(5 * n * F));
        group.bench_function(BenchmarkId::new("backward", n), |b| {
            let copy = |x: &Buffer| device.upload(x.values(), n, F);
            b.iter_batched_ref(
                || (copy(&g), copy(&u)),
                |(g, u)| gated::backward(device, Activation::Silu, black_box(&m), g, u),
                BatchSize::LargeInput,
            );
        });
        group.finish();

        let mut q = bench.buffer(n, H * E);
        let device = &bench.device;
        let frequencies: Vec<f32> = (0..E / 2).map(|i| 1e4_f32.powf(-((2 * i) as f32) / E as f32)).collect();
        let table = rope::Table::new(device, &frequencies, n);
        let positions: Vec<u32> = (0..n as u32).collect();
        let mut group = criterion.benchmark_group("rope");
        measure(&mut group, "forward", n, bytes(2 * n * H * E), || {
            rope::apply(device, black_box(&mut q), &positions, &table, Turn::Forward);
        });
        group.finish();
    }
}

/// The feed-forward block's first linear, and an adapter on it.
fn linears(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let w = bench.weight(F, D);
    let params = bench.buffer(1, R * D + F * R);
    let mut gradients = bench.buffer(1, R * D + F * R);
    let philox = Philox::new(1, Purpose::Dropout);
    let factors =
        Factors { a: params.part(0..R * D), b: params.part(R * D..R * D + F * R), rank: R, scale: 2.0 };
    for n in TOKENS {
        let (x, dy) = (bench.buffer(n, D), bench.buffer(n, F));
        let (mut y, mut dx, mut xa) = (bench.buffer(n, F), bench.buffer(n, D), bench.buffer(n, R));
        let device = &bench.device;

        let mut group = criterion.benchmark_group("linear");
        let linear = Linear::plain(&w);
        measure(&mut group, "forward", n, flops(2 * n * D * F), || {
            linear::forward(device, black_box(&x), &[linear], slice::from_mut(&mut y));
        });
        measure(&mut group, "forward, adapter", n, flops(2 * n * (D + R) * F), || {
            let part = linear::Adapter { narrow: &xa, factor: factors.b, scale: factors.scale };
            let linear = Linear { adapter: Some(part), ..linear };
            linear::forward(device, black_box(&x), &[linear], slice::from_mut(&mut y));
        });
        let back = |adapter| [linear::Back { dy: &dy, weight: &w, adapter }];
        measure(&mut group, "backward", n, flops(2 * n * D * F), || {
            linear::backward(device, black_box(&back(None)), &mut dx, Write::Set);
        });
        measure(&mut group, "backward, adapter", n, flops(2 * n * D * (F + R)), || {
            let part = linear::Adapter { narrow: &xa, factor: factors.a, scale: 1.0 };
            linear::backward(device, black_box(&back(Some(part))), &mut dx, Write::Set);
        });
        group.finish();

        let mut group = criterion.benchmark_group("lora");
        let names: Vec<(u32, u32)> = (0..n as u32).map(|i| (i / 128, i % 128)).collect();
        let dropout = Dropout { philox: &philox, rate: 0.1, update: 0, module: 0, rows: &names };
        for (dropped, dropout) in [("", None), (", dropout", Some(dropout))] {
            let adapter = lora::Adapter { factors, dropout };
            measure(&mut group, &format!("forward{dropped}"), n, flops(2 * n * R * D), || {
                lora::forward(device, black_box(&x), &[adapter], slice::from_mut(&mut xa));
            });
            let backs = [lora::Back { dy: &dy, xa: &xa, adapter }];
            measure(&mut group, &format!("backward{dropped}"), n, flops(2 * n * R * (D + 2 * F)), || {
                let dbs = gradients.parts_mut(iter::once(R * D..R * D + F * R));
                let dxas = lora::backward_b(device, black_box(&backs), dbs);
                let das = gradients.parts_mut(iter::once(0..R * D));
                lora::backward_a(device, &x, &backs, &dxas, das, Some(&mut dx));
            });
        }
        group.finish();
    }
}

/// Sequences of 256 tokens; the floor counts the pairs (query, seen key) only: 2 products of 2 E FLOPs each
/// forward, 5 backward (the op makes 7, and fills its tiles).
fn attention(criterion: &mut Criterion) {
    const SEQUENCE: usize = 256;
    let mut bench = Bench::new();
    let heads = Heads { query: H, key_value: K, width: E, scale: 0.125, window: None };
    for n in TOKENS {
        let sequences: Vec<Vec<u32>> = (0..n / SEQUENCE).map(|_| vec![0; SEQUENCE]).collect();
        let forest = Forest::of_sequences(sequences.iter().map(|s| &s[..]));
        let layout = Layout::of_all(&forest);
        let pairs = n / SEQUENCE * (SEQUENCE * (SEQUENCE + 1) / 2);
        let (q, d_o) = (bench.buffer(n, H * E), bench.buffer(n, H * E));
        let (k, v) = (bench.buffer(n, K * E), bench.buffer(n, K * E));
        let (mut o, mut lse, mut dq) = (bench.buffer(n, H * E), bench.buffer(n, H), bench.buffer(n, H * E));
        let (mut dk, mut dv) = (bench.buffer(n, K * E), bench.buffer(n, K * E));
        let device = &bench.device;

        let mut group = criterion.benchmark_group("attention");
        measure(&mut group, "forward", n, flops(2 * 2 * pairs * H * E), || {
            attention::forward(device, &heads, &layout, black_box(&q), &k, &v, &mut o, &mut lse);
        });
        let saved = Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
        measure(&mut group, "backward", n, flops(5 * 2 * pairs * H * E), || {
            attention::backward(device, &heads, &layout, saved, black_box(&d_o), &mut dq, &mut dk, &mut dv);
        });
        group.finish();
    }
}

/// A loss at every row.
fn cross_entropy(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let head = bench.weight(V, D);
    let mut group = criterion.benchmark_group("cross_entropy");
    group.sample_size(10);
    for n in TOKENS {
        let (h, mut dh) = (bench.buffer(n, D), bench.buffer(n, D));
        let device = &bench.device;
        let target = |row: usize| Target {
            row: row as u32,
            token: (row * 7919 % V) as u32,
            weight: 1.0,
            smoothing: 0.0,
        };
        let targets: Vec<Target> = (0..n).map(target).collect();
        measure(&mut group, "loss", n, flops(2 * n * V * D), || {
            black_box(cross_entropy::forward(device, black_box(&h), &head, &targets, 1.0, None));
        });
        measure(&mut group, "loss and gradient", n, flops(4 * n * V * D), || {
            black_box(cross_entropy::forward(
                device,
                black_box(&h),
                &head,
                &targets,
                1.0,
                Some(Gradients { dh: &mut dh, dw: None }),
            ));
        });
    }
    group.finish();
}

/// Adapters of rank 16 on every linear: one call an update, whatever the tokens.
fn adamw(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let a_layer = 2 * (D + H * E) + 2 * (D + K * E) + 3 * (D + F); // q and o, k and v, gate, up and down
    let len = LAYERS * R * a_layer;
    let (mut p, g) = (bench.buffer(1, len), bench.buffer(1, len));
    let (mut m, mut v) = (bench.device.zeros(1, len), bench.device.zeros(1, len));
    let device = &bench.device;
    let constants = Constants {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        update: 1,
        clip: 1.0,
    };
    let mut group = criterion.benchmark_group("adamw");
    measure(&mut group, "norm", len, bytes(len), || {
        black_box(adamw::global_norm(device, black_box(&g)));
    });
    measure(&mut group, "update", len, bytes(7 * len), || {
        adamw::update(device, &constants, p.whole_mut(), black_box(&g).whole(), m.whole_mut(), v.whole_mut());
    });
    group.finish();
}

criterion_group!(benches, row_ops, linears, attention, cross_entropy, adamw);
criterion_main!(benches);
