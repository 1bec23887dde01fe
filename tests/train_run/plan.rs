//! `plan`: what it says of a run is what the run then does and holds.

use super::{Sandbox, Value, finished, names, steps, train};

fn plan(s: &Sandbox, sets: &[&str]) -> Value {
    let sets: String = sets.iter().map(|set| format!(" --set {set}")).collect();
    serde_json::from_str(&finished(s.run(&format!("plan run.toml --json{sets}"))).stdout).unwrap()
}

fn bytes(item: &Value) -> u64 {
    item["bytes"].as_u64().unwrap()
}

fn total(steps: &[Value], key: &str) -> u64 {
    steps.iter().map(|step| step[key].as_u64().unwrap()).sum()
}

/// The arena may be off by a twentieth; the counts are exact.
#[test]
fn the_run_keeps_to_its_plan() {
    let s = Sandbox::new();
    let before = names(&s, "");
    for (i, sets) in [
        &["train.share_prefixes=off"][..],
        &["train.share_prefixes=on", "train.micro_batch_tokens=40"],
        &["train.recompute=true"],
        &["adapter.lora_dropout=0.2", "train.loss_on=all"],
        &["adapter.target_modules=[\"q_proj\",\"down_proj\"]", "adapter.r=3"],
        &["adapter.method=full"],
    ]
    .into_iter()
    .enumerate()
    {
        let planned = plan(&s, sets);
        if i == 0 {
            assert_eq!(names(&s, ""), before, "no file and no folder is new");
        }
        let out = format!("out{i}");
        train(&s, &out, sets);
        let steps = steps(&s, &out);
        assert_eq!(planned["updates"], steps.len(), "{sets:?}");
        for key in ["examples", "tokens", "trained_tokens", "computed_tokens"] {
            assert_eq!(planned[key], total(&steps, key), "{key} with {sets:?}");
        }
        let measured = steps.iter().map(|step| step["memory_bytes"].as_u64().unwrap()).max().unwrap();
        let arena = planned["arena_bytes"].as_u64().unwrap();
        assert!(arena.abs_diff(measured) * 20 <= measured, "{arena} planned, {measured} measured, {sets:?}");

        let rows = |key: &str| planned[key].as_array().unwrap().clone();
        let in_arena = rows("fixed").into_iter().chain(rows("kept")).filter(|item| item["in_arena"] == true);
        let named: u64 = in_arena.map(|item| bytes(&item)).sum();
        assert_eq!(named + planned["working_bytes"].as_u64().unwrap(), arena, "{sets:?}");
    }
}

/// Twice the tokens in every update, at equal lengths: twice the arithmetic and twice what is kept.
#[test]
fn it_grows_with_the_batch() {
    let s = Sandbox::new();
    let line = r#"{"prompt": "the the the the", "completion": " the"}"#;
    s.write("same.jsonl", format!("{line}\n").repeat(8));
    let of_batch = |size: &str| {
        let batch = format!("train.batch_size={size}");
        plan(
            &s,
            &["data.train=same.jsonl", "data.format=prompt-completion", "train.share_prefixes=off", &batch],
        )
    };
    let (small, large) = (of_batch("2"), of_batch("4"));
    assert_eq!(small["flops"], large["flops"], "the epoch is the same");
    assert_eq!((&small["updates"], &large["updates"]), (&Value::from(4), &Value::from(2)));
    let tokens = |plan: &Value| plan["largest"]["tokens"].as_u64().unwrap();
    assert_eq!(2 * tokens(&small), tokens(&large));
    assert!(large["arena_bytes"].as_u64() > small["arena_bytes"].as_u64());
}
