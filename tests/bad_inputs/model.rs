//! Model directories: config.json, and weights that do not fit it.

use std::fs;

use super::check;
use super::sandbox::Sandbox;

const MODEL: &str = "inspect --model m";

/// Puts a key into config.json, over the one it has.
fn set(s: &Sandbox, key: &str, value: &str) {
    let mut config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&s.read("m/config.json")).unwrap();
    config.insert(key.into(), serde_json::from_str(value).unwrap());
    s.write("m/config.json", serde_json::to_string_pretty(&config).unwrap());
}

#[test]
#[rustfmt::skip] // one row, one line
fn directories() {
    check(2, &[
        ("no such directory", |_| (), "inspect --model n", &[
            "n: found no directory, needed a Hugging Face model directory or a .gguf file",
        ]),
        ("no such directory for a run", |_| (), "train run.toml --set model.path=n", &[
            "n: found no directory",
        ]),
        ("no such directory to score with", |_| (), "score --model n --data d.jsonl", &[
            "n: found no directory",
        ]),
        ("no such directory to merge into", |_| (), "merge --model n --adapter a --out w", &[
            "n: found no directory",
        ]),
        ("a file", |_| (), "inspect --model d.jsonl", &["d.jsonl: found no directory"]),
        ("an empty directory", |s| fs::create_dir(s.path("n")).unwrap(), "inspect --model n", &[
            "n: found neither model.safetensors nor model.safetensors.index.json",
            "hint: point at a Hugging Face model directory with safetensors weights",
        ]),
        ("no config.json", |s| fs::remove_file(s.path("m/config.json")).unwrap(), MODEL, &[
            "m/config.json: cannot read it",
        ]),
        ("a config.json that is not JSON", |s| s.edit("m/config.json", "\"llama\",", "\"llama\""), MODEL, &[
            "m/config.json:6: not a JSON object: expected `,` or `}`",
        ]),
        ("a config.json that is a list", |s| s.write("m/config.json", "[]"), MODEL, &[
            "m/config.json:1: not a JSON object",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn configurations() {
    check(2, &[
        ("another architecture", |s| set(s, "model_type", "\"mamba\""), MODEL, &[
            "m/config.json: `model_type`: found \"mamba\", needed one of llama, mistral, qwen2, qwen3, gemma3_text",
        ]),
        ("no architecture", |s| set(s, "model_type", "null"), MODEL, &[
            "m/config.json: `model_type`: found \"\", needed one of llama",
        ]),
        ("a size left out", |s| set(s, "hidden_size", "null"), MODEL, &[
            "m/config.json: `hidden_size`: found nothing, needed a value",
        ]),
        ("a size of 0", |s| set(s, "num_hidden_layers", "0"), MODEL, &[
            "m/config.json: `num_hidden_layers`: found 0, needed a whole number from 1 to 4096",
        ]),
        ("a size beyond any model", |s| set(s, "vocab_size", "1000000000000"), MODEL, &[
            "m/config.json: `vocab_size`: found 1000000000000",
        ]),
        ("a size that is a text", |s| set(s, "vocab_size", "\"131\""), MODEL, &[
            "m/config.json: `vocab_size`: found \"131\"",
        ]),
        ("key-value heads that do not divide the query heads", |s| set(s, "num_key_value_heads", "2"), MODEL, &[
            "m/config.json: `num_key_value_heads`: found 2, needed a divisor of num_attention_heads = 3",
        ]),
        ("an odd head width", |s| set(s, "head_dim", "63"), MODEL, &[
            "m/config.json: `head_dim`: found 63, needed an even number",
        ]),
        ("a rotary scaling that is not there", |s| set(s, "rope_scaling", r#"{"rope_type": "yarn", "factor": 4.0}"#), MODEL, &[
            "m/config.json: `rope_type`: found rotary scaling \"yarn\", needed default, linear or llama3",
        ]),
        ("a rotary scaling without its factor", |s| set(s, "rope_scaling", r#"{"rope_type": "linear"}"#), MODEL, &[
            "m/config.json: `factor`: found nothing",
        ]),
        ("half-rotated heads", |s| set(s, "partial_rotary_factor", "0.5"), MODEL, &[
            "m/config.json: `partial_rotary_factor`: found 0.5, needed 1",
        ]),
        ("another activation", |s| set(s, "hidden_act", "\"relu\""), MODEL, &[
            "m/config.json: `hidden_act`: found \"relu\", needed silu or gelu_pytorch_tanh",
        ]),
        ("capped logits", |s| set(s, "final_logit_softcapping", "30.0"), MODEL, &[
            "m/config.json: `final_logit_softcapping`: found 30.0, which is not supported",
        ]),
        ("experts", |s| set(s, "num_local_experts", "8"), MODEL, &[
            "m/config.json: `num_local_experts`: found 8, which is not supported",
        ]),
        ("quantised weights", |s| set(s, "quantization_config", r#"{"quant_method": "gptq"}"#), MODEL, &[
            "m/config.json: `quantization_config`: found {\"quant_method\":\"gptq\"}, which is not supported",
            "hint: ",
        ]),
        ("a sliding layer without a window", |s| {
            set(s, "model_type", "\"mistral\"");
            set(s, "layer_types", r#"["sliding_attention", "full_attention"]"#);
        }, MODEL, &[
            "m/config.json: `sliding_window`: a layer is a sliding_attention layer, but there is no window",
        ]),
        ("a layer type for another number of layers", |s| {
            set(s, "model_type", "\"mistral\"");
            set(s, "layer_types", r#"["full_attention"]"#);
        }, MODEL, &["m/config.json: `layer_types`: needed 2 of \"full_attention\" or \"sliding_attention\""]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn weights_that_the_configuration_needs() {
    check(2, &[
        ("a weight that is not there", |s| set(s, "num_hidden_layers", "3"), MODEL, &[
            "m: `model.layers.2.input_layernorm.weight`: the model needs this weight, but no file of the directory has it",
        ]),
        ("a head that is not there", |s| set(s, "tie_word_embeddings", "false"), MODEL, &[
            "m: `lm_head.weight`: the model needs this weight",
        ]),
        ("another shape", |s| set(s, "vocab_size", "130"), MODEL, &[
            "m/model.safetensors: `model.embed_tokens.weight`: found shape [131, 42], needed [130, 42] by config.json",
        ]),
        ("a type that weights are not stored in", |s| {
            // As many bytes an element, so that all else stays right.
            let bytes = fs::read(s.path("m/model.safetensors")).unwrap();
            let at = bytes.windows(6).position(|w| w == b"\"BF16\"").unwrap();
            let bytes = [&bytes[..at], b"\"I16\" ", &bytes[at + 6..]].concat();
            s.write("m/model.safetensors", bytes);
        }, MODEL, &["m/model.safetensors: `", "found type I16, needed F32, F16 or BF16"]),
    ]);
}
