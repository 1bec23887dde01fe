//! A TensorBoard events file with scalars.
//!
//! ```text
//! file    = record*
//! record  = length u64 | masked crc32c(length) u32 | event | masked crc32c(event) u32   little-endian
//! masked  = rotate_right(crc, 15) + 0xa282ead8
//! Event       { 1: wall_time double, 2: step int64, 3: file_version string, 5: Summary, 7: SessionLog }
//! Summary     { 1: Value* }         Value { 1: tag string, 2: simple_value float }
//! SessionLog  { 1: status enum }    START = 1
//! ```
//!
//! Source: TensorFlow's event.proto, summary.proto and record_writer; TensorBoard's event_accumulator,
//! which reads the files of a folder in the order of their names and, at a START event of step s, forgets
//! what it read of steps from s on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{EvalMetrics, StepMetrics};
use crate::base::{Error, Result};

const CRC_MASK: u32 = 0xa282_ead8;
const VERSION: &str = "brain.Event:2";
const START: u64 = 1;

/// An events file, open for appending.
#[derive(Debug)]
pub struct EventsFile {
    path: PathBuf,
    file: File,
}

impl EventsFile {
    /// Starts a file in `folder`. After a resume `last_step` is the checkpoint's update, and TensorBoard
    /// drops the later points of the folder's older files.
    pub fn create(folder: &Path, last_step: Option<u64>) -> Result<Self> {
        let now = now();
        let path = folder.join(name(now));
        let file = File::create_new(&path).map_err(|e| Error::io("create", &path, &e))?;
        let mut events = Self { path, file };
        events.append(&version(now))?;
        if let Some(last_step) = last_step {
            events.append(&restart(now, last_step + 1))?;
        }
        Ok(events)
    }

    /// Appends the scalars of a logged step.
    pub fn step(&mut self, metrics: &StepMetrics) -> Result<()> {
        let mut scalars = vec![
            ("train/loss".to_owned(), metrics.loss),
            ("train/grad_norm".to_owned(), metrics.grad_norm),
            ("train/learning_rate".to_owned(), metrics.learning_rate),
            ("train/epoch".to_owned(), metrics.epoch),
            ("speed/tokens_per_s".to_owned(), metrics.tokens_per_s),
            ("speed/step_ms".to_owned(), metrics.step_ms),
            ("speed/memory_bytes".to_owned(), metrics.memory_bytes as f64),
        ];
        scalars.extend(metrics.mfu.map(|mfu| ("speed/mfu".to_owned(), mfu)));
        scalars.extend(
            metrics.loss_by_source.iter().map(|(source, &loss)| (format!("loss_by_source/{source}"), loss)),
        );
        self.append(&summary(now(), metrics.step, &scalars))
    }

    /// Appends the scalars of an evaluation.
    pub fn evaluation(&mut self, metrics: &EvalMetrics) -> Result<()> {
        let mut scalars = vec![("eval/loss".to_owned(), metrics.eval_loss)];
        scalars.extend(metrics.eval_accuracy.map(|accuracy| ("eval/accuracy".to_owned(), accuracy)));
        self.append(&summary(now(), metrics.step, &scalars))
    }

    /// One call writes one whole record, so a reader meets a torn one only while it is written.
    fn append(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(|e| Error::io("write", &self.path, &e))
    }
}

/// Time since 1970.
fn now() -> Duration {
    // a clock set before 1970 costs the dates in the charts, not the run
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A later file has a later name, also within a second.
fn name(now: Duration) -> String {
    format!("events.out.tfevents.{:010}.{:09}.preceptor", now.as_secs(), now.subsec_nanos())
}

fn version(now: Duration) -> Vec<u8> {
    let mut event = head(now, 0);
    bytes_field(&mut event, 3, VERSION.as_bytes());
    event
}

fn restart(now: Duration, step: u64) -> Vec<u8> {
    let mut session_log = Vec::new();
    varint_field(&mut session_log, 1, START);
    let mut event = head(now, step);
    bytes_field(&mut event, 7, &session_log);
    event
}

fn summary(now: Duration, step: u64, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, value) in scalars {
        let mut message = Vec::new();
        bytes_field(&mut message, 1, tag.as_bytes());
        key(&mut message, 2, 5);
        message.extend((*value as f32).to_le_bytes());
        bytes_field(&mut values, 1, &message);
    }
    let mut event = head(now, step);
    bytes_field(&mut event, 5, &values);
    event
}

fn head(now: Duration, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, 1);
    event.extend(now.as_secs_f64().to_le_bytes());
    if step > 0 {
        varint_field(&mut event, 2, step); // proto3 leaves out what is 0
    }
    event
}

/// A field's number and wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let masked = |bytes| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(CRC_MASK).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Records that TensorBoard's own protobuf and record writer make of the same events.
    #[test]
    fn records_are_tensorboards_own() {
        let time = Duration::from_millis(1_500);
        let scalars = [("train/loss".to_owned(), 1.25), ("train/learning_rate".to_owned(), 1e-4)];
        let golden = [
            (
                version(time),
                "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
            ),
            (restart(time, 300), "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a"),
            (
                summary(time, 299, &scalars),
                "3d000000000000006049f1ec09000000000000f83f10ab022a2f0a110a0a747261696e2f6c6f7373150000a03f\
             0a1a0a13747261696e2f6c6561726e696e675f726174651517b7d138ddfbf003",
            ),
        ];
        for (event, expected) in golden {
            assert_eq!(hex(&record(&event)), expected);
        }
    }

    #[test]
    fn a_resumed_run_writes_a_file_that_sorts_after_the_first() {
        let home = tempfile::tempdir().unwrap();
        let first = EventsFile::create(home.path(), None).unwrap().path;
        let mut second = EventsFile::create(home.path(), Some(7)).unwrap();
        second.evaluation(&EvalMetrics { step: 8, eval_accuracy: None, eval_loss: 1.0 }).unwrap();
        assert!(first < second.path);
        let bytes = std::fs::read(&second.path).unwrap();
        assert!(bytes.windows(9).any(|w| w == b"eval/loss") && !bytes.windows(8).any(|w| w == b"accuracy"));
    }
}
