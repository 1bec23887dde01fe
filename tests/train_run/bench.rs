//! `bench`: what it counts is what the run does, and nothing is written but what is asked for.

use super::{Sandbox, Value, finished, steps, train};

/// Three updates of four after one that does not count.
const BENCH: &str = "bench run.toml --json --updates 3 --warmup 1 --set train.share_prefixes=off";

fn bench(s: &Sandbox, more: &str) -> Value {
    serde_json::from_str(&finished(s.run(&format!("{BENCH} {more}"))).stdout).unwrap()
}

fn op<'a>(saved: &'a Value, name: &str) -> &'a Value {
    saved["ops"].as_array().unwrap().iter().find(|op| op["name"] == name).unwrap()
}

fn sum(values: &[Value], key: &str) -> f64 {
    values.iter().map(|value| value[key].as_f64().unwrap()).sum()
}

#[test]
fn its_updates_are_those_of_the_run() {
    let s = Sandbox::new();
    let before = super::names(&s, "");
    let saved = bench(&s, "");
    assert_eq!(super::names(&s, ""), before, "no file and no folder is new");
    train(&s, "out", &["train.share_prefixes=off"]);
    let units = saved["units"].as_array().unwrap();
    assert_eq!(units.len(), 4);
    for (unit, step) in units.iter().zip(steps(&s, "out")) {
        assert_eq!((&unit["loss"], &unit["examples"]), (&step["loss"], &step["examples"]));
        let tokens = &unit["tokens"];
        assert_eq!(tokens["real"], step["tokens"]);
        assert_eq!(tokens["trained"], step["trained_tokens"]);
        assert_eq!(tokens["computed"], step["computed_tokens"]);
    }
}

#[test]
fn calls_and_work_are_counted_exactly_and_times_add_up() {
    let s = Sandbox::new();
    let saved = bench(&s, "");
    let config: Value = serde_json::from_str(&s.read("m/config.json")).unwrap();
    let of_model = |key: &str| config[key].as_u64().unwrap();
    let counted = &saved["units"].as_array().unwrap()[1..];
    for (name, calls) in [
        ("embedding.forward", 3),
        ("attention.forward", 3 * of_model("num_hidden_layers")),
        ("cross_entropy.forward", 3),
        ("adamw.global_norm", 3),
        ("adamw.update", 3),
    ] {
        assert_eq!(op(&saved, name)["calls"], calls, "{name}");
    }
    // one row a trained token, as no prefix is shared; logits, and their gradient back to the hidden states
    let rows: u64 = counted.iter().map(|unit| unit["tokens"]["trained"].as_u64().unwrap()).sum();
    let flops = 4 * rows * of_model("vocab_size") * of_model("hidden_size");
    assert_eq!(op(&saved, "cross_entropy.forward")["flops"], flops as f64);

    let ops = saved["ops"].as_array().unwrap();
    let (of_ops, total) = (sum(ops, "seconds"), sum(counted, "seconds"));
    assert!(0.0 < of_ops && of_ops <= total, "{of_ops} s of ops in {total} s");
    // one before each unit and one after the last; floors are told against their median
    let mut peaks: Vec<f64> =
        saved["peak_flops"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert_eq!(peaks.len(), counted.len() + 1);
    peaks.sort_by(f64::total_cmp);
    let peak = f64::midpoint(peaks[1], peaks[2]);
    for op in ops {
        let [flops, bytes, floor] = ["flops", "bytes", "floor"].map(|key| op[key].as_f64().unwrap());
        let at_most = flops / peak + bytes / saved["peak_bandwidth"].as_f64().unwrap();
        assert!(floor > 0.0 && floor <= at_most * (1.0 + 1e-9), "{op}");
    }
}

#[test]
fn the_trace_is_a_list_of_events_that_lie_in_their_units() {
    let s = Sandbox::new();
    let saved = bench(&s, "--trace trace.json");
    let trace: Value = serde_json::from_str(&s.read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let span = |event: &Value| {
        let [start, length] = ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
        assert!(start >= 0.0 && length >= 0.0 && event["pid"] == 1, "{event}");
        [start, start + length]
    };
    let complete = |lane: u64| events.iter().filter(move |e| e["ph"] == "X" && e["tid"] == lane);
    let (units, ops): (Vec<_>, Vec<_>) = (complete(1).map(span).collect(), complete(2).collect());
    assert_eq!(units.len(), 3);
    let calls: u64 = saved["ops"].as_array().unwrap().iter().map(|op| op["calls"].as_u64().unwrap()).sum();
    assert_eq!(ops.len() as u64, calls);
    let mut last = 0.0;
    for event in ops {
        let [start, end] = span(event);
        // a unit's own length is rounded to a nanosecond
        assert!(units.iter().any(|unit| unit[0] <= start && end <= unit[1] + 0.002), "{event}");
        assert!(start >= last, "ops do not overlap: {event}");
        last = end;
    }
    assert!(events.iter().any(|e| e["ph"] == "M" && e["args"]["name"] == "ops"));
}

#[test]
fn an_older_run_of_the_same_work_is_a_ratio() {
    let s = Sandbox::new();
    bench(&s, "--out old.json");
    // how the same is computed may differ
    let saved = bench(&s, "--against old.json --threads 1 --set train.micro_batch_tokens=16");
    let against = &saved["against"];
    let [low, median, high] = [0, 1, 2].map(|i| against["quartiles"][i].as_f64().unwrap());
    assert!(0.0 < low && low <= median && median <= high, "{against}");
    assert!(against["total"].as_f64().unwrap() > 0.0);
    let text = finished(s.run("bench run.toml --updates 3 --warmup 1 --against old.json")).stdout;
    for part in ["real tokens/s", "MFU, %", "cross_entropy.forward", "outside of ops", "old / new: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn questions_are_timed_in_blocks_that_begin_again() {
    let s = Sandbox::new();
    let sets = "--set data.train=q.jsonl --set data.format=mcqa --set data.max_seq_length=256 --questions 4";
    for scoring in ["letter", "option-text"] {
        let saved = bench(&s, &format!("{sets} --scoring {scoring}"));
        let units = saved["units"].as_array().unwrap();
        assert_eq!((units.len(), sum(units, "examples")), (4, 16.0));
        // 6 questions in blocks of 4: the fourth block is the first again
        assert_eq!(units[0]["loss"], units[3]["loss"], "{scoring}");
        assert!(units[0].get("tokens").is_none());
    }
}
