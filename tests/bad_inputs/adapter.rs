//! Adapters.

use std::fs;

use preceptor::tensor::StoredFile;
use preceptor::tensor::stored::{self, Draft};
use serde_json::{Map, Value};

use super::check;
use super::sandbox::Sandbox;

const ADAPTER: &str = "inspect --model m --adapter a";

/// Puts a key into adapter_config.json, over the one it has.
fn set(s: &Sandbox, key: &str, value: &str) {
    let mut config: Map<String, Value> = serde_json::from_str(&s.read("a/adapter_config.json")).unwrap();
    config.insert(key.into(), serde_json::from_str(value).unwrap());
    s.write("a/adapter_config.json", serde_json::to_string_pretty(&config).unwrap());
}

/// Writes the weights anew, each tensor's name, shape and values as `change` leaves them; no name drops it.
fn tensors(s: &Sandbox, change: fn(&mut String, &mut [usize], &mut [f32])) {
    let path = s.path("a/adapter_model.safetensors");
    let file = StoredFile::open(&path).unwrap();
    let mut all = Vec::new();
    for (name, stored) in file.tensors() {
        let (mut name, mut shape, mut values) =
            (name.clone(), stored.shape.clone(), file.f32s(name).unwrap());
        change(&mut name, &mut shape, &mut values);
        all.push((name, shape, values));
    }
    all.retain(|(name, ..)| !name.is_empty());
    let drafts = all.iter().map(|(name, shape, values)| (name.clone(), Draft::f32s(values, shape)));
    stored::write(&path, drafts).unwrap();
}

const QUERY_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

fn without_b(name: &mut String, _: &mut [usize], _: &mut [f32]) {
    if name.ends_with("layers.0.self_attn.q_proj.lora_B.weight") {
        name.clear();
    }
}

fn transposed(name: &mut String, shape: &mut [usize], _: &mut [f32]) {
    if name == QUERY_A {
        shape.reverse();
    }
}

fn with_nan(name: &mut String, _: &mut [usize], values: &mut [f32]) {
    if name == QUERY_A {
        values[3] = f32::NAN;
    }
}

