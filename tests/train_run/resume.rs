//! Runs that are stopped, killed and damaged, and go on as if nothing had been.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use preceptor::base::philox::{Philox, Purpose};

use super::sandbox::{Sandbox, ran};
use super::{adapter, column, command, finished, metrics, names, steady, steps, train};

/// A run of 132 updates with everything that a checkpoint must carry.
const LONG: [&str; 7] = [
    "train.epochs=22",
    "train.save_steps=5",
    "train.learning_rate=1e-3",
    "adapter.lora_dropout=0.1",
    "data.eval=d.jsonl",
    "train.eval_steps=20",
    "train.keep_best=true",
];

fn with<'a>(sets: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [sets, more].concat()
}

/// The last update of which `metrics.jsonl` has a whole line; 0 without one.
fn last_step(out: &Path) -> u64 {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.split_inclusive('\n').rfind(|line| line.ends_with('\n'));
    whole.map_or(0, |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
}

/// Starts a run and waits until it is past update `step`, or over.
fn past(s: &Sandbox, arguments: &str, step: u64) -> Child {
    let out = s.path("out");
    let mut child = s
        .command()
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while last_step(&out) <= step && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn what_resume_finds() {
    let s = Sandbox::new();
    finished(s.run(&command("out", &["--resume"])));
    let before = fs::read(s.path("out/metrics.jsonl")).unwrap();
    let again = finished(s.run(&command("out", &["--resume"])));
    assert!(again.stderr.contains("finished already"), "{}", again.stderr);
    assert_eq!(fs::read(s.path("out/metrics.jsonl")).unwrap(), before);
    let refused = s.run(&command("out", &[]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(fs::read(s.path("out/metrics.jsonl")).unwrap(), before);
}

/// What a run leaves before its first checkpoint, other settings included, is written anew.
#[test]
fn without_a_checkpoint_a_resume_starts_afresh() {
    let s = Sandbox::new();
    train(&s, "whole", &[]);
    train(&s, "out", &["sampler.seed=1"]);
    fs::remove_dir_all(s.path("out/adapter")).unwrap();
    fs::create_dir_all(s.path("out/checkpoints/.unfinished-1")).unwrap();
    s.write("out/.unfinished-2", "half");
    finished(s.run(&command("out", &["--resume"])));
    assert_eq!(adapter(&s, "out"), adapter(&s, "whole"));
    assert_eq!(steady(&s, "out"), steady(&s, "whole"));
    assert_eq!(s.read("out/order.jsonl"), s.read("whole/order.jsonl"));
    assert_eq!(names(&s, "out/checkpoints"), [""; 0]);
    assert!(!s.path("out/.unfinished-2").exists());
}

#[test]
fn a_signal_stops_a_run_after_a_checkpoint() {
    let s = Sandbox::new();
    train(&s, "whole", &LONG);
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let _ = fs::remove_dir_all(s.path("out")); // absent the first time
        let child = past(&s, &command("out", &LONG), 6);
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let stopped = ran(child.wait_with_output().unwrap());
        assert_eq!(stopped.code, Some(code), "{}", stopped.stderr);
        let step = last_step(&s.path("out"));
        assert!(stopped.stderr.contains(&format!("after update {step}; ")), "{}", stopped.stderr);
        assert!(s.path(&format!("out/checkpoints/step-{step}/state.json")).exists(), "{step}");
        let resumed = finished(s.run(&command("out", &with(&LONG, &["--resume"]))));
        assert!(resumed.stderr.contains(&format!("resuming after update {step}")), "{}", resumed.stderr);
        assert_eq!(adapter(&s, "out"), adapter(&s, "whole"), "{signal}");
        assert_eq!(steady(&s, "out"), steady(&s, "whole"), "{signal}");
    }
}

#[test]
fn killed_again_and_again_a_run_ends_with_the_same_bits() {
    let s = Sandbox::new();
    train(&s, "whole", &LONG);
    let mut numbers = Philox::new(11, Purpose::Sampling).stream([0; 3]);
    let (mut from, mut kills) = (0, 0);
    for _ in 0..6 {
        let step = from + u64::from(numbers.below(20));
        let mut child = past(&s, &command("out", &with(&LONG, &["--resume"])), step);
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait_with_output().unwrap();
        from = last_step(&s.path("out"));
    }
    assert!(kills >= 3, "most of the runs were still going: {kills} of 6");
    finished(s.run(&command("out", &with(&LONG, &["--resume"]))));
    assert_eq!(adapter(&s, "out"), adapter(&s, "whole"));
    assert_eq!(steady(&s, "out"), steady(&s, "whole"));
    assert_eq!(column(&steps(&s, "out"), "step"), (1..=132).map(f64::from).collect::<Vec<_>>());
    assert_eq!(names(&s, "out"), names(&s, "whole"), "nothing half-written is left");
    assert_eq!(names(&s, "out/checkpoints"), names(&s, "whole/checkpoints"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let s = Sandbox::new();
    let sets = ["train.save_steps=2", "train.save_total_limit=0"];
    train(&s, "whole", &sets);
    for file in ["optimizer.safetensors", "adapter_model.safetensors", "state.json"] {
        let _ = fs::remove_dir_all(s.path("out")); // absent the first time
        train(&s, "out", &sets);
        fs::remove_dir_all(s.path("out/adapter")).unwrap();
        fs::remove_dir_all(s.path("out/checkpoints/step-6")).unwrap();
        let path = s.path("out/checkpoints/step-4").join(file);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        let resumed = finished(s.run(&command("out", &with(&sets, &["--resume"]))));
        assert!(resumed.stderr.contains(&format!("out/checkpoints/step-4/{file}: ")), "{}", resumed.stderr);
        assert!(resumed.stderr.contains("resuming after update 2"), "{}", resumed.stderr);
        assert_eq!(adapter(&s, "out"), adapter(&s, "whole"), "{file}");
        assert_eq!(steady(&s, "out"), steady(&s, "whole"), "{file}");
    }
}

/// What only decides how a run goes, not where it ends, may change on the way.
#[test]
fn a_resumed_run_may_log_save_and_compute_otherwise() {
    let s = Sandbox::new();
    train(&s, "whole", &[]);
    train(&s, "out", &["train.save_steps=2"]);
    fs::remove_dir_all(s.path("out/adapter")).unwrap();
    fs::remove_dir_all(s.path("out/checkpoints/step-6")).unwrap();
    let sets =
        ["--resume", "--threads 1", "train.logging_steps=2", "train.recompute=true", "train.save_steps=0"];
    finished(s.run(&command("out", &sets)));
    assert_eq!(adapter(&s, "out"), adapter(&s, "whole"));
    assert_eq!(column(&metrics(&s, "out"), "step"), [1.0, 2.0, 3.0, 4.0, 6.0]);
}
