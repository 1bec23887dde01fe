//! What the machine can do at most, measured: arithmetic and memory.

use std::fs;
use std::time::Instant;

use rayon::prelude::*;

use super::{Cpu, Mat};

impl Cpu {
    /// FLOPs per second of a matrix product that fits the caches: the best of many, about 0.2 s, since the first
    /// ones find threads asleep and clocks low.
    pub fn measure_flops(&self) -> f64 {
        self.best_product(100)
    }

    /// As [`Self::measure_flops`], but of a burst of about 40 ms: what a machine that others share gives at the time.
    pub fn measure_pace(&self) -> f64 {
        self.best_product(20)
    }

    fn best_product(&self, tries: usize) -> f64 {
        const SIZE: usize = 512;
        let (a, mut out) = (vec![0.5; SIZE * SIZE], vec![0.0; SIZE * SIZE]);
        let best = best_of(tries, || {
            self.gemm(&mut out, Mat::new(&a, SIZE, SIZE), Mat::new(&a, SIZE, SIZE), 1.0, false);
        });
        2.0 * (SIZE * SIZE * SIZE) as f64 / best
    }

    /// Bytes per second of `a = b + s c` over three arrays that are each as large as the last-level cache, the best
    /// of some: two reads and a write an element count, as in STREAM.
    pub fn measure_bandwidth(&self) -> f64 {
        const TRIES: usize = 8;
        const TASK: usize = 1 << 16;
        let len = last_level_cache() / size_of::<f32>();
        // written, not zeroed: untouched zero pages would all be one
        let (b, c, mut a) = (vec![1.0_f32; len], vec![2.0_f32; len], vec![0.0_f32; len]);
        let best = best_of(TRIES, || {
            self.run(|| {
                let sources = b.par_chunks(TASK).zip(c.par_chunks(TASK));
                a.par_chunks_mut(TASK).zip(sources).for_each(|(a, (b, c))| {
                    for (a, (b, c)) in a.iter_mut().zip(b.iter().zip(c)) {
                        *a = b + 0.5 * c;
                    }
                });
            });
        });
        (3 * len * size_of::<f32>()) as f64 / best
    }
}

fn best_of(tries: usize, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..tries {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Bytes of the largest cache that Linux names, within reason: what it names where several machines share one
/// processor may be more than a machine's own memory.
fn last_level_cache() -> usize {
    const LEAST: usize = 32 << 20;
    const MOST: usize = 512 << 20;
    let size = |index| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let kib = fs::read_to_string(path).ok()?.trim().strip_suffix('K')?.parse::<usize>().ok()?;
        Some(kib << 10)
    };
    (0..8).filter_map(size).max().unwrap_or(LEAST).clamp(LEAST, MOST)
}
