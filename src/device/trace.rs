//! Which op ran when, and what its equation needs: recorded only while somebody asks.
//!
//! The floor of an op is the time that no way of computing it can beat: its FLOPs at the measured peak, or its
//! bytes at the measured bandwidth, whichever takes longer. Bytes count each operand once, as f32. What a cache
//! still holds comes faster than the bandwidth says, so a small op can stay below its floor.

use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an op's equation needs, however it is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of its products; those of element-wise ops hide behind their bytes.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl Cost {
    /// A matrix product, `rows` x `depth` times `depth` x `cols`: every operand is read, the result written.
    pub fn product(rows: usize, depth: usize, cols: usize) -> Self {
        let flops = 2.0 * rows as f64 * depth as f64 * cols as f64;
        Self { flops, ..Self::moves(rows * depth + depth * cols + rows * cols) }
    }

    /// f32 values read or written.
    pub fn moves(values: usize) -> Self {
        Self { flops: 0.0, bytes: (values * size_of::<f32>()) as f64 }
    }

    /// Seconds that it takes at least.
    pub fn floor(self, peaks: Peaks) -> f64 {
        (self.flops / peaks.flops).max(self.bytes / peaks.bytes)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// The most that a device was measured to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// FLOPs per second, of an f32 matrix product.
    pub flops: f64,
    /// Bytes per second from and to memory, of a triad (McCalpin's STREAM) that no cache holds.
    pub bytes: f64,
}

/// One call of an op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The op and which way it ran: `attention.forward`.
    pub name: &'static str,
    /// From the trace's start.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
    /// What it needs.
    pub cost: Cost,
}

/// The calls of ops on a device. Off, it costs an op one branch.
#[derive(Debug, Default)]
pub struct Trace {
    on: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    started: Option<Instant>,
    /// Whether an op is running: what it asks of other ops is its own work.
    inside: bool,
    spans: Vec<Span>,
}

impl Trace {
    /// Starts anew.
    pub fn start(&self) {
        *self.log() = Log { started: Some(Instant::now()), ..Log::default() };
        self.on.store(true, Ordering::Relaxed);
    }

    /// Time since the start; zero when it is off.
    pub fn elapsed(&self) -> Duration {
        self.log().started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// Ends it and returns the calls in the order in which they ended.
    pub fn stop(&self) -> Vec<Span> {
        self.on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.log()).spans
    }

    pub(super) fn span(&self, name: &'static str, cost: impl FnOnce() -> Cost) -> Option<Running<'_>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        let mut log = self.log();
        let start = log.started?.elapsed();
        if std::mem::replace(&mut log.inside, true) {
            return None;
        }
        Some(Running { trace: self, span: Span { name, start, duration: Duration::ZERO, cost: cost() } })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An op that is being recorded: it ends where this is dropped.
#[derive(Debug)]
#[must_use = "the op ends where this is dropped"]
pub struct Running<'a> {
    trace: &'a Trace,
    span: Span,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut log = self.trace.log();
        if let Some(started) = log.started {
            let duration = started.elapsed() - self.span.start;
            log.spans.push(Span { duration, ..self.span });
        }
        log.inside = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_trace_records_and_only_the_outer_op() {
        let trace = Trace::default();
        let cost = || Cost::product(2, 3, 4);
        drop(trace.span("a", cost));
        assert_eq!(trace.stop(), []);
        trace.start();
        let outer = trace.span("outer", cost);
        assert!(trace.span("inner", cost).is_none());
        drop(outer);
        drop(trace.span("next", Cost::default));
        let spans = trace.stop();
        assert_eq!(spans.iter().map(|s| s.name).collect::<Vec<_>>(), ["outer", "next"]);
        assert_eq!(spans[0].cost, Cost { flops: 48.0, bytes: 4.0 * 26.0 });
        assert!(spans[0].start + spans[0].duration <= spans[1].start);
        drop(trace.span("after", cost));
        assert_eq!(trace.stop(), []);
    }

    #[test]
    fn the_floor_is_the_slower_of_arithmetic_and_memory() {
        let peaks = Peaks { flops: 10.0, bytes: 2.0 };
        assert_eq!(Cost { flops: 30.0, bytes: 4.0 }.floor(peaks), 3.0);
        assert_eq!(Cost { flops: 30.0, bytes: 8.0 }.floor(peaks), 4.0);
    }
}
