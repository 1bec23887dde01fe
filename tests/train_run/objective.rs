//! What the loss is, from where a run starts, and what becomes of its adapter.

use serde_json::{Value, json};

use super::sandbox::Sandbox;
use super::{adapter, column, evaluations, finished, objects, steady, steps, train};

/// Writes `d.jsonl` anew with `fields` in each line.
fn in_each_line(s: &Sandbox, file: &str, fields: impl Fn(usize) -> Value) {
    let line = |(i, mut line): (usize, Value)| {
        line.as_object_mut().unwrap().extend(fields(i).as_object().unwrap().clone());
        format!("{line}\n")
    };
    let lines: String = objects(&s.read("d.jsonl")).into_iter().enumerate().map(line).collect();
    s.write(file, lines);
}

/// (tokens, sum of their NLL) of each line.
fn scores(s: &Sandbox, arguments: &str) -> Vec<(f64, f64)> {
    let rows = objects(&finished(s.run(&format!("score {arguments}"))).stdout);
    rows.iter().map(|row| (row["tokens"].as_f64().unwrap(), row["sum_nll"].as_f64().unwrap())).collect()
}

fn near(x: f64, y: f64, allowed: f64) {
    assert!((x - y).abs() <= allowed, "{x} and {y} are {:e} apart, allowed {allowed:e}", (x - y).abs());
}

/// A fresh adapter changes nothing, so the first loss is the base model's, which `score` tells token by token.
#[test]
fn the_loss_is_the_weighted_mean_over_trained_tokens() {
    let s = Sandbox::new();
    let weight = |i: usize| [1.0, 0.25, 3.0, 2.0][i % 4];
    in_each_line(&s, "w.jsonl", |i| json!({"weight": weight(i)}));
    train(&s, "out", &["data.train=w.jsonl", "sampler.strategy=sequential", "train.max_steps=1"]);
    let scores = scores(&s, "--model m --data d.jsonl");
    let (mut losses, mut weights) = (0.0, 0.0);
    for (i, (tokens, nll)) in scores.iter().take(4).enumerate() {
        losses += weight(i) * nll;
        weights += weight(i) * tokens;
    }
    near(column(&steps(&s, "out"), "loss")[0], losses / weights, 1e-5);
}

#[test]
fn equal_weights_are_no_weights() {
    let s = Sandbox::new();
    in_each_line(&s, "w.jsonl", |_| json!({"weight": 2}));
    train(&s, "plain", &[]);
    train(&s, "weighted", &["data.train=w.jsonl"]);
    assert_eq!(adapter(&s, "plain"), adapter(&s, "weighted"));
    assert_eq!(steady(&s, "plain"), steady(&s, "weighted"));
}

#[test]
fn a_lines_smoothing_is_the_settings_for_that_line() {
    let s = Sandbox::new();
    in_each_line(&s, "s.jsonl", |_| json!({"smoothing": 0.125}));
    train(&s, "setting", &["train.label_smoothing=0.125"]);
    train(&s, "lines", &["data.train=s.jsonl"]);
    train(&s, "lines-win", &["data.train=s.jsonl", "train.label_smoothing=0.5"]);
    assert_eq!(adapter(&s, "setting"), adapter(&s, "lines"));
    assert_eq!(steady(&s, "setting"), steady(&s, "lines-win"));
    train(&s, "none", &[]);
    assert_ne!(column(&steps(&s, "setting"), "loss"), column(&steps(&s, "none"), "loss"));
}

#[test]
fn a_run_ends_at_max_steps_and_its_schedule_knows() {
    let s = Sandbox::new();
    train(&s, "out", &["train.max_steps=4", "train.epochs=9", "train.lr_scheduler_type=cosine"]);
    let lines = steps(&s, "out");
    assert_eq!(column(&lines, "step"), [1.0, 2.0, 3.0, 4.0]);
    for (rate, s) in column(&lines, "learning_rate").iter().zip(0..) {
        near(*rate, 1e-4 * 0.5 * (1.0 + (std::f64::consts::PI * f64::from(s) / 4.0).cos()), 1e-18);
    }
}

