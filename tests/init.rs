//! `preceptor init`: models that open, tokenizers that spell, the same bits for the same seed.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "sandbox/mod.rs"]
mod sandbox;

use preceptor::data::{Tokenizer, Vocabulary, WordCounts, vocabulary};
use preceptor::model::{Model, Spec, settings::WeightStorage};
use preceptor::tensor::Checkpoint;
use sandbox::Sandbox;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Model as _};

const TEXT: &str = "low low low low low lower lower newest newest newest newest newest newest widest widest widest\n\
    Which chamber pumps blood into the aorta? The left ventricle pumps blood into the aorta; at 37 degrees\n";

/// Families with every tensor that some family has: biases, norms of queries and keys, norms of outputs, a head.
fn configs() -> [Value; 4] {
    let sizes = json!({
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "vocab_size": 280,
    });
    let with = |extra: Value| {
        let mut config = sizes.clone();
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config
    };
    [
        with(json!({"model_type": "llama", "attention_bias": true, "mlp_bias": true})),
        with(json!({"model_type": "qwen2", "tie_word_embeddings": true, "dtype": "bfloat16"})),
        with(json!({"model_type": "qwen3", "initializer_range": 0.5})),
        with(json!({"model_type": "gemma3_text", "sliding_window": 8})),
    ]
}

fn init(sandbox: &Sandbox, config: &Value, arguments: &str) -> sandbox::Ran {
    sandbox.write("config.json", config.to_string());
    sandbox.write("text.txt", TEXT);
    sandbox.run(&format!("init --config config.json --text text.txt q.jsonl {arguments}"))
}

#[test]
fn every_family_opens_and_uses_all_of_its_tensors() {
    for config in configs() {
        let sandbox = Sandbox::new();
        let ran = init(&sandbox, &config, "--out new --json");
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let folder = sandbox.path("new");
        let model = Model::open(&folder, WeightStorage::Stored).unwrap();
        assert_eq!(model.spec().vocabulary, 280);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let stored =
            checkpoint.names().map(|name| checkpoint.find(name).unwrap().1.elements()).sum::<usize>();
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(said, json!({"parameters": stored, "vocabulary": 280}));
        let opened = sandbox.run("score --model new --data q.jsonl");
        assert_eq!(opened.code, Some(0), "{}", opened.stderr);
        assert!(!opened.stderr.contains("not used"), "{}", opened.stderr);
    }
}

/// N(0, s^2): the mean of n values has the deviation s / sqrt(n), the mean square the deviation s^2 sqrt(2 / n).
#[test]
fn weights_have_the_deviation_that_the_configuration_names() {
    let sandbox = Sandbox::new();
    let [_, _, config, _] = configs();
    assert_eq!(init(&sandbox, &config, "--out new").code, Some(0));
    let checkpoint = Checkpoint::open(&sandbox.path("new")).unwrap();
    let (file, _) = checkpoint.find("model.embed_tokens.weight").unwrap();
    let values = file.f32s("model.embed_tokens.weight").unwrap();
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * 0.5 / n.sqrt(), "mean {mean}");
    assert!((square - 0.25).abs() < 5.0 * 0.25 * (2.0 / n).sqrt(), "mean square {square}");
    let norm = file.f32s("model.norm.weight").unwrap();
    assert!(norm.iter().all(|&x| x == 1.0));
}

#[test]
fn the_seed_decides_every_bit() {
    let weights = |seed: u32| {
        let sandbox = Sandbox::new();
        assert_eq!(init(&sandbox, &configs()[0], &format!("--seed {seed} --out new")).code, Some(0));
        (std::fs::read(sandbox.path("new/model.safetensors")).unwrap(), sandbox.read("new/tokenizer.json"))
    };
    let (first, again, other) = (weights(1), weights(1), weights(2));
    assert!(first == again);
    assert!(first.0 != other.0);
    assert_eq!(first.1, other.1);
}

/// Against the trainer of the `tokenizers` library, which breaks ties alike.
#[test]
fn the_merges_are_those_of_the_library() {
    let words =
        [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3), ("slowest", 1), ("aaaa", 2), ("aaab", 1)];
    let mut counts = WordCounts::default();
    for (word, count) in words {
        // line by line, so that no blank joins a word
        (0..count).for_each(|_| counts.add(word));
    }
    let size = 275;
    let home = tempfile::tempdir().unwrap();
    Vocabulary::learn(&counts, size).unwrap().write(home.path(), 64).unwrap();
    let ours = tokenizers::Tokenizer::from_file(home.path().join("tokenizer.json")).unwrap();

    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .special_tokens(vec![AddedToken::from(vocabulary::END, true)])
        .initial_alphabet(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut theirs = BPE::default();
    let counted = words.iter().map(|&(word, count)| (word.into(), count)).collect();
    trainer.do_train(&counted, &mut theirs).unwrap();
    assert_eq!(ours.get_vocab_size(true), size);
    for id in 0..size as u32 {
        assert_eq!(ours.id_to_token(id), theirs.id_to_token(id), "token {id}");
    }
}

#[test]
fn texts_come_back_and_frequent_words_are_one_token() {
    let sandbox = Sandbox::new();
    assert_eq!(init(&sandbox, &configs()[0], "--out new").code, Some(0));
    let tokenizer = Tokenizer::open(&sandbox.path("new")).unwrap();
    for text in ["the aorta", " newest", "f\u{fc}r \u{4e2d}\n\n  x", "<|endoftext|>"] {
        let ids = tokenizer.encode(text).unwrap().ids;
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
    assert_eq!(tokenizer.eos(), [0]);
    assert_eq!(tokenizer.encode(" the letter").unwrap().ids.len(), 2);
    assert_eq!(Spec::read(&sandbox.path("new")).unwrap().vocabulary, 280);
}

/// What is wrong, the arguments, and what is said of it.
#[test]
fn wrong_input_is_named() {
    let [config, ..] = configs();
    let rows = [
        ("--vocabulary 4000 --out new", "`--vocabulary`: found 4000, but the text has words for only"),
        ("--out m", "m: it exists already"),
        ("--text none.txt --out new", "none.txt: cannot read it"),
        ("--text d.jsonl --out new", "d.jsonl:1: found token ids, needed a text"),
    ];
    for (arguments, says) in rows {
        let ran = init(&Sandbox::new(), &config, arguments);
        assert_eq!(ran.code, Some(2), "{arguments}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: {says}")), "{arguments}: {}", ran.stderr);
    }
    for (key, value) in [("dtype", "\"int8\""), ("hidden_size", "0"), ("vocab_size", "100")] {
        let sandbox = Sandbox::new();
        let mut config = config.clone();
        config["dtype"] = json!("float32");
        assert_eq!(init(&sandbox, &config, "--out new").code, Some(0));
        sandbox.edit("config.json", &format!("\"{key}\":{}", config[key]), &format!("\"{key}\":{value}"));
        let ran = sandbox.run("init --config config.json --text text.txt --out newer");
        assert_eq!(ran.code, Some(2), "{key}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: config.json: `{key}`: found")), "{}", ran.stderr);
    }
}
