//! CUDA kernels on a GPU, on the device's clock, beside the bytes that they must move.
//!
//! Without a GPU there is nothing to time: the bench says so and ends.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use kernels::work::{LARGE, works};
use preceptor::device::cuda::{Cuda, Options};

fn main() {
    let cuda = match Cuda::open(&Options::default()) {
        Ok(cuda) => cuda,
        Err(e) => {
            eprintln!("skipped: all kernel benches: {e}");
            return;
        }
    };
    eprintln!("{}", cuda.gpu().name);
    let mut criterion = Criterion::default().configure_from_args();
    for prepare in works(&cuda, LARGE) {
        let mut work = prepare.work(&cuda).unwrap_or_else(|e| panic!("{e}"));
        let mut group = criterion.benchmark_group("kernels");
        group.throughput(Throughput::Bytes(work.bytes as u64));
        group.bench_function(work.name.clone(), |bench| {
            bench.iter_custom(|times| {
                let ms = work.time_ms(&cuda, times).unwrap_or_else(|e| panic!("{e}"));
                Duration::from_secs_f64(ms / 1e3)
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
