//! Where results go: folders in use, runs that are not the one to resume, and full disks.

use std::fs;
use std::process::Command;

use super::sandbox::{Sandbox, ran};
use super::{check, complaint};

const RESUME: &str = "train run.toml --resume";

/// A run that stopped after its first update: its newest checkpoint is that of update 1.
fn stopped(s: &Sandbox) {
    let ran = s.run("train run.toml --set train.save_steps=1 --set train.save_total_limit=0");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    fs::remove_dir_all(s.path("out/adapter")).unwrap();
    for step in 2..=6 {
        fs::remove_dir_all(s.path(&format!("out/checkpoints/step-{step}"))).unwrap();
    }
}

#[test]
#[rustfmt::skip] // one row, one line
fn folders() {
    check(2, &[
        ("a folder in use", |s| fs::create_dir_all(s.path("out/notes")).unwrap(), "train run.toml", &[
            "out: `output.dir`: the output folder is not empty",
            "hint: continue that run with --resume, or name another folder",
        ]),
        ("a file for the folder", |s| s.write("out", ""), RESUME, &[
            "out: `output.dir`: it is a file, needed a folder",
        ]),
        ("a folder below a file", |_| (), "train run.toml --set output.dir=d.jsonl/out", &["d.jsonl/out: "]),
        ("a folder that is there for the merged model", |_| (), "merge --model m --adapter a --out m", &[
            "m: it exists already",
            "hint: name a new directory",
        ]),
        ("results into a folder that is not there", |_| (), "evaluate --model m --data q.jsonl --out no/metrics.json", &[
            "no/metrics.json: cannot write it",
        ]),
        ("an order into a folder", |_| (), "order --data d.jsonl --strategy random --out m", &[
            "m: it is a folder, needed a file to write",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn runs_to_resume() {
    check(2, &[
        ("other settings", stopped, "train run.toml --resume --set train.learning_rate=1e-3", &[
            "out/config.resolved.toml: `train.learning_rate`: the run was started with 0.0001, found 0.001",
            "hint: resume with the same settings and data, or start another run in another folder",
        ]),
        ("another order", stopped, "train run.toml --resume --set sampler.seed=1", &[
            "out/config.resolved.toml: `sampler.seed`: the run was started with 42, found 1",
        ]),
        ("a setting more", stopped, "train run.toml --resume --set adapter.rank_pattern.q_proj=4", &[
            "out/config.resolved.toml: `adapter.rank_pattern.q_proj`: the run was started with nothing, found 4",
        ]),
        ("data of another order", |s| {
            stopped(s);
            s.edit("d.jsonl", "\"e3\"", "\"e33\"");
        }, RESUME, &[
            "d.jsonl: the training order is not the one the run was started with: the data changed",
            "hint: resume with the same settings and data",
        ]),
        ("other data under the same ids", |s| {
            stopped(s);
            s.edit("d.jsonl", "\"labels\":[-100,-100,", "\"labels\":[-100,9,");
        }, RESUME, &["d.jsonl: the data changed since the run was started"]),
        ("foreign metrics", |s| {
            stopped(s);
            s.write("out/metrics.jsonl", "hello\n");
        }, RESUME, &["out/metrics.jsonl:1: not a line of metrics", "hint: this file is written by `train`"]),
        ("no checkpoint that can be read", |s| {
            stopped(s);
            s.write("out/checkpoints/step-1/state.json", "{");
        }, RESUME, &[
            "out/checkpoints: no checkpoint can be read",
            "out/checkpoints/step-1/state.json: not a checkpoint's state",
            "hint: ",
        ]),
    ]);
}

/// Runs a shell script in the sandbox; `$PRECEPTOR` is the binary.
fn shell(s: &Sandbox, script: &str) -> super::Ran {
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).current_dir(s.path("")).env("PRECEPTOR", env!("CARGO_BIN_EXE_preceptor"));
    ran(shell.output().unwrap())
}

/// A file size limit of N KiB that the process is told of instead of killed for: what a full disk is like.
fn limited(s: &Sandbox, kib: u32, command: &str) -> super::Ran {
    shell(s, &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$PRECEPTOR\" {command}"))
}

#[test]
fn full_disks() {
    for (command, says) in [
        (
            "order --data d.jsonl --strategy random > /dev/full",
            "cannot write to standard output: No space left",
        ),
        (
            "order --data d.jsonl --strategy random --out /dev/full",
            "/dev/full: cannot write it: No space left",
        ),
        ("evaluate --model m --data q.jsonl --out /dev/full", "/dev/full: cannot write it: No space left"),
        (
            "evaluate --model m --data q.jsonl --predictions /dev/full",
            "/dev/full: cannot write it: No space left",
        ),
        ("score --model m --data d.jsonl > /dev/full", "cannot write to standard output: No space left"),
    ] {
        let sandbox = Sandbox::new();
        let ran = shell(&sandbox, &format!("exec \"$PRECEPTOR\" {command}"));
        assert_eq!(complaint(&ran, 3, &[says]), None, "{command}");
    }
    let sandbox = Sandbox::new();
    let ran = limited(&sandbox, 4, "merge --model m --adapter a --out w");
    assert_eq!(complaint(&ran, 3, &["w/model.safetensors: cannot write it: File too large"]), None);
    assert!(!sandbox.path("w").exists(), "nothing that looks like a model is left");
}

/// The checkpoint of update 3 does not fit: those of updates 1 and 2 stay whole, and the run goes on from
/// them once there is room.
#[test]
fn a_full_disk_loses_no_older_checkpoint() {
    let sandbox = Sandbox::new();
    stopped(&sandbox);
    let before = fs::read(sandbox.path("out/checkpoints/step-1/optimizer.safetensors")).unwrap();
    let ran = limited(&sandbox, 2, &format!("{RESUME} --set train.save_steps=1"));
    assert_eq!(complaint(&ran, 3, &["out/checkpoints/"]), None);
    assert!(ran.stderr.contains("cannot write it: File too large"), "{}", ran.stderr);
    assert!(
        !ran.stderr.contains(".unfinished"),
        "the message names where the file was to be: {}",
        ran.stderr
    );
    assert_eq!(fs::read(sandbox.path("out/checkpoints/step-1/optimizer.safetensors")).unwrap(), before);
    let ran = sandbox.run(RESUME);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
