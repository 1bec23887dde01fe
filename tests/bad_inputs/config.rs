//! Configurations and command lines.

use super::sandbox::{Sandbox, ran};
use super::{check, complaint};

const TRAIN: &str = "train run.toml";

#[test]
#[rustfmt::skip] // one row, one line
fn files() {
    check(2, &[
        ("no such file", |s| std::fs::remove_file(s.path("run.toml")).unwrap(), TRAIN, &[
            "run.toml: cannot read it",
        ]),
        ("a directory", |_| (), "train m", &["m: cannot read it"]),
        ("not UTF-8", |s| s.write("run.toml", b"[model]\npath = \"\xff\""), TRAIN, &[
            "run.toml: not UTF-8 text at byte 16",
        ]),
        ("not TOML", |s| s.write("run.toml", "[train\n"), TRAIN, &["run.toml:1: ", "column"]),
        ("a key twice", |s| s.edit("run.toml", "r = 2", "r = 2\nr = 3"), TRAIN, &[
            "run.toml:6: ",
            "duplicate",
        ]),
        ("an unknown key", |s| s.edit("run.toml", "batch_size", "batchsize"), TRAIN, &[
            "run.toml:12: `train.batchsize`: unknown key (column 1)",
            "hint: the nearest known key is `train.batch_size`",
        ]),
        ("an unknown table", |s| s.edit("run.toml", "[train]", "[trian]"), TRAIN, &[
            "run.toml:11: `trian`: unknown key",
            "hint: the nearest known key is `train`",
        ]),
        ("a key in another table", |s| s.edit("run.toml", "r = 2", "batch_size = 2"), TRAIN, &[
            "run.toml:5: `adapter.batch_size`: unknown key",
            "hint: the nearest known key is `train.batch_size`",
        ]),
        ("a value for a table", |s| s.edit("run.toml", "[model]\npath = \"m\"", "model = \"m\""), TRAIN, &[
            "run.toml:1: `model`: found a string, needed a table: [model]",
        ]),
        ("no model", |s| s.edit("run.toml", "path = \"m\"", ""), TRAIN, &[
            "run.toml: `model.path`: not set, needed a Hugging Face directory or a .gguf file",
        ]),
        ("no data", |s| s.edit("run.toml", "train = \"d.jsonl\"", ""), TRAIN, &[
            "run.toml: `data.train`: not set, needed a JSONL file",
        ]),
        ("no output", |s| s.edit("run.toml", "dir = \"out\"", ""), TRAIN, &[
            "run.toml: `output.dir`: not set, needed a folder",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn options() {
    check(2, &[
        ("--set without a value", |_| (), "train run.toml --set train.epochs", &[
            "run.toml: `--set train.epochs`: found no `=`, needed `table.key=value`",
        ]),
        ("--set of an unknown key", |_| (), "train run.toml --set train.epoch=2", &[
            "run.toml: `--set train.epoch=2`: no such setting",
            "hint: the nearest key is `train.epochs`",
        ]),
        ("--set of a table", |_| (), "train run.toml --set train=2", &[
            "run.toml: `--set train=2`: no such setting",
        ]),
        ("--set of a wrong type", |_| (), "train run.toml --set train.epochs=two", &[
            "run.toml: `--set train.epochs=two`: ",
            "\"two\"",
        ]),
        ("--set out of range", |_| (), "train run.toml --set train.epochs=0", &[
            "run.toml: `train.epochs`: found 0, needed at least 1",
        ]),
        ("every weight, from an adapter", |s| {
            s.edit("run.toml", "r = 2", "method = \"full\"\ninit_from = \"a\"");
        }, TRAIN, &["run.toml:6: `adapter.init_from`: set, but `full` trains no adapter"]),
        ("every weight, as stored", |s| {
            s.edit("run.toml", "r = 2", "method = \"full\"");
            s.edit("run.toml", "path = \"m\"", "path = \"m\"\nweights = \"stored\"");
        }, TRAIN, &["run.toml:3: `model.weights`: found `stored`, but weights that are trained are held as f32"]),
        ("an unknown device", |_| (), "train run.toml --device tpu", &["invalid value 'tpu'", "cuda"]),
        ("an unknown command", |_| (), "trian run.toml", &["unrecognized subcommand", "train"]),
        ("an unknown strategy", |_| (), "order --data d.jsonl --strategy shuffled", &[
            "`--strategy`: found strategy `shuffled`, needed one of: sequential, random",
        ]),
        ("an unknown format", |_| (), "score --model m --data d.jsonl --format csv", &[
            "`--format`: unknown variant `csv`",
            "prompt-completion",
        ]),
        ("nothing to inspect", |_| (), "inspect", &["found nothing to look at", "hint: give --model"]),
        ("data to inspect without a model", |_| (), "inspect --data d.jsonl", &["`--data`: ", "--model"]),
        ("an example that is not there", |_| (), "inspect --data d.jsonl --model m --example 22", &[
            "d.jsonl: `--example`: found no example 22, needed one of 0 to 21",
        ]),
    ]);
    check(3, &[
        ("a device that is not there", |_| (), "train run.toml --device cuda", &[
            "run.toml: `device.kind`: cuda was asked for",
            "hint: use `cpu` or `auto`",
        ]),
    ]);
}

/// (table and key, value, what the message says of it)
const VALUES: [(&str, &str, &str); 49] = [
    ("adapter.r", "0", "found 0, needed a rank of at least 1"),
    ("adapter.r", "-1", "-1"),
    ("adapter.r", "1000000", "found rank 1000000"),
    ("adapter.lora_alpha", "0", "found 0, needed a number above 0"),
    ("adapter.lora_alpha", "nan", "found NaN, needed a number above 0"),
    ("adapter.lora_dropout", "1.0", "found 1, needed a share in [0, 1)"),
    ("adapter.lora_dropout", "-0.1", "found -0.1, needed a share in [0, 1)"),
    ("adapter.target_modules", "[\"lm_head\"]", "`lm_head` names no linear of this model"),
    ("adapter.target_modules", "\"(\"", "`(` is no regular expression"),
    ("adapter.target_modules", "3", "target_modules"),
    ("adapter.rank_pattern", "{ q_proj = 0 }", "found rank 0 for `q_proj`"),
    ("adapter.alpha_pattern", "{ q_proj = -1.0 }", "found -1 for `q_proj`, needed a number above 0"),
    ("adapter.modules_to_save", "[\"lm_head\"]", "found `lm_head`"),
    ("adapter.base_quantization", "\"nf4\"", "use `none`"),
    ("data.format", "\"csv\"", "unknown variant `csv`"),
    ("data.format", "\"preference\"", "found `preference`"),
    ("data.max_seq_length", "1", "found 1, needed at least 2"),
    ("data.skip_bad", "-1", "-1"),
    ("sampler.strategy", "\"shuffled\"", "unknown variant `shuffled`"),
    ("sampler.seed", "-1", "-1"),
    ("sampler.parts", "0", "found 0, needed at least 1"),
    ("train.objective", "\"dpo\"", "found `dpo`"),
    ("train.objective", "\"distill\"", "found `distill`"),
    ("train.epochs", "0", "found 0, needed at least 1"),
    ("train.epochs", "\"two\"", "\"two\""),
    ("train.epochs", "1.5", "1.5"),
    ("train.max_steps", "-1", "-1"),
    ("train.batch_size", "0", "found 0, needed at least 1"),
    ("train.micro_batch_tokens", "0", "found 0, needed at least 1"),
    ("train.learning_rate", "-1e-4", "found -0.0001, needed a rate of at least 0"),
    ("train.learning_rate", "inf", "found inf"),
    ("train.lr_scheduler_type", "\"step\"", "unknown variant `step`"),
    ("train.warmup_ratio", "1.5", "found 1.5, needed a share in [0, 1]"),
    ("train.weight_decay", "-0.1", "found -0.1, needed at least 0"),
    ("train.adam_beta1", "1.0", "found 1, needed a number in [0, 1)"),
    ("train.adam_beta2", "-0.5", "found -0.5, needed a number in [0, 1)"),
    ("train.adam_epsilon", "0", "found 0, needed a number above 0"),
    ("train.optimizer", "\"adamw-8bit\"", "found `adamw-8bit`"),
    ("train.max_grad_norm", "-1", "found -1, needed at least 0"),
    ("train.label_smoothing", "1", "found 1, needed a share in [0, 1)"),
    ("train.logging_steps", "0", "found 0, needed at least 1"),
    ("train.keep_best", "1", "expected a boolean"),
    ("train.keep_best", "true", "needs `data.eval`"),
    ("train.eval_steps", "5", "needs `data.eval`"),
    ("train.eval_steps", "-1", "-1"),
    ("train.save_steps", "-1", "-1"),
    ("train.save_total_limit", "-1", "-1"),
    ("device.threads", "1000000", "found 1000000"),
    ("device.kind", "\"cuda\"", "cuda was asked for"),
];

/// A file with this one setting; the rest of the run is set on the command line.
#[test]
fn values() {
    for (key, value, says) in VALUES {
        let sandbox = Sandbox::new();
        let (table, name) = key.split_once('.').unwrap();
        sandbox.write("v.toml", format!("[{table}]\n{name} = {value}\n"));
        let rest = ["model.path=m", "data.train=d.jsonl", "data.format=tokens", "output.dir=out"];
        let sets = rest.iter().filter(|set| !set.starts_with(key)).flat_map(|set| ["--set", set]);
        let ran = ran(sandbox.command().args(["train", "v.toml"]).args(sets).output().unwrap());
        let code = if value == "\"cuda\"" { 3 } else { 2 };
        if let Some(why) = complaint(&ran, code, &[&format!("v.toml:2: `{key}`: "), says]) {
            panic!("{key} = {value}: {why}");
        }
    }
}
