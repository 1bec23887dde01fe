//! `label`: columns from a model's probabilities, from scores made elsewhere, and from clusters.

use serde_json::{Map, Value, json};

use super::sandbox::Sandbox;
use super::{finished, refused};

fn lines(text: &str) -> Vec<Map<String, Value>> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that `labelled` is `data` with a value under `key`, all else the same and in its place; returns the values.
fn column(data: &str, labelled: &str, key: &str) -> Vec<Value> {
    let (data, labelled) = (lines(data), lines(labelled));
    assert_eq!(data.len(), labelled.len());
    data.into_iter()
        .zip(labelled)
        .map(|(before, after)| {
            let mut keys: Vec<&str> = before.keys().map(String::as_str).collect();
            if !before.contains_key(key) {
                keys.push(key);
            }
            assert_eq!(after.keys().map(String::as_str).collect::<Vec<_>>(), keys);
            for (name, value) in before.iter().filter(|(name, _)| *name != key) {
                assert_eq!(value, &after[name]);
            }
            after[key].clone()
        })
        .collect()
}

#[test]
fn difficulty_is_what_the_model_does_not_give_the_right_letter() {
    let s = Sandbox::new();
    finished(s.run("evaluate --model m --adapter a --data q.jsonl --predictions p.jsonl"));
    let out = finished(s.run("label difficulty --model m --adapter a --data q.jsonl --out d.jsonl --json"));
    let expected: Vec<f64> = lines(&s.read("p.jsonl"))
        .iter()
        .map(|p| 1.0 - p["probabilities"][p["answer"].as_u64().unwrap() as usize].as_f64().unwrap())
        .collect();
    let found = column(&s.read("q.jsonl"), &s.read("d.jsonl"), "difficulty");
    for (found, expected) in found.iter().zip(&expected) {
        // reading JSON may round a number of [0, 1] by an ulp, on either side
        assert!(
            (found.as_f64().unwrap() - expected).abs() <= 4.0 * f64::EPSILON,
            "{found}, needed {expected}"
        );
    }
    let summary: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(
        (&summary["n"], &summary["scorers"], &summary["agreement"]),
        (&json!(6), &json!(1), &Value::Null)
    );
    let mean = expected.iter().sum::<f64>() / 6.0;
    assert!((summary["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
}

/// Scores from elsewhere count as one more scorer, by probability or by difficulty; the file may be its own output.
#[test]
fn imported_scores_join_the_mean() {
    let s = Sandbox::new();
    let before = s.read("q.jsonl");
    let scores = |of: fn(usize) -> Value| (0..6).rev().map(|i| of(i).to_string() + "\n").collect::<String>();
    s.write("p.jsonl", scores(|i| json!({"id": i + 1, "p": i as f64 / 8.0, "model": "x"})));
    s.write("h.jsonl", scores(|i| json!({"id": format!("{}", i + 1), "difficulty": i as f64 / 16.0})));
    let out = finished(s.run(
        "label difficulty --scores p.jsonl --scores h.jsonl --data q.jsonl --out q.jsonl --column wrong",
    ));
    let found = column(&before, &s.read("q.jsonl"), "wrong");
    for (i, value) in found.iter().enumerate() {
        // multiples of 1/32 are exact
        assert_eq!(value.as_f64().unwrap(), 1.0 - (i as f64 / 8.0 + 1.0 - i as f64 / 16.0) / 2.0);
    }
    assert!(out.stdout.contains("by -1.00"), "{}", out.stdout);
    let again = s.read("q.jsonl");
    finished(s.run("label difficulty --scores h.jsonl --data q.jsonl --out q.jsonl --column wrong"));
    assert_eq!(
        column(&again, &s.read("q.jsonl"), "wrong")[2],
        json!(0.125),
        "a column that is there is replaced"
    );
}

#[test]
fn wrong_scores_are_refused_by_line() {
    let s = Sandbox::new();
    let run = |scores: &str| {
        s.write("p.jsonl", scores);
        let error = refused(s.run("label difficulty --scores p.jsonl --data q.jsonl --out x.jsonl"));
        assert!(!s.path("x.jsonl").exists());
        error
    };
    assert!(run("{\"id\": 1, \"p\": 1.5}\n").contains("p.jsonl:1: found a probability of 1.5"));
    assert!(run("\n{\"id\": 1}\n").contains("p.jsonl:2: needed one of `p` and `difficulty`"));
    assert!(run("{\"id\": 1, \"p\": 1}\n{\"id\": \"1\", \"p\": 1}\n").contains("p.jsonl:2: `id`"));
    assert!(run("{\"id\": 1, \"p\": 1}\n").contains("has no score for \"2\" of q.jsonl:2"));
    assert!(refused(s.run("label difficulty --data q.jsonl --out x.jsonl")).contains("no scorer"));
    let two = refused(s.run("label difficulty --model m --model m --adapter a --data q.jsonl --out x.jsonl"));
    assert!(two.contains("--adapter"), "{two}");
    let csv = refused(s.run("label difficulty --scores p.jsonl --data q.jsonl --out x.csv"));
    assert!(csv.contains("x.csv: found the ending of another kind of file, needed .jsonl"), "{csv}");
    let taken = refused(s.run("label difficulty --model m --data q.jsonl --out x.jsonl --column answer"));
    assert!(taken.contains("--column"), "{taken}");
}

#[test]
fn topics_are_a_column_that_an_order_can_use() {
    let s = Sandbox::new();
    let line = |i: usize| {
        let question =
            if i.is_multiple_of(3) { format!("aaaa{}aaaa", i % 10) } else { format!("{} + {i} = ?", i * 7) };
        json!({"id": i, "question": question, "options": ["x", "y"], "answer": 0, "level": i}).to_string()
            + "\n"
    };
    s.write("q.jsonl", (0..30).map(line).collect::<String>());
    let run =
        |more: &str| finished(s.run(&format!("label topics --model m --data q.jsonl --out t.jsonl {more}")));
    run("--k 2 --threads 1");
    let one = s.read("t.jsonl");
    let found = column(&s.read("q.jsonl"), &one, "subject");
    assert!(found.contains(&json!("topic-01")) && found.contains(&json!("topic-02")), "{found:?}");
    let sum: Value = serde_json::from_str(&run("--k 2 --threads 2 --json").stdout).unwrap();
    assert_eq!(s.read("t.jsonl"), one, "threads change nothing");
    assert!(sum["topics"][0]["n"].as_u64() >= sum["topics"][1]["n"].as_u64());
    assert_eq!(sum["topics"][0]["n"].as_u64().unwrap() + sum["topics"][1]["n"].as_u64().unwrap(), 30);
    finished(s.run("order --data t.jsonl --strategy blocked --out o.jsonl"));

    let auto: Value = serde_json::from_str(&run("--json").stdout).unwrap();
    assert!((6..=20).contains(&auto["topics"].as_array().unwrap().len()));
    for k in ["0", "31", "many"] {
        let error = refused(s.run(&format!("label topics --model m --data q.jsonl --out x.jsonl --k {k}")));
        assert!(error.contains("--k"), "{error}");
    }
}
