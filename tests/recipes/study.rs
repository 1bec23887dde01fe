//! `study`: what it runs, what it refuses, and that neither kills nor shards change what it finds.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use preceptor::base::philox::{Philox, Purpose};
use preceptor::config::Config;
use serde_json::{Value, json};

use super::sandbox::{Sandbox, ran};
use super::{finished, refused};

const STUDY: &str = r#"[model]
path = "m"

[adapter]
r = 2

[train]
batch_size = 4
learning_rate = 1e-2
save_steps = 1

[output]
dir = "out"

[study]
data = [{ name = "q", train = "train.jsonl", eval = "test.jsonl", difficulty = ["difficulty", "guessed"] }]
strategies = ["random", "blocked", "curriculum"]
seeds = [1, 2]
"#;

/// Before training; then for both seeds random, blocked, and curriculum by either column.
const CELLS: [&str; 9] = [
    "m.q.before",
    "m.q.blocked.seed-1",
    "m.q.blocked.seed-2",
    "m.q.curriculum.difficulty.seed-1",
    "m.q.curriculum.difficulty.seed-2",
    "m.q.curriculum.guessed.seed-1",
    "m.q.curriculum.guessed.seed-2",
    "m.q.random.seed-1",
    "m.q.random.seed-2",
];

fn sandbox() -> Sandbox {
    let s = Sandbox::new();
    let question = |part: &str, i: usize| {
        let (options, subject) = (["1", "2", "3", "4"], ["s", "t", "u"][i % 3]);
        json!({"id": format!("{part}{i}"), "question": format!("{part}{i}?"), "options": options, "answer": (i * 7 + i / 3) % 4,
               "subject": subject, "difficulty": i * 7 % 5, "guessed": i * 5 % 7})
    };
    for (name, n) in [("train", 14), ("test", 10)] {
        let lines: Vec<String> = (0..n).map(|i| question(name, i).to_string()).collect();
        s.write(&format!("{name}.jsonl"), lines.join("\n") + "\n");
    }
    s.write("study.toml", STUDY);
    s
}

/// The three files of a study's folder.
fn found(s: &Sandbox, out: &str) -> [String; 3] {
    ["study.csv", "summary.json", "report.html"].map(|file| s.read(&format!("{out}/{file}")))
}

