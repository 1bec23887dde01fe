//! GGUF files against what `gguf`, Transformers and SentencePiece read in them (tests/golden/make_gguf.py).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;

use std::path::{Path, PathBuf};

use preceptor::adapter::Lora;
use preceptor::data::Tokenizer;
use preceptor::device::Device;
use preceptor::model::settings::WeightStorage;
use preceptor::model::{Batch, Model, Pass, pass::Keep};
use preceptor::ops::cross_entropy;
use preceptor::tensor::{Block, Forest, StoredFile};
use serde_json::Value;

use golden::{cases, cpu, gap};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn logits(device: &Device, model: &Model, adapter: Option<&Lora>, forest: &Forest) -> Vec<f32> {
    let batch = Batch::new(forest, (0..forest.len() as u32).collect());
    let pass = Pass::forward(device, model, adapter, &batch, None, Keep::Nothing);
    cross_entropy::logits(device, &pass.hidden, model.head()).values().to_vec()
}

/// All products before a value's last operation are exact in f32, so there is one right result.
#[test]
fn blocks_of_every_type_have_the_same_bits() {
    let golden = StoredFile::open(&file("blocks.safetensors")).unwrap();
    for block in Block::ALL {
        let name = block.name().to_uppercase();
        let stored = golden.get(&format!("{name}.blocks")).unwrap();
        let ours = block.widen(golden.bytes(stored));
        let theirs = golden.f32s(&format!("{name}.values")).unwrap();
        assert!(ours.len() >= 3 * block.elements() && theirs.iter().any(|&x| x != 0.0));
        assert_eq!(bits(&ours), bits(&theirs), "{name}");
    }
}

/// The files hold the same numbers as the golden directories, so logits (under an adapter, too) have the same bits, but for two:
/// Gemma's norms were rounded when 1 was added to them, and Llama 3's frequencies are divided by factors
/// that were rounded. Both move logits as other rounding does.
#[test]
fn a_file_and_the_directory_it_was_made_from_are_the_same_model() {
    let device = cpu(2);
    let mut found = 0;
    for case in cases() {
        let name = case.folder.file_name().unwrap().to_str().unwrap();
        let path = file(&format!("{name}.gguf"));
        if !path.exists() {
            continue;
        }
        found += 1;
        let forest = case.forest(0);
        let model = case.model(WeightStorage::F32);
        let adapter = case.adapter(&device, &model, "adapter_random");
        let theirs = logits(&device, &model, Some(&adapter), &forest);
        for storage in [WeightStorage::F32, WeightStorage::Stored] {
            let ours = logits(&device, &Model::open(&path, storage).unwrap(), Some(&adapter), &forest);
            if ["gemma3_text", "llama3_rope_long"].contains(&name) {
                let (gap, noise) = (gap(&theirs, &ours), case.noise("logits"));
                println!("{name}: {gap:.1e}, noise {noise:.1e}");
                assert!(gap <= 10.0 * noise, "{name}: {gap:e} > 10 * {noise:e}");
            } else {
                assert_eq!(bits(&theirs), bits(&ours), "{name}");
            }
        }
    }
    assert_eq!(found, 6);
}

/// `noise` is how far Transformers in f32 is from its own f64, of which the logits are stored.
#[test]
fn quantised_models_of_every_family_have_the_logits_of_transformers() {
    let device = cpu(2);
    let golden = StoredFile::open(&file("quantised.safetensors")).unwrap();
    let noise = json("quantised.json");
    for (family, noise) in noise.as_object().unwrap() {
        let (ids, rest) = golden.bytes(golden.get(&format!("{family}.ids")).unwrap()).as_chunks();
        assert!(rest.is_empty());
        let ids: Vec<u32> = ids.iter().map(|&id| i64::from_le_bytes(id) as u32).collect();
        let theirs = golden.f32s(&format!("{family}.logits")).unwrap();
        let of = |storage| {
            let model = Model::open(&file(&format!("{family}_quantised.gguf")), storage).unwrap();
            logits(&device, &model, None, &Forest::of_sequences([&ids[..]]))
        };
        let (stored, widened) = (of(WeightStorage::Stored), of(WeightStorage::F32));
        assert_eq!(bits(&stored), bits(&widened), "{family}");
        let (gap, noise) = (gap(&theirs, &stored), noise.as_f64().unwrap());
        println!("{family}: {gap:.1e}, noise {noise:.1e}");
        assert!(gap <= 10.0 * noise, "{family}: {gap:e} > 10 * {noise:e}");
    }
}

#[test]
fn pieces_are_cut_as_sentencepiece_cuts_them() {
    let tokenizer = Tokenizer::open(&file("pieces.gguf")).unwrap();
    for case in json("pieces.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text).unwrap().ids, ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
    assert_eq!(tokenizer.encode("</s>a").unwrap().ids[0], 2, "a control token that is written out is found");
    assert_eq!((tokenizer.prefix(), tokenizer.eos()), (&[1][..], &[2][..]));
}
