//! When what ran, in the trace event format of Chrome, which Perfetto opens.
//!
//! Complete events (`"ph": "X"`, times in microseconds) of one process in two lanes: units, and ops under them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::saved::{Op, Unit};
use crate::device::{Peaks, Span};

/// The units that count and the calls of ops in them.
#[derive(Debug)]
pub struct Timeline {
    /// Start and length of each unit.
    units: Vec<(Duration, Duration)>,
    spans: Vec<Span>,
    peaks: Peaks,
}

/// Lanes are threads of one process.
const PROCESS: u32 = 1;
const UNITS: u32 = 1;
const OPS: u32 = 2;

impl Timeline {
    pub(super) fn new(starts: &[Duration], units: &[Unit], spans: Vec<Span>, peaks: Peaks) -> Self {
        let lengths = units.iter().map(|unit| Duration::from_secs_f64(unit.seconds));
        Self { units: starts.iter().copied().zip(lengths).collect(), spans, peaks }
    }

    /// The calls of each op together, by name.
    pub(super) fn ops(&self) -> Vec<Op> {
        let mut by_name: BTreeMap<&str, Op> = BTreeMap::new();
        for span in &self.spans {
            let op = by_name.entry(span.name).or_insert_with(|| Op {
                name: span.name.to_owned(),
                calls: 0,
                seconds: 0.0,
                flops: 0.0,
                bytes: 0.0,
                floor: 0.0,
            });
            op.calls += 1;
            op.seconds += span.duration.as_secs_f64();
            op.flops += span.cost.flops;
            op.bytes += span.cost.bytes;
            op.floor += span.cost.floor(self.peaks);
        }
        by_name.into_values().collect()
    }

    /// Writes it as one JSON object.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let name = |what: &str, lane: u32, name: &str| json!({"ph": "M", "name": what, "pid": PROCESS, "tid": lane, "args": {"name": name}});
        let names = [
            name("process_name", UNITS, "preceptor bench"),
            name("thread_name", UNITS, "units"),
            name("thread_name", OPS, "ops"),
        ];
        let units = self.units.iter().enumerate().map(|(number, &(start, duration))| {
            event(&format!("unit {}", number + 1), "unit", UNITS, start, duration, json!({}))
        });
        let ops = self.spans.iter().map(|span| {
            let floor = micros(Duration::from_secs_f64(span.cost.floor(self.peaks)));
            let needs = json!({"flops": span.cost.flops, "bytes": span.cost.bytes, "floor_us": floor});
            event(span.name, "op", OPS, span.start, span.duration, needs)
        });
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        for (i, event) in names.into_iter().chain(units).chain(ops).enumerate() {
            write!(out, "{}\n{event}", if i > 0 { "," } else { "" })?;
        }
        writeln!(out, "\n]}}")
    }
}

fn event(name: &str, kind: &str, lane: u32, start: Duration, duration: Duration, args: Value) -> Value {
    json!({
        "ph": "X",
        "name": name,
        "cat": kind,
        "pid": PROCESS,
        "tid": lane,
        "ts": micros(start),
        "dur": micros(duration),
        "args": args,
    })
}

/// Whole nanoseconds, so that no rounding lets neighbours overlap.
fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}
