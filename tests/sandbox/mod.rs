//! A temporary folder with a tiny model, an adapter, data and a configuration, in which the binary runs.
//!
//! ```text
//! m/          golden case llama3_rope_long with a tokenizer of one token a character
//! a/          its adapter
//! d.jsonl     token ids with subject, difficulty and source
//! q.jsonl     multiple-choice questions
//! run.toml    trains on d.jsonl into out/
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use preceptor::base::philox::{Philox, Purpose};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Examples in `d.jsonl`.
pub(crate) const EXAMPLES: usize = 22;

const CONFIG: &str = r#"[model]
path = "m"

[adapter]
r = 2

[data]
train = "d.jsonl"
format = "tokens"

[train]
batch_size = 4

[output]
dir = "out"
"#;

pub(crate) struct Sandbox(TempDir);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        sandbox.golden("llama3_rope_long");
        sandbox.write("m/tokenizer.json", tokenizer().to_string());
        sandbox.write("m/tokenizer_config.json", r#"{"eos_token": "</s>"}"#);
        sandbox.write("d.jsonl", token_lines());
        sandbox.write("q.jsonl", questions());
        sandbox.write("run.toml", CONFIG);
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts the model and the adapter of a golden case at `m/` and `a/`.
    pub(crate) fn golden(&self, case: &str) {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
        for (from, to) in [("model", "m"), ("adapter_random", "a")] {
            let to = self.path(to);
            let _ = fs::remove_dir_all(&to); // it may be absent
            fs::create_dir(&to).unwrap();
            for entry in fs::read_dir(case.join(from)).unwrap().map(Result::unwrap) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces a text that the file must hold.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} holds {from:?}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// Runs `preceptor` with arguments that are parted by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        let mut command = self.command();
        command.args(arguments.split_whitespace());
        ran(command.output().unwrap())
    }

    /// `preceptor` in this folder, with none of the caller's settings.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_preceptor"));
        command.current_dir(self.0.path()).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Each printable character, and the line end, is a token.
fn tokenizer() -> Value {
    let special = ["<pad>", "<s>", "</s>"];
    let characters = std::iter::once('\n').chain(' '..='~').map(String::from);
    let tokens = special.map(String::from).into_iter().chain(characters);
    let vocab: Map<String, Value> = tokens.zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let added = special.iter().zip(0..).map(|(content, id): (_, u32)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "added_tokens": added.collect::<Vec<_>>(),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab, "merges": []},
    })
}

/// Prompts of which some begin alike, in three subjects and from two sources.
fn token_lines() -> String {
    let mut numbers = Philox::new(5, Purpose::Sampling).stream([0; 3]);
    let mut ids = |n: u32| (0..n).map(|_| 3 + numbers.below(96)).collect::<Vec<u32>>();
    let starts = [ids(4), ids(6)];
    let mut line = |i: usize| {
        let prompt = [&starts[i % 2][..], &ids(2 + i as u32 % 3)].concat();
        let completion = ids(1 + i as u32 % 4);
        let labels = prompt.iter().map(|_| -100).chain(completion.iter().map(|&id| i64::from(id)));
        let labels: Vec<i64> = labels.collect();
        let (subject, source) = (["x", "y", "z"][i * 5 % 7 % 3], ["book", "web"][i / 3 % 2]);
        let input_ids = [prompt, completion].concat();
        let line = json!({"id": format!("e{i}"), "input_ids": input_ids, "labels": labels,
                          "subject": subject, "difficulty": i * 7 % 5, "source": source});
        format!("{line}\n")
    };
    (0..EXAMPLES).map(&mut line).collect()
}

fn questions() -> String {
    let line = |i: usize| {
        let (options, subject) = (["1", "2", "3", "4"], ["s", "t"][i % 2]);
        format!(
            "{}\n",
            json!({"question": format!("{i}?"), "options": options, "answer": i % 4, "subject": subject})
        )
    };
    (0..6).map(line).collect()
}
