//! `generate` and the ways of `evaluate`.

use super::{Sandbox, Value, finished, objects};

/// The lines that `generate` prints.
fn lines(s: &Sandbox, arguments: &str) -> Vec<Value> {
    let ran = finished(s.run(&format!("generate --model m --adapter a {arguments}")));
    objects(&ran.stdout)
}

fn text(line: &Value) -> &str {
    line["text"].as_str().unwrap()
}

#[test]
fn a_text_depends_on_its_seed_and_on_nothing_beside_it() {
    let s = Sandbox::new();
    s.write(
        "p.jsonl",
        "{\"prompt\": \"abc\", \"completion\": \"d\"}\n{\"prompt\": \"abd\", \"completion\": \"e\"}\n",
    );
    let drawn = "--max-new-tokens 12 --temperature 1.5 --top-p 0.9 --seed 3";
    let both = lines(&s, &format!("--data p.jsonl {drawn} --num-samples 3"));
    assert_eq!(both.len(), 6);
    assert_eq!((both[4]["id"].as_str(), both[4]["sample"].as_u64()), (Some("2"), Some(1)));
    let alone = lines(&s, &format!("--prompt abc {drawn} --json"));
    assert_eq!(text(&alone[0]), text(&both[0]));
    let other = lines(&s, &format!("--prompt abc {drawn} --json").replace("--seed 3", "--seed 4"));
    assert_ne!(text(&other[0]), text(&both[0]));
    assert_ne!(text(&both[0]), text(&both[1]), "samples differ");
}

#[test]
fn plain_output_is_the_text_and_stop_strings_end_it() {
    let s = Sandbox::new();
    let greedy = "--prompt abc --max-new-tokens 20";
    let whole = &lines(&s, &format!("{greedy} --json"))[0];
    assert_eq!((whole["finish"].as_str(), whole["tokens"].as_u64()), (Some("length"), Some(20)));
    let streamed = finished(s.run(&format!("generate --model m --adapter a {greedy}"))).stdout;
    assert_eq!(streamed, format!("{}\n", text(whole)));
    // two characters, each a token: the string spans tokens
    let characters: Vec<char> = text(whole).chars().collect();
    let stop: String = characters[5..7].iter().collect();
    let before = text(whole).split(&stop).next().unwrap();
    let mut command = s.command();
    command.args(["generate", "--model", "m", "--adapter", "a", "--stop", &stop]);
    let cut = finished(super::sandbox::ran(command.args(greedy.split(' ')).output().unwrap())).stdout;
    assert_eq!(cut, format!("{before}\n"));
}

#[test]
fn log_probabilities_are_those_that_score_tells() {
    let s = Sandbox::new();
    let line = &lines(&s, "--prompt abc --max-new-tokens 6 --temperature 0.7 --logprobs")[0];
    let sum: f64 = line["logprobs"].as_array().unwrap().iter().map(|t| t["logprob"].as_f64().unwrap()).sum();
    let ids = line["logprobs"].as_array().unwrap().iter().map(|t| t["id"].as_i64().unwrap());
    // the sandbox's tokenizer: <pad> <s> </s> newline, then printable characters from the blank on
    let prompt = "abc".chars().map(|c| 4 + i64::from(u32::from(c)) - 32);
    let (prompt, drawn): (Vec<i64>, Vec<i64>) = (prompt.collect(), ids.collect());
    let labels = [vec![-100; prompt.len()], drawn.clone()].concat();
    let input_ids = [prompt, drawn].concat();
    let tokens = serde_json::json!({"input_ids": input_ids, "labels": labels});
    s.write("t.jsonl", format!("{tokens}\n"));
    let scored = objects(&finished(s.run("score --model m --adapter a --data t.jsonl")).stdout);
    let gap = scored[0]["sum_nll"].as_f64().unwrap() + sum;
    assert!(gap.abs() < 1e-5, "off by {gap:e}");
}

#[test]
fn every_scoring_leaves_its_measures_and_predictions() {
    let s = Sandbox::new();
    for scoring in ["letter", "option-text --normalization bytes", "generate --max-new-tokens 3"] {
        for shots in ["", "--shots 1 --shots-from q.jsonl"] {
            let files = "--out m.json --predictions p.jsonl";
            finished(
                s.run(&format!("evaluate --model m --data q.jsonl --scoring {scoring} {shots} {files}")),
            );
            let measures: Value = serde_json::from_str(&s.read("m.json")).unwrap();
            let predictions = objects(&s.read("p.jsonl"));
            assert_eq!((measures["n"].as_u64(), predictions.len()), (Some(6), 6));
            let right = predictions.iter().filter(|p| p["correct"] == true).count();
            assert_eq!(measures["accuracy"].as_f64().unwrap(), right as f64 / 6.0);
            let unparsed = predictions.iter().filter(|p| p["choice"].is_null()).count();
            if scoring.starts_with("generate") {
                assert_eq!(measures["unparsed"].as_u64(), Some(unparsed as u64));
                assert!(measures["nll"].is_null() && predictions[0]["text"].is_string());
            } else {
                let sum: f64 = predictions[0]["probabilities"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|p| p.as_f64().unwrap())
                    .sum();
                assert!((sum - 1.0).abs() < 1e-12 && unparsed == 0 && measures["unparsed"].is_null());
            }
        }
    }
}
