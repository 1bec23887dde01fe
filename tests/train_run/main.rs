//! `train`, `generate` and `evaluate` from outside: the binary on a tiny model, judged by what it leaves and prints.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod bench;
mod full;
mod invariance;
mod objective;
mod outputs;
mod plan;
mod resume;
mod writing;

use std::fs;

use preceptor::tensor::StoredFile;
use sandbox::{Ran, Sandbox};
use serde_json::Value;

/// Trains into the folder `out` with `sets`, each `table.key=value`, to the end.
fn train(s: &Sandbox, out: &str, sets: &[&str]) -> Ran {
    finished(s.run(&command(out, sets)))
}

/// The arguments of a run; the further ones are options or settings.
fn command(out: &str, sets: &[&str]) -> String {
    let mut command = format!("train run.toml --set output.dir={out}");
    for set in sets {
        command += if set.starts_with("--") { " " } else { " --set " };
        command += set;
    }
    command
}

fn finished(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

/// The bytes of a run's adapter.
fn adapter(s: &Sandbox, out: &str) -> Vec<u8> {
    fs::read(s.path(out).join("adapter/adapter_model.safetensors")).unwrap()
}

/// The largest difference between the values of two runs' adapters.
fn gap(s: &Sandbox, one: &str, other: &str) -> f32 {
    let open = |out: &str| StoredFile::open(&s.path(out).join("adapter/adapter_model.safetensors")).unwrap();
    let (one, other) = (open(one), open(other));
    let values = |file: &StoredFile| -> Vec<f32> {
        file.tensors().keys().flat_map(|name| file.f32s(name).unwrap()).collect()
    };
    values(&one).iter().zip(values(&other)).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// The objects of a JSONL text.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn metrics(s: &Sandbox, out: &str) -> Vec<Value> {
    objects(&s.read(&format!("{out}/metrics.jsonl")))
}

/// The lines of updates.
fn steps(s: &Sandbox, out: &str) -> Vec<Value> {
    metrics(s, out).into_iter().filter(|line| line.get("loss").is_some()).collect()
}

/// The lines of evaluations.
fn evaluations(s: &Sandbox, out: &str) -> Vec<Value> {
    metrics(s, out).into_iter().filter(|line| line.get("eval_loss").is_some()).collect()
}

/// The metrics without what the clock and the memory say.
fn steady(s: &Sandbox, out: &str) -> Vec<Value> {
    let mut lines = metrics(s, out);
    for line in lines.iter_mut().map(|line| line.as_object_mut().unwrap()) {
        for measured in ["tokens_per_s", "mfu", "memory_bytes", "step_ms"] {
            line.shift_remove(measured);
        }
    }
    lines
}

fn column(lines: &[Value], key: &str) -> Vec<f64> {
    lines.iter().map(|line| line[key].as_f64().unwrap()).collect()
}

/// Names in a folder of the sandbox, sorted, with the numbers of events files left out.
fn names(s: &Sandbox, folder: &str) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(s.path(folder)).unwrap().map(name).collect();
    names.iter_mut().filter(|n| n.starts_with("events.")).for_each(|n| *n = "events".into());
    names.sort();
    names.dedup();
    names
}
