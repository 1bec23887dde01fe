//! The CPU: one explicit thread pool, reused memory, an f32 GEMM.
//!
//! Nothing computed here depends on the number of threads: work is cut by shape, never by thread, and
//! what several tasks sum is added up in their order.

mod exp;
mod gemm;
mod peaks;
pub mod simd;

pub use exp::exp;
pub use gemm::{Mat, Sum, THIN_ROWS, Term, thin};

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::buffer::Memory;
use super::trace::Trace;
use crate::base::{Error, Result};

/// More threads than any host has cores, so that a slip of the pen does not ask for a million.
const MOST_THREADS: usize = 4096;

/// The host's cores.
#[derive(Debug)]
pub struct Cpu {
    pool: rayon::ThreadPool,
    memory: Arc<Memory>,
    computes: bool,
    peak: OnceLock<f64>,
    trace: Trace,
}

impl Cpu {
    /// A pool of `threads` threads; 0 = one per core.
    pub fn new(threads: usize) -> Result<Self> {
        if threads > MOST_THREADS {
            let what = format!("found {threads}, needed at most {MOST_THREADS}");
            return Err(Error::input(what).key("device.threads").hint("0 uses every core"));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("preceptor-{i}"))
            .build()
            .map_err(|e| Error::environment(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self {
            pool,
            memory: Arc::default(),
            computes: true,
            peak: OnceLock::new(),
            trace: Trace::default(),
        })
    }

    /// One that computes nothing.
    pub(super) fn blank() -> Result<Self> {
        Ok(Self { memory: Arc::new(Memory::blank()), computes: false, ..Self::new(1)? })
    }

    /// False where only memory is counted; ops that do not compute by the functions below ask.
    pub fn computes(&self) -> bool {
        self.computes
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Runs `work` inside the pool, so that its parallel iterators use this pool's threads.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// As [`Self::measure_flops`], but measured once.
    pub fn measured_peak(&self) -> f64 {
        *self.peak.get_or_init(|| self.measure_flops())
    }

    /// Calls `work(row, values)` for each row of `out`, rows in parallel.
    pub fn for_rows(&self, out: &mut [f32], cols: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        if !self.computes {
            return;
        }
        let rows = rows_per_task(cols);
        self.run(|| {
            out.par_chunks_mut(rows * cols).enumerate().for_each(|(task, chunk)| {
                for (i, row) in chunk.chunks_mut(cols).enumerate() {
                    work(task * rows + i, row);
                }
            });
        });
    }

    /// `out[c] += ` the sum of column c of a matrix of `rows` rows that `add(row, sums)` adds one at a time.
    ///
    /// Sums run in f64 over fixed blocks of rows, and the blocks' sums are added in order.
    pub fn add_column_sums(&self, out: &mut [f32], rows: usize, add: impl Fn(usize, &mut [f64]) + Sync) {
        if !self.computes {
            return;
        }
        let block = |start: usize| {
            let mut sums = vec![0.0; out.len()];
            (start..(start + SUMMED_ROWS).min(rows)).for_each(|row| add(row, &mut sums));
            sums
        };
        let blocks: Vec<Vec<f64>> = self.run(|| {
            (0..rows.div_ceil(SUMMED_ROWS)).into_par_iter().map(|i| block(i * SUMMED_ROWS)).collect()
        });
        for (column, out) in out.iter_mut().enumerate() {
            *out += blocks.iter().map(|sums| sums[column]).sum::<f64>() as f32;
        }
    }

    /// Calls `work(row, values of x, values of y)` for each row of two matrices of the same shape.
    pub fn for_row_pairs(
        &self,
        x: &mut [f32],
        y: &mut [f32],
        cols: usize,
        work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) {
        if !self.computes {
            return;
        }
        let rows = rows_per_task(cols);
        self.run(|| {
            let tasks = x.par_chunks_mut(rows * cols).zip(y.par_chunks_mut(rows * cols));
            tasks.enumerate().for_each(|(task, (x, y))| {
                for (i, (x, y)) in x.chunks_mut(cols).zip(y.chunks_mut(cols)).enumerate() {
                    work(task * rows + i, x, y);
                }
            });
        });
    }
}

/// Rows that one task of [`Cpu::add_column_sums`] sums.
const SUMMED_ROWS: usize = 128;

/// A task is worth starting from about 16 K values on.
fn rows_per_task(cols: usize) -> usize {
    ((1 << 14) / cols.max(1)).max(1)
}