fn done(s: &Sandbox, out: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(s.path(&format!("{out}/cells"))) else { return Vec::new() };
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = folders
        .filter(|folder| folder.join("result.json").exists())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn killed_or_in_shards_a_study_finds_the_same() {
    let s = sandbox();
    let whole = finished(s.run("study study.toml"));
    assert_eq!(done(&s, "out"), CELLS);
    let expected = found(&s, "out");

    let mut numbers = Philox::new(3, Purpose::Sampling).stream([0; 3]);
    let mut kills = 0;
    for _ in 0..5 {
        let until = done(&s, "killed").len() + numbers.below(3) as usize;
        let mut child = s
            .command()
            .args(["study", "study.toml", "--set", "output.dir=killed", "--threads", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while done(&s, "killed").len() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(numbers.below(60))));
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 3, "most were still going: {kills} of 5");
    let resumed = finished(s.run("study study.toml --set output.dir=killed --set study.jobs=2"));
    assert_eq!(found(&s, "killed"), expected);
    assert_eq!(resumed.stdout, whole.stdout);

    for shard in ["1/3", "3/3", "2/3"] {
        let ran = finished(s.run(&format!("study study.toml --set output.dir=shards --shard {shard}")));
        let missing = json(&s.read("shards/summary.json"))["missing"].as_array().unwrap().len();
        assert_eq!(ran.stdout.contains("cells are missing"), missing > 0);
        assert_eq!(missing, CELLS.len() - done(&s, "shards").len());
        assert_eq!(s.read("shards/report.html").contains("cells are missing"), missing > 0);
    }
    assert_eq!(found(&s, "shards"), expected);
}

#[test]
fn a_finished_cell_is_not_done_again() {
    let s = sandbox();
    finished(s.run("study study.toml --shard 0/2"));
    let results = |s: &Sandbox| -> Vec<String> {
        done(s, "out").iter().map(|name| s.read(&format!("out/cells/{name}/result.json"))).collect()
    };
    let before = results(&s);
    assert_eq!(before.len(), 5);
    let ran = finished(s.run("study study.toml --shard 0/2"));
    assert!(ran.stderr.contains("0 of 5 cells to do"), "{}", ran.stderr);
    assert_eq!(results(&s), before, "not even the seconds changed");
    assert!(!ran.stderr.contains("step 1"), "a study tells of cells, not of updates: {}", ran.stderr);
}

#[test]
fn a_signal_stops_a_study_and_it_goes_on() {
    let s = sandbox();
    finished(s.run("study study.toml"));
    let expected = found(&s, "out");
    fs::remove_dir_all(s.path("out")).unwrap();
    let child =
        s.command().args(["study", "study.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    while done(&s, "out").is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let stopped = ran(child.wait_with_output().unwrap());
    assert_eq!(stopped.code, Some(143), "{}", stopped.stderr);
    assert!(done(&s, "out").len() < CELLS.len());
    assert!(stopped.stdout.contains("cells are missing"), "{}", stopped.stdout);
    finished(s.run("study study.toml"));
    assert_eq!(found(&s, "out"), expected);
}

/// Every number of a cell is what `evaluate` says of its adapter, and every number of the table follows from the cells.
#[test]
fn the_table_says_what_evaluate_says() {
    let s = sandbox();
    finished(s.run("study study.toml"));
    let cell = |name: &str| json(&s.read(&format!("out/cells/{name}/result.json")));
    for name in ["m.q.before", "m.q.curriculum.guessed.seed-2"] {
        let adapter = match name.contains("before") {
            true => String::new(),
            false => format!("--adapter out/cells/{name}/adapter"),
        };
        finished(s.run(&format!(
            "evaluate --model m {adapter} --data test.jsonl --out metrics.json --predictions p.jsonl"
        )));
        let (metrics, result) = (json(&s.read("metrics.json")), cell(name));
        assert_eq!((&result["accuracy"], &result["n"]), (&metrics["accuracy"], &metrics["n"]));
        assert!((result["nll"].as_f64().unwrap() - metrics["nll"].as_f64().unwrap()).abs() < 1e-12);
        let choices: String = s
            .read("p.jsonl")
            .lines()
            .map(|line| char::from(b'A' + json(line)["choice"].as_u64().unwrap() as u8))
            .collect();
        assert_eq!(result["choices"], choices);
    }

    let summary = json(&s.read("out/summary.json"));
    let group = &summary["groups"][0];
    assert_eq!((&group["chance"], &summary["comparisons"]), (&json!(0.25), &json!(3)));
    let rows = group["rows"].as_array().unwrap();
    let right =
        |name: &str| -> f64 { cell(name)["correct"].as_str().unwrap().matches('1').count() as f64 / 10.0 };
    let mean = |arm: &str| (right(&format!("m.q.{arm}.seed-1")) + right(&format!("m.q.{arm}.seed-2"))) / 2.0;
    let arms = ["random", "blocked", "curriculum.difficulty", "curriculum.guessed"];
    assert_eq!(rows.len(), arms.len());
    for (row, arm) in rows.iter().zip(arms) {
        let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
        assert!(close(&row["accuracy"], mean(arm)), "{row}");
        assert_eq!(row["seeds"], 2);
        let choices: String = [1, 2]
            .map(|seed| cell(&format!("m.q.{arm}.seed-{seed}"))["choices"].as_str().unwrap().to_owned())
            .concat();
        let times = |letter: char| choices.matches(letter).count();
        let named: char = row["most_named"].as_str().unwrap().parse().unwrap();
        assert!(
            ('A'..named).all(|l| times(l) < times(named)) && ('A'..='D').all(|l| times(l) <= times(named))
        );
        assert!(close(&row["most_named_share"], times(named) as f64 / 20.0), "{row}");
        match arm {
            "random" => assert_eq!(row["versus_baseline"], Value::Null),
            _ => {
                let versus = &row["versus_baseline"];
                assert!(close(&versus["difference"], mean(arm) - mean("random")), "{row}");
                let bound = |i: usize| versus["interval"][i].as_f64().unwrap();
                assert!(
                    bound(0) <= versus["difference"].as_f64().unwrap()
                        && versus["difference"].as_f64().unwrap() <= bound(1)
                );
                assert!(versus["p"].as_f64() <= versus["p_holm"].as_f64(), "{row}");
            }
        }
    }
    let differ = rows.iter().any(|row| row["versus_baseline"]["better"].as_u64() > Some(0));
    assert!(differ, "the orders answer differently somewhere, or this test shows little: {summary}");
    let csv = s.read("out/study.csv");
    assert_eq!(csv.lines().count(), 1 + 1 + arms.len());
    assert!(
        csv.lines().all(|line| line.split(',').count() == csv.lines().next().unwrap().split(',').count())
    );
}

#[test]
fn what_cannot_run_is_refused_before_anything_runs() {
    let s = sandbox();
    for (from, to, expected) in [
        ("\"guessed\"]", "\"missing\"]", "train.jsonl:1: `missing`"),
        ("name = \"q\"", "category = \"missing\"", "train.jsonl:1: `missing`"),
        ("seeds = [1, 2]", "seeds = [1, 2, 1]", "`study.seeds`"),
        ("seeds = [1, 2]", "seeds = []", "`study.seeds`"),
        ("seeds = [1, 2]", "baseline = \"interleaved\"", "`study.baseline`"),
        ("seeds = [1, 2]", "baseline = \"curriculum\"", "`study.baseline`"),
        ("seeds = [1, 2]", "seedz = [1, 2]", "nearest known key is `study.seeds`"),
        ("seeds = [1, 2]", "models = [\"m\", \"./m\"]", "`study.models`"),
        ("seeds = [1, 2]", "models = [3]", "needed a model's path, or a table"),
        ("seeds = [1, 2]", "models = [{ path = \"m\", set = [\"train.epoch=2\"] }]", "it is `set` for `m`"),
        ("name = \"q\"", "nam = \"q\"", "unknown field `nam`"),
        ("batch_size = 4", "keep_best = true", "`train.keep_best`"),
        ("eval = \"test.jsonl\"", "eval = \"absent.jsonl\"", "absent.jsonl"),
        ("path = \"m\"", "path = \"absent\"", "absent"),
    ] {
        s.write("study.toml", STUDY.replacen(from, to, 1));
        let error = refused(s.run("study study.toml"));
        assert!(error.contains(expected), "{to}: {error}");
        assert!(!s.path("out").exists(), "{to}");
    }
    s.write("study.toml", STUDY);
    for shard in ["3", "4/3", "0/0", "a/b"] {
        let error = refused(s.run(&format!("study study.toml --shard {shard}")));
        assert!(error.contains("--shard"), "{error}");
    }
}

#[test]
fn a_cell_of_other_settings_or_data_is_not_taken_for_this_one() {
    let s = sandbox();
    finished(s.run("study study.toml --shard 1/9"));
    finished(s.run("study study.toml --shard 2/9"));
    let error = refused(s.run("study study.toml --set train.learning_rate=1e-3"));
    assert!(error.contains("cell.json") && error.contains("`train.learning_rate`"), "{error}");
    s.edit("test.jsonl", "test0?", "test00?");
    let error = refused(s.run("study study.toml"));
    assert!(error.contains("test.jsonl: ") && error.contains("data changed"), "{error}");
    s.edit("test.jsonl", "test00?", "test0?");
    finished(s.run("study study.toml --set train.logging_steps=2 --set study.seeds=[1,3]"));
}

/// The cell says what `evaluate` says of the same scoring, and is not taken for one of another.
#[test]
fn a_study_may_ask_by_the_options_texts() {
    let s = sandbox();
    s.edit("study.toml", "seeds = [1, 2]", "seeds = [1, 2]\nscoring = \"option-text\"");
    finished(s.run("study study.toml --shard 0/9"));
    let measured = json(
        &finished(
            s.run("evaluate --model m --data test.jsonl --scoring option-text --predictions p.jsonl --json"),
        )
        .stdout,
    );
    let letter = |line: &str| char::from(b'A' + json(line)["choice"].as_u64().unwrap() as u8);
    let choices: String = s.read("p.jsonl").lines().map(letter).collect();
    let found = json(&s.read("out/cells/m.q.before/result.json"));
    assert_eq!(found["accuracy"], measured["accuracy"]);
    assert_eq!(found["nll"], measured["nll"]);
    assert_eq!(found["choices"], choices);
    let by_letter = json(&finished(s.run("evaluate --model m --data test.jsonl --json")).stdout);
    assert_ne!(found["nll"], by_letter["nll"]);
    let error = refused(s.run("study study.toml --set study.scoring=letter"));
    assert!(
        error.contains("`study.scoring`: the cell m.q.before was started with another scoring"),
        "{error}"
    );
}

/// Full fine-tuning leaves a model instead of an adapter.
#[test]
fn a_cell_may_train_every_weight() {
    let s = sandbox();
    s.edit("study.toml", "r = 2", "method = \"full\"");
    s.edit("study.toml", "seeds = [1, 2]", "seeds = [1]");
    s.edit("study.toml", ", \"blocked\", \"curriculum\"", "");
    finished(s.run("study study.toml"));
    finished(
        s.run("evaluate --model out/cells/m.q.random.seed-1/model --data test.jsonl --out metrics.json"),
    );
    let [result, metrics] =
        ["out/cells/m.q.random.seed-1/result.json", "metrics.json"].map(|file| json(&s.read(file)));
    assert_eq!(result["nll"], metrics["nll"]);
    assert_ne!(result["nll"], json(&s.read("out/cells/m.q.before/result.json"))["nll"]);
}

/// A model's own settings reach its cells alone.
#[test]
fn models_have_names_and_settings_of_their_own() {
    let s = sandbox();
    s.edit(
        "study.toml",
        "seeds = [1, 2]",
        "seeds = [1]\nmodels = [\"m\", { path = \"m\", name = \"slow\", set = [\"train.learning_rate=1e-9\"] }]",
    );
    s.edit("study.toml", ", \"blocked\", \"curriculum\"", "");
    finished(s.run("study study.toml"));
    assert_eq!(done(&s, "out"), ["m.q.before", "m.q.random.seed-1", "slow.q.before", "slow.q.random.seed-1"]);
    let rate = |cell: &str| {
        Config::parse(&s.read(&format!("out/cells/{cell}/config.resolved.toml"))).unwrap().train.learning_rate
    };
    assert_eq!(["slow.q.random.seed-1", "m.q.random.seed-1"].map(rate), [1e-9, 1e-2]);
}
