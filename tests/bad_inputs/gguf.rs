//! GGUF files: headers that lie, metadata that is missing or wrong, tensors that do not fit.

use std::fs;
use std::path::Path;

use super::check;
use super::sandbox::Sandbox;

const MODEL: &str = "inspect --model m.gguf";

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf");
    fs::read(folder.join(name).with_extension("gguf")).unwrap()
}

/// A golden file, with the first place that has `from` made into `to`, which is as long.
fn edited(s: &Sandbox, from: &[u8], to: &[u8]) {
    let mut file = golden("llama_bias");
    assert_eq!(from.len(), to.len());
    let at = file.windows(from.len()).position(|bytes| bytes == from).unwrap();
    file[at..at + to.len()].copy_from_slice(to);
    s.write("m.gguf", file);
}

/// The bytes after the first place that has `name`, `skip` bytes on, made into `to`.
fn after(s: &Sandbox, name: &str, skip: usize, to: &[u8]) {
    let mut file = golden("llama_bias");
    let at = file.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap() + name.len() + skip;
    file[at..at + to.len()].copy_from_slice(to);
    s.write("m.gguf", file);
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A header with these counts, and what follows it.
fn file(s: &Sandbox, tensors: u64, entries: u64, rest: &[&[u8]]) {
    let head = [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &entries.to_le_bytes()].concat();
    s.write("m.gguf", [head, rest.concat()].concat());
}

/// A tensor's entry.
fn tensor(name: &str, sizes: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let sizes: Vec<u8> = [(sizes.len() as u32).to_le_bytes().to_vec()]
        .into_iter()
        .chain(sizes.iter().map(|n| n.to_le_bytes().to_vec()))
        .flatten()
        .collect();
    [&text(name)[..], &sizes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// A file of these tensors, with a page of data.
fn tensors(s: &Sandbox, tensors: &[Vec<u8>]) {
    file(s, tensors.len() as u64, 0, &[&tensors.concat(), &[0; 4096]]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn headers() {
    check(2, &[
        ("no such file", |_| (), MODEL, &["m.gguf: cannot open it"]),
        ("an empty file", |s| s.write("m.gguf", ""), MODEL, &["m.gguf: found an empty file"]),
        ("another file", |s| s.write("m.gguf", "PK\x03\x04"), MODEL, &["m.gguf: not a GGUF file: it does not begin with \"GGUF\""]),
        ("only the magic", |s| s.write("m.gguf", "GGUF"), MODEL, &["m.gguf: the version takes 4 bytes at byte 4, but only 0 follow"]),
        ("an old version", |s| s.write("m.gguf", b"GGUF\x01\0\0\0"), MODEL, &["m.gguf: found GGUF version 1, needed 2 or 3"]),
        ("big-endian", |s| s.write("m.gguf", b"GGUF\0\0\0\x03"), MODEL, &["m.gguf: found a big-endian GGUF file, needed a little-endian one"]),
        ("more entries than fit", |s| file(s, 0, u64::MAX, &[]), MODEL, &[
            "m.gguf: it declares 18446744073709551615 metadata entries, but only 0 bytes follow",
        ]),
        ("more tensors than fit", |s| file(s, 1 << 60, 0, &[&[0; 64]]), MODEL, &[
            "m.gguf: it declares 1152921504606846976 tensors, but only 64 bytes follow",
        ]),
        ("a key longer than the file", |s| file(s, 0, 1, &[&u64::MAX.to_le_bytes(), &[0; 16]]), MODEL, &[
            "m.gguf: a metadata key takes 18446744073709551615 bytes at byte 32, but only 16 follow",
        ]),
        ("a type that does not exist", |s| file(s, 0, 1, &[&text("k"), &[13, 0, 0, 0], &[0; 8]]), MODEL, &[
            "m.gguf: `k`: found the value type 13, needed one of 0 to 12",
        ]),
        ("a list of lists", |s| file(s, 0, 1, &[&text("k"), &[9, 0, 0, 0, 9, 0, 0, 0], &[0; 16]]), MODEL, &[
            "m.gguf: `k`: found a list of lists, needed a list of values",
        ]),
        ("a list longer than the file", |s| file(s, 0, 1, &[&text("k"), &[9, 0, 0, 0, 8, 0, 0, 0], &u64::MAX.to_le_bytes()]), MODEL, &[
            "m.gguf: `k`: it declares 18446744073709551615 list elements, but only 0 bytes follow",
        ]),
        ("a key twice", |s| file(s, 0, 2, &[&[&text("k")[..], &[0, 0, 0, 0, 1]].concat().repeat(2)]), MODEL, &[
            "m.gguf: `k`: the file has this key twice",
        ]),
        ("no alignment", |s| file(s, 0, 1, &[&text("general.alignment"), &[4, 0, 0, 0, 0, 0, 0, 0]]), MODEL, &[
            "m.gguf: `general.alignment`: found 0, needed a power of two from 8 to 65536",
        ]),
        ("a part of a model", |s| file(s, 0, 1, &[&text("split.count"), &[2, 0, 0, 0, 3, 0]]), MODEL, &[
            "m.gguf: `split.count`: the file is one of 3 parts", "hint: join the parts first",
        ]),
        ("a file cut short", |s| s.write("m.gguf", &golden("llama_bias")[..90_000]), MODEL, &[
            "m.gguf: `", "reach past the end of the file (90000 bytes)",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn tensor_entries() {
    check(2, &[
        ("a tensor twice", |s| tensors(s, &[tensor("x", &[1], 0, 0), tensor("x", &[1], 0, 32)]), MODEL, &[
            "m.gguf: `x`: the file has a tensor of this name twice",
        ]),
        ("tensors that overlap", |s| tensors(s, &[tensor("x", &[9], 0, 0), tensor("y", &[1], 0, 32)]), MODEL, &[
            "m.gguf: `y`: it overlaps the tensor `x`",
        ]),
        ("no dimension", |s| tensors(s, &[tensor("x", &[], 0, 0)]), MODEL, &["m.gguf: `x`: found 0 dimensions, needed 1 to 4"]),
        ("five dimensions", |s| tensors(s, &[tensor("x", &[1; 5], 0, 0)]), MODEL, &["m.gguf: `x`: found 5 dimensions, needed 1 to 4"]),
        ("nothing", |s| tensors(s, &[tensor("x", &[4, 0], 0, 0)]), MODEL, &["m.gguf: `x`: found the shape [4, 0], needed sizes above 0"]),
        ("a product that overflows", |s| tensors(s, &[tensor("x", &[1 << 32, 1 << 32], 0, 0)]), MODEL, &[
            "m.gguf: `x`: found the shape [4294967296, 4294967296], which no file has room for",
        ]),
        ("half a block", |s| tensors(s, &[tensor("x", &[48, 2], 2, 0)]), MODEL, &[
            "m.gguf: `x`: found rows of 48 elements, needed a multiple of 32 for q4_0",
        ]),
        ("an offset between", |s| tensors(s, &[tensor("x", &[1], 0, 8)]), MODEL, &[
            "m.gguf: `x`: found the offset 8, needed a multiple of 32, the file's alignment",
        ]),
        ("an offset that overflows", |s| tensors(s, &[tensor("x", &[1], 0, u64::MAX - 31)]), MODEL, &[
            "m.gguf: `x`: its 4 bytes at offset 18446744073709551584 of the data reach past the end of the file",
        ]),
        ("past the end", |s| tensors(s, &[tensor("x", &[1 << 20], 0, 0)]), MODEL, &[
            "m.gguf: `x`: its 4194304 bytes at offset 0 of the data reach past the end of the file",
        ]),
        ("a type that is not read", |s| tensors(s, &[tensor("x", &[256], 10, 0)]), MODEL, &[
            "m.gguf: `x`: found the type Q2_K, needed one of F32, F16, Q4_0", "hint: quantise the model to one of these types",
        ]),
        ("a type that does not exist", |s| tensors(s, &[tensor("x", &[256], 99, 0)]), MODEL, &["m.gguf: `x`: found the type 99, needed one of F32"]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn models() {
    check(2, &[
        ("no architecture", |s| tensors(s, &[tensor("x", &[1], 0, 0)]), MODEL, &[
            "m.gguf: `general.architecture`: found \"\", needed one of llama, qwen2, qwen3, gemma3",
        ]),
        ("another architecture", |s| edited(s, &text("llama"), &text("mamba")), MODEL, &[
            "m.gguf: `general.architecture`: found \"mamba\", needed one of llama, qwen2, qwen3, gemma3",
        ]),
        ("a key that is missing", |s| edited(s, b"llama.block_count", b"llama.block_cOunt"), MODEL, &[
            "m.gguf: `llama.block_count`: found nothing, needed a value",
        ]),
        ("an absurd size", |s| after(s, "llama.block_count", 4, &[255; 4]), MODEL, &[
            "m.gguf: `llama.block_count`: found 4294967295, needed a whole number from 1 to 4096",
        ]),
        ("no block", |s| after(s, "llama.block_count", 4, &[0; 4]), MODEL, &[
            "m.gguf: `llama.block_count`: found 0, needed a whole number from 1 to 4096",
        ]),
        ("a value of another type", |s| after(s, "llama.block_count", 0, &[5, 0, 0, 0, 255, 255, 255, 255]), MODEL, &[
            "m.gguf: `llama.block_count`: found -1, needed a whole number from 1 to 4096",
        ]),
        ("heads that do not divide", |s| after(s, "llama.attention.head_count_kv", 4, &[2, 0, 0, 0]), MODEL, &[
            "m.gguf: `llama.attention.head_count_kv`: found 2, needed a divisor of",
        ]),
        ("a head of another width", |s| after(s, "llama.attention.value_length", 4, &[6, 0, 0, 0]), MODEL, &[
            "m.gguf: `llama.attention.value_length`: found 6, needed 8, the width of a head",
        ]),
        ("another width", |s| after(s, "llama.feed_forward_length", 4, &[52, 0, 0, 0]), MODEL, &[
            "m.gguf: `blk.0.ffn_gate.weight`: found shape [53, 33], needed [52, 33] by the metadata",
        ]),
        ("a weight that is missing", |s| edited(s, b"blk.1.ffn_down.weight", b"blk.1.ffn_dOwn.weight"), MODEL, &[
            "m.gguf: `blk.1.ffn_down.weight`: the model needs this weight, but the file does not have it",
        ]),
        ("no embedding", |s| edited(s, b"token_embd.weight", b"token_embD.weight"), MODEL, &[
            "m.gguf: `token_embd.weight`: found no matrix of this name, needed the embedding",
        ]),
        ("no tokenizer", |s| s.write("m.gguf", golden("llama_bias")), "score --model m.gguf --data q.jsonl", &[
            "m.gguf: `tokenizer.ggml.tokens`: found no token", "hint: only token ids can be used with this file",
        ]),
        ("a merge into it", |s| s.write("m.gguf", golden("llama_bias")), "merge --model m.gguf --adapter a --out o", &[
            "m.gguf: found a GGUF file, needed the Hugging Face directory of the base model",
        ]),
    ]);
}
