//! `adapter.method = "full"`: every weight is trained, and the run leaves a model.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use preceptor::tensor::{Checkpoint, DType, StoredFile};

use super::sandbox::Sandbox;
use super::{column, command, evaluations, finished, names, objects, steady, steps, train};

const FULL: [&str; 3] = ["adapter.method=full", "train.learning_rate=1e-3", "train.epochs=2"];

/// Two epochs of 6 updates, with the checkpoint of the last.
fn full(s: &Sandbox, out: &str, sets: &[&str]) {
    train(s, out, &[&FULL[..], &["train.save_steps=4"], sets].concat());
}

/// The weights in f32, as the checkpoint after the last update has them.
fn weights(s: &Sandbox, out: &str) -> Vec<f32> {
    let file = StoredFile::open(&s.path(out).join("checkpoints/step-12/model.safetensors")).unwrap();
    file.tensors().keys().flat_map(|name| file.f32s(name).unwrap()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_run_leaves_a_model() {
    let s = Sandbox::new();
    full(&s, "out", &["data.eval=d.jsonl", "train.keep_best=true"]);
    let expected = [
        "best",
        "checkpoints",
        "config.resolved.toml",
        "events",
        "metrics.jsonl",
        "model",
        "order.jsonl",
        "report.html",
    ];
    assert_eq!(names(&s, "out"), expected);
    let model = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&s, "out/model"), model);
    let checkpoint = [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&s, "out/checkpoints/step-12"), checkpoint);
    assert_eq!(s.read("out/model/config.json"), s.read("m/config.json"));
    let mode = |name: &str| fs::metadata(s.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("out/model/model.safetensors"), mode("out/metrics.jsonl"), "others may read it, too");

    // the types of the base; every weight has moved
    let [base, trained, exact] = ["m", "out/model", "out/checkpoints/step-12"]
        .map(|folder| Checkpoint::open(&s.path(folder)).unwrap());
    assert!(trained.names().eq(base.names()) && exact.names().eq(base.names()));
    for name in base.names() {
        let values = |of: &Checkpoint| {
            let (file, stored) = of.find(name).unwrap();
            (stored.weight_dtype().unwrap(), file.f32s(name).unwrap())
        };
        let [(old_type, old), (new_type, new), (exact_type, exact)] = [&base, &trained, &exact].map(values);
        assert_eq!((old_type, new_type, exact_type), (DType::BF16, DType::BF16, DType::F32), "{name}");
        assert_ne!(old, exact, "{name} is trained");
        for (new, exact) in new.iter().zip(&exact) {
            assert!((new - exact).abs() <= exact.abs() / 256.0, "{name}: {new} is no rounding of {exact}");
        }
    }

    // what was evaluated last, with f32 weights, is what the model directory says but for its rounding
    let scores = objects(&finished(s.run("score --model out/model --data d.jsonl")).stdout);
    let sum = |key: &str| scores.iter().map(|row| row[key].as_f64().unwrap()).sum::<f64>();
    let (of_model, of_run) =
        (sum("sum_nll") / sum("tokens"), column(&evaluations(&s, "out"), "eval_loss")[0]);
    assert!((of_model - of_run).abs() < 1e-2, "{of_model} {of_run}");
    let losses = column(&steps(&s, "out"), "loss");
    assert!(of_run < losses[0] - 0.1, "it learned: {losses:?}, then {of_run}");
}

#[test]
fn threads_and_recomputation_leave_the_bits() {
    let s = Sandbox::new();
    full(&s, "out", &["--threads 1"]);
    for (out, set) in [("two", "--threads 2"), ("three", "--threads 3"), ("again", "train.recompute=true")] {
        full(&s, out, &[set]);
        assert_eq!(bits(&weights(&s, out)), bits(&weights(&s, "out")), "{out}");
        assert_eq!(steady(&s, out), steady(&s, "out"), "{out}");
    }
}

/// Only the order of sums changes. In Adam's first updates a weight moves by the rate whatever its gradient is, so
/// where a gradient is all but zero its rounding shows; there are few of them, and losses do not see them.
#[test]
fn micro_batches_and_sharing_change_sums_by_rounding() {
    let s = Sandbox::new();
    full(&s, "out", &[]);
    for (out, set) in [("cut", "train.micro_batch_tokens=16"), ("apart", "train.share_prefixes=off")] {
        full(&s, out, &[set]);
        for (x, y) in column(&steps(&s, out), "loss").iter().zip(column(&steps(&s, "out"), "loss")) {
            assert!((x / y - 1.0).abs() <= 1e-5, "{out}: {x} {y}");
        }
    }
}

#[test]
fn a_stopped_run_ends_with_the_same_bits() {
    let s = Sandbox::new();
    let sets = ["data.eval=d.jsonl", "train.eval_steps=3", "train.keep_best=true"];
    full(&s, "whole", &sets);
    full(&s, "out", &sets);
    for damaged in [false, true] {
        // as if killed: no result, no later checkpoint
        fs::remove_dir_all(s.path("out/model")).unwrap();
        fs::remove_dir_all(s.path("out/checkpoints/step-12")).unwrap();
        if damaged {
            let path = s.path("out/checkpoints/step-8/model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let all = [&FULL[..], &["train.save_steps=4", "--resume"], &sets[..]].concat();
        let resumed = finished(s.run(&command("out", &all)));
        let from = if damaged { 4 } else { 8 };
        assert!(resumed.stderr.contains(&format!("resuming after update {from}")), "{}", resumed.stderr);
        assert_eq!(bits(&weights(&s, "out")), bits(&weights(&s, "whole")));
        assert_eq!(steady(&s, "out"), steady(&s, "whole"));
        let [one, other] =
            ["out", "whole"].map(|out| fs::read(s.path(out).join("model/model.safetensors")).unwrap());
        assert!(one == other, "the same model");
    }
    let again = finished(s.run(&command("out", &[&FULL[..], &["--resume"]].concat())));
    assert!(again.stderr.contains("finished already"), "{}", again.stderr);
}

/// Texts, every token trained, from a model that knows nothing.
#[test]
fn a_model_is_trained_from_texts() {
    let s = Sandbox::new();
    let lines = ["a b a b a b a b", "b a b a b a b a"].map(|text| format!("{{\"text\": \"{text}\"}}\n"));
    s.write("t.jsonl", lines.concat().repeat(8));
    let sets = [
        "data.train=t.jsonl",
        "data.format=text",
        "train.objective=lm",
        "train.epochs=6",
        "train.learning_rate=1e-2",
    ];
    train(&s, "out", &[&FULL[..1], &sets].concat());
    let losses = column(&steps(&s, "out"), "loss");
    assert!(losses[0] > 4.0 && losses[losses.len() - 1] < 1.0, "{losses:?}");
}