#[test]
#[rustfmt::skip] // one row, one line
fn configurations() {
    check(2, &[
        ("no such folder", |_| (), "inspect --model m --adapter b", &[
            "b/adapter_config.json: cannot read it",
        ]),
        ("no configuration", |s| fs::remove_file(s.path("a/adapter_config.json")).unwrap(), ADAPTER, &[
            "a/adapter_config.json: cannot read it",
        ]),
        ("a configuration that is not JSON", |s| s.write("a/adapter_config.json", "{\n\"r\": }"), ADAPTER, &[
            "a/adapter_config.json:2: not a JSON object",
        ]),
        ("another kind of adapter", |s| set(s, "peft_type", "\"IA3\""), ADAPTER, &[
            "a/adapter_config.json: `peft_type`: found \"IA3\", needed \"LORA\"",
        ]),
        ("no kind", |s| set(s, "peft_type", "null"), ADAPTER, &[
            "a/adapter_config.json: `peft_type`: found null",
        ]),
        ("DoRA", |s| set(s, "use_dora", "true"), ADAPTER, &[
            "a/adapter_config.json: `use_dora`: found true, needed it unset",
        ]),
        ("trained biases", |s| set(s, "bias", "\"all\""), ADAPTER, &[
            "a/adapter_config.json: `bias`: found \"all\", needed \"none\"",
        ]),
        ("transposed weights", |s| set(s, "fan_in_fan_out", "true"), ADAPTER, &[
            "a/adapter_config.json: `fan_in_fan_out`: found true",
        ]),
        ("modules trained whole", |s| set(s, "modules_to_save", "[\"lm_head\"]"), ADAPTER, &[
            "a/adapter_config.json: `modules_to_save`: found [\"lm_head\"]",
        ]),
        ("a start that changes the base", |s| set(s, "init_lora_weights", "\"pissa_niter_4\""), ADAPTER, &[
            "a/adapter_config.json: `init_lora_weights`: found \"pissa_niter_4\"",
        ]),
        ("no rank", |s| set(s, "r", "null"), ADAPTER, &[
            "a/adapter_config.json: `r`: found null, needed a rank from 1 to 1048575",
        ]),
        ("a rank beyond any model", |s| set(s, "r", "100000000000"), ADAPTER, &[
            "a/adapter_config.json: `r`: found 100000000000",
        ]),
        ("an alpha of 0", |s| set(s, "lora_alpha", "0"), ADAPTER, &[
            "a/adapter_config.json: `lora_alpha`: found 0",
        ]),
        ("a pattern that is no expression", |s| set(s, "rank_pattern", r#"{"(": 2}"#), ADAPTER, &[
            "a/adapter_config.json: `rank_pattern`: `(` is no regular expression: unclosed group",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn weights() {
    check(2, &[
        ("no weights", |s| fs::remove_file(s.path("a/adapter_model.safetensors")).unwrap(), ADAPTER, &[
            "a/adapter_model.safetensors: cannot open it",
        ]),
        ("weights cut short", |s| {
            let bytes = fs::read(s.path("a/adapter_model.safetensors")).unwrap();
            s.write("a/adapter_model.safetensors", &bytes[..bytes.len() - 4]);
        }, ADAPTER, &["a/adapter_model.safetensors: not a safetensors file"]),
        ("another rank than said", |s| set(s, "r", "4"), ADAPTER, &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: found shape [2, 42], needed [4, 42] (rank by adapter_config.json, widths by the model)",
        ]),
        ("another model's adapter", |s| {
            let keep = s.path("keep");
            fs::rename(s.path("a"), &keep).unwrap();
            s.golden("llama_bias");
            fs::remove_dir_all(s.path("a")).unwrap();
            fs::rename(keep, s.path("a")).unwrap();
        }, ADAPTER, &["a/adapter_model.safetensors: `", "found shape [2, 42], needed [2, 33]"]),
        ("a module that the model lacks", |s| tensors(s, |name, _, _| *name = name.replace("layers.1.", "layers.7.")), ADAPTER, &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.7.",
            "it is no LoRA matrix of a linear of this model",
        ]),
        ("a matrix of another method", |s| tensors(s, |name, _, _| *name = name.replace("q_proj.lora_A", "q_proj.lora_magnitude_vector")), ADAPTER, &[
            "a/adapter_model.safetensors: `",
            "q_proj.lora_magnitude_vector.weight`: it is no LoRA matrix",
        ]),
        ("an A without its B", |s| tensors(s, without_b), ADAPTER, &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: the file has 27 tensors, but none of this name",
        ]),
        ("an A without its B, without a model", |s| tensors(s, without_b), "inspect --adapter a", &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: the file has 27 tensors",
        ]),
        ("a transposed A", |s| tensors(s, transposed), ADAPTER, &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: found shape [42, 2], needed [2, 42]",
        ]),
        ("a value that is NaN", |s| tensors(s, with_nan), ADAPTER, &[
            "a/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: found NaN, needed finite values",
        ]),
        ("no matrix", |s| tensors(s, |name, _, _| name.clear()), ADAPTER, &[
            "a/adapter_model.safetensors: found no LoRA matrix",
        ]),
        ("a bad adapter to start a run from", |s| set(s, "use_dora", "true"), "train run.toml --set adapter.init_from=a", &[
            "a/adapter_config.json: `use_dora`",
        ]),
        ("a bad adapter to score with", |s| set(s, "use_dora", "true"), "score --model m --adapter a --data d.jsonl", &[
            "a/adapter_config.json: `use_dora`",
        ]),
        ("a bad adapter to merge", |s| set(s, "use_dora", "true"), "merge --model m --adapter a --out w", &[
            "a/adapter_config.json: `use_dora`",
        ]),
    ]);
}
