//! What `bench` cannot time or compare.

use super::check;
use super::sandbox::Sandbox;

const BENCH: &str = "bench run.toml --updates 1 --warmup 0";
const AGAINST: &str = "bench run.toml --updates 1 --warmup 0 --against old.json";

fn old(s: &Sandbox) {
    let ran = s.run(&format!("{BENCH} --out old.json"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
#[rustfmt::skip] // one row, one line
fn benches() {
    check(2, &[
        ("a shorter run", |_| (), "bench run.toml", &[
            "run.toml: `train.epochs`: the run has 6 updates, needed 18",
            "hint: ask for fewer by --updates and --warmup, or give the run more epochs",
        ]),
        ("no update", |_| (), "bench run.toml --updates 0", &["invalid value '0' for '--updates <N>'"]),
        ("answers to no questions", |_| (), "bench run.toml --scoring letter", &[
            "d.jsonl: `data.format`: the lines are no multiple-choice questions",
        ]),
        ("a configuration out of range", |_| (), "bench run.toml --set train.batch_size=0", &[
            "run.toml: `train.batch_size`: found 0, needed at least 1",
        ]),
        ("a trace into a folder", |_| (), "bench run.toml --trace m", &["m: it is a folder, needed a file to write"]),
        ("no older run", |_| (), AGAINST, &["old.json: cannot read it"]),
        ("an older run that is none", |s| s.write("old.json", "{}"), AGAINST, &[
            "old.json: not what `bench --out` writes: missing field `version`",
            "hint: name a file that `preceptor bench --out` wrote",
        ]),
        ("an older run of other settings", |s| {
            old(s);
            s.edit("run.toml", "batch_size = 4", "batch_size = 2");
        }, AGAINST, &["old.json: `train.batch_size`: the run was started with 4, found 2", "hint: times compare only"]),
        ("an older run of more updates", old, "bench run.toml --updates 2 --warmup 0 --against old.json", &[
            "old.json: `bench.updates`: the run was started with 1, found 2",
        ]),
        ("an older run on other data", |s| {
            old(s);
            s.edit("d.jsonl", "\"labels\":[-100,-100,", "\"labels\":[-100,9,");
        }, AGAINST, &["old.json: `bench.data`: the run was started with \""]),
    ]);
}
