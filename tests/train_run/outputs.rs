//! What a run leaves in its folder.

use preceptor::config::Config;

use super::sandbox::{EXAMPLES, Sandbox};
use super::{column, evaluations, finished, metrics, names, objects, steps, train};

#[test]
fn a_folder_holds_what_is_documented() {
    let s = Sandbox::new();
    let ran = train(
        &s,
        "out",
        &["train.save_steps=4", "train.keep_best=true", "data.eval=d.jsonl", "train.eval_steps=3"],
    );
    assert_eq!(ran.stdout, "", "logs go to stderr");
    assert!(!ran.stderr.contains('\u{1b}'), "colours are for terminals: {}", ran.stderr);
    let expected = [
        "adapter",
        "best",
        "checkpoints",
        "config.resolved.toml",
        "events",
        "metrics.jsonl",
        "order.jsonl",
        "report.html",
    ];
    assert_eq!(names(&s, "out"), expected);
    assert_eq!(names(&s, "out/adapter"), ["adapter_config.json", "adapter_model.safetensors"]);
    assert_eq!(names(&s, "out/checkpoints"), ["step-4"]);
    assert_eq!(
        names(&s, "out/checkpoints/step-4"),
        ["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "state.json"]
    );
    let config = Config::parse(&s.read("out/config.resolved.toml")).unwrap();
    assert_eq!((config.adapter.r, config.train.batch_size, config.train.save_steps), (2, 4, 4));
    assert!(s.read("out/report.html").contains("</html>"));
}

#[test]
fn metrics_have_the_documented_fields_and_what_they_mean() {
    let s = Sandbox::new();
    train(
        &s,
        "out",
        &["data.eval=d.jsonl", "train.eval_steps=4", "train.warmup_steps=2", "sampler.strategy=sequential"],
    );
    let fields = [
        "step",
        "epoch",
        "loss",
        "loss_by_source",
        "grad_norm",
        "learning_rate",
        "examples",
        "tokens",
        "trained_tokens",
        "computed_tokens",
        "tokens_per_s",
        "mfu",
        "memory_bytes",
        "step_ms",
    ];
    let keys = |line: &serde_json::Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let lines = steps(&s, "out");
    assert!(lines.iter().all(|line| keys(line) == fields), "{lines:?}");
    let evals = evaluations(&s, "out");
    assert!(evals.iter().all(|line| keys(line) == ["step", "eval_accuracy", "eval_loss"]), "{evals:?}");

    assert_eq!(column(&lines, "step"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(column(&lines, "examples"), [4.0, 4.0, 4.0, 4.0, 4.0, 2.0]);
    for (epoch, done) in column(&lines, "epoch").iter().zip([4, 8, 12, 16, 20, 22]) {
        assert!((epoch - f64::from(done) / EXAMPLES as f64).abs() < 1e-12, "{lines:?}");
    }
    let rates = [0.5, 1.0, 1.0, 0.75, 0.5, 0.25].map(|share| share * 1e-4);
    assert!(
        column(&lines, "learning_rate").iter().zip(rates).all(|(x, y)| (x - y).abs() < 1e-18),
        "{lines:?}"
    );
    let data = objects(&s.read("d.jsonl"));
    let len = |line: &serde_json::Value| line["input_ids"].as_array().unwrap().len();
    let trained = |line: &serde_json::Value| {
        line["labels"].as_array().unwrap().iter().filter(|label| label.as_i64() != Some(-100)).count()
    };
    let sum = |count: &dyn Fn(&serde_json::Value) -> usize| {
        data.chunks(4).map(|update| update.iter().map(count).sum::<usize>() as f64).collect::<Vec<_>>()
    };
    assert_eq!(column(&lines, "tokens"), sum(&len));
    assert_eq!(column(&lines, "trained_tokens"), sum(&trained));
    for (computed, tokens) in column(&lines, "computed_tokens").iter().zip(column(&lines, "tokens")) {
        assert!(*computed < tokens, "examples of an update begin alike: {computed} of {tokens}");
    }
    for line in &lines {
        let by_source = line["loss_by_source"].as_object().unwrap();
        let losses: Vec<f64> = by_source.values().map(|loss| loss.as_f64().unwrap()).collect();
        let (loss, [low, high]) = (
            line["loss"].as_f64().unwrap(),
            [f64::min, f64::max].map(|f| losses.iter().copied().reduce(f).unwrap()),
        );
        assert!(by_source.keys().all(|source| source == "book" || source == "web"), "{line}");
        assert!(low <= loss && loss <= high, "the whole lies between its parts: {line}");
        assert!(line["grad_norm"].as_f64().unwrap() > 0.0 && line["mfu"].as_f64().unwrap() > 0.0, "{line}");
    }
    assert_eq!(column(&evals, "step"), [4.0, 6.0], "and at the end");
    assert!(evals.iter().all(|line| line["eval_accuracy"].is_null()), "token ids have no options");
}

#[test]
fn every_so_many_updates_are_logged_and_the_last() {
    let s = Sandbox::new();
    train(&s, "out", &["train.logging_steps=4"]);
    assert_eq!(column(&metrics(&s, "out"), "step"), [4.0, 6.0]);
}

#[test]
fn the_order_is_the_one_that_order_tells() {
    let s = Sandbox::new();
    for strategy in preceptor::sampler::Strategy::ALL {
        let out = format!("out-{strategy}");
        let sets = [
            &format!("sampler.strategy={strategy}")[..],
            "sampler.seed=9",
            "sampler.parts=2",
            "train.epochs=2",
            "train.max_steps=7", // one update into the second epoch: an epoch that begins is ordered whole
        ];
        train(&s, &out, &sets);
        let told = finished(s.run(&format!(
            "order --data d.jsonl --strategy {strategy} --seed 9 --parts 2 --epochs 2 --batch-size 4"
        )));
        assert_eq!(s.read(&format!("{out}/order.jsonl")), told.stdout, "{strategy}");
        assert_eq!(told.stdout.lines().count(), 2 * EXAMPLES, "{strategy}");
    }
}

#[test]
fn old_checkpoints_make_room() {
    let s = Sandbox::new();
    train(&s, "out", &["train.save_steps=1", "train.save_total_limit=2"]);
    assert_eq!(names(&s, "out/checkpoints"), ["step-5", "step-6"]);
    train(&s, "all", &["train.save_steps=2", "train.save_total_limit=0"]);
    assert_eq!(names(&s, "all/checkpoints"), ["step-2", "step-4", "step-6"]);
    train(&s, "none", &[]);
    assert!(!s.path("none/checkpoints").exists());
}

/// A rate so high that the run soon spoils what it learned.
#[test]
fn the_best_adapter_is_kept() {
    let s = Sandbox::new();
    // Training on these lines makes what it never trains on less and less likely: the first adapter is the best.
    let elsewhere = |i: usize| format!("{{\"input_ids\": [1, 2, 3], \"labels\": [-100, -100, 0], \"id\": \"{i}\"}}\n");
    s.write("e.jsonl", (0..4).map(elsewhere).collect::<String>());
    let sets = [
        "data.eval=e.jsonl",
        "train.eval_steps=1",
        "train.keep_best=true",
        "train.learning_rate=0.05",
        "train.lr_scheduler_type=constant",
    ];
    train(&s, "out", &sets);
    let evals = evaluations(&s, "out");
    let losses = column(&evals, "eval_loss");
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert!(best + 1 < losses.len(), "the last is not the best: {losses:?}");
    let kept =
        std::fs::read(s.path(&format!("out/best/step-{}/adapter_model.safetensors", best + 1))).unwrap();
    assert_eq!(super::adapter(&s, "out"), kept);
    train(&s, "last", &[&sets[..2], &sets[3..]].concat());
    assert_ne!(super::adapter(&s, "last"), kept, "without keep_best it is the last");
    assert!(!s.path("last/best").exists());
}