#[test]
fn lm_trains_every_token_that_something_predicts() {
    let s = Sandbox::new();
    let line = |i: usize| {
        format!("{}\n", json!({"prompt": format!("{i} plus 1 is"), "completion": format!(" {}", i + 1)}))
    };
    s.write("p.jsonl", (0..4).map(line).collect::<String>());
    let sets = ["data.train=p.jsonl", "data.format=prompt-completion", "train.max_steps=1"];
    train(&s, "sft", &sets);
    train(&s, "lm", &[&sets[..], &["train.objective=lm"]].concat());
    let of = |out: &str, key: &str| column(&steps(&s, out), key)[0];
    // 11 characters, a blank, a digit and the end; four lines
    assert_eq!((of("sft", "tokens"), of("lm", "tokens")), (56.0, 56.0));
    assert_eq!((of("sft", "trained_tokens"), of("lm", "trained_tokens")), (12.0, 52.0));
}

/// The eval lines say what `evaluate` and `score` say of the final adapter.
#[test]
fn evaluation_during_a_run_is_evaluation_after_it() {
    let s = Sandbox::new();
    let sets = ["data.train=q.jsonl", "data.eval=q.jsonl", "data.format=mcqa", "train.learning_rate=1e-2"];
    train(&s, "out", &sets);
    let evals = evaluations(&s, "out");
    assert_eq!(evals.len(), 1, "at the end");
    let told = finished(s.run(
        "evaluate --model m --adapter out/adapter --data q.jsonl --json --out e.json --predictions p.jsonl",
    ));
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(report, serde_json::from_str::<Value>(&s.read("e.json")).unwrap());
    assert_eq!(evals[0]["eval_accuracy"], report["accuracy"]);
    let predictions = objects(&s.read("p.jsonl"));
    let right = predictions.iter().filter(|p| p["choice"] == p["answer"] && p["correct"] == true).count();
    assert_eq!(report["accuracy"].as_f64().unwrap(), right as f64 / predictions.len() as f64);
    let scores = scores(&s, "--model m --adapter out/adapter --data q.jsonl --append-eos");
    let sum = |pick: fn(&(f64, f64)) -> f64| scores.iter().map(pick).sum::<f64>();
    near(evals[0]["eval_loss"].as_f64().unwrap(), sum(|s| s.1) / sum(|s| s.0), 1e-5);
}

/// The merged model says what base and adapter say; a run that starts from the adapter and learns nothing
/// leaves it as it is.
#[test]
fn an_adapter_goes_on_and_into_its_base() {
    let s = Sandbox::new();
    s.golden("llama_bias"); // f32: merging rounds no further than computing does
    train(
        &s,
        "out",
        &["train.learning_rate=1e-2", "adapter.use_rslora=true", "adapter.rank_pattern.q_proj=4"],
    );
    finished(s.run("merge --model m --adapter out/adapter --out w"));
    let (apart, merged) = (
        scores(&s, "--model m --adapter out/adapter --data d.jsonl"),
        scores(&s, "--model w --data d.jsonl"),
    );
    let base = scores(&s, "--model m --data d.jsonl");
    for ((apart, merged), base) in apart.iter().zip(&merged).zip(&base) {
        near(apart.1, merged.1, 1e-4);
        assert!((apart.1 - base.1).abs() > 1e-2, "the adapter does something");
    }
    s.edit("run.toml", "r = 2", "r = 8"); // the adapter's own shape wins
    train(&s, "still", &["adapter.init_from=out/adapter", "train.learning_rate=0"]);
    assert_eq!(adapter(&s, "still"), adapter(&s, "out"));
    train(&s, "on", &["adapter.init_from=out/adapter"]);
    assert_ne!(adapter(&s, "on"), adapter(&s, "out"));
    assert!(column(&steps(&s, "on"), "loss")[0] < column(&steps(&s, "out"), "loss")[0]);
}
