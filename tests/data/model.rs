//! A tiny model folder: a byte-level BPE tokenizer with a start token, and a chat template.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The special tokens; ids 0 to 3. The bytes follow as ids 4 to 259, then the merges.
const SPECIAL: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];

/// Pairs that are one token, in order of rank; Ġ stands for a blank, Ċ for a line end.
const MERGES: [(&str, &str); 9] = [
    ("Ġ", "A"),
    ("Ġ", "B"),
    ("Ċ", "Ċ"),
    ("Ġ", "t"),
    ("h", "e"),
    ("Ġt", "he"),
    ("Ġ", "Ġ"),
    ("a", "n"),
    (":", "Ċ"),
];

/// A chat template that trims what is said and ends each turn with a line end.
pub(crate) const CHATML: &str = "{% for m in messages %}\
    {{ '<|im_start|>' + m['role'] + '\\n' + m['content'].strip() + '<|im_end|>' + '\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The character that byte-level BPE writes for each byte (Radford et al. 2019): printable ones as they
/// are, the others from 256 on.
fn byte_characters() -> Vec<String> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 255;
    let mut character = |b: u8| {
        let code = if printable(b) {
            u32::from(b)
        } else {
            next += 1;
            next
        };
        char::from_u32(code).unwrap().to_string()
    };
    (0..=255).map(&mut character).collect()
}

fn tokenizer_json(prefix: bool) -> Value {
    let merged = MERGES.map(|(a, b)| format!("{a}{b}"));
    let tokens = SPECIAL.map(String::from).into_iter().chain(byte_characters()).chain(merged);
    let vocab: serde_json::Map<String, Value> = tokens.zip(0..).map(|(t, id)| (t, json!(id))).collect();
    let added = SPECIAL.iter().zip(0..).map(|(content, id): (_, u32)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let around = json!({
        "type": "TemplateProcessing",
        "single": [special("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, special("</s>")],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]},
        },
    });
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 1, "pad_type_id": 0, "pad_token": "</s>"},
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": if prefix { json!({"type": "Sequence", "processors": [level, around]}) } else { level.clone() },
        "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab, "merges": MERGES.map(|(a, b)| [a, b])},
    })
}

/// A folder with the files of a tokenizer; with `prefix`, `<s>` goes before a text.
pub(crate) fn folder(prefix: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "chat_template": CHATML});
    write(folder.path(), "tokenizer.json", &tokenizer_json(prefix));
    write(folder.path(), "tokenizer_config.json", &config);
    write(folder.path(), "generation_config.json", &json!({"eos_token_id": [1, 3]}));
    folder
}

pub(crate) fn write(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), value.to_string()).unwrap();
}

/// Number of ids.
pub(crate) const VOCAB_SIZE: usize = SPECIAL.len() + 256 + MERGES.len();
