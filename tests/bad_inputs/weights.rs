//! Safetensors files, and the index of shards.

use std::fs;

use super::check;
use super::sandbox::Sandbox;

const MODEL: &str = "inspect --model m";

/// A safetensors file with this header and so many bytes of data.
fn file(s: &Sandbox, header: &str, data: usize) {
    let len = header.len() as u64;
    s.write("m/model.safetensors", [&len.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat());
}

/// The first bytes of the file as it is.
fn start(s: &Sandbox, len: usize) {
    let bytes = fs::read(s.path("m/model.safetensors")).unwrap();
    s.write("m/model.safetensors", &bytes[..len]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn files() {
    check(2, &[
        ("an empty file", |s| start(s, 0), MODEL, &[
            "m/model.safetensors: found an empty file, needed a file with content",
        ]),
        ("fewer bytes than a length", |s| start(s, 7), MODEL, &[
            "m/model.safetensors: not a safetensors file: found 7 bytes, needed at least 8",
        ]),
        ("a header cut short", |s| start(s, 100), MODEL, &[
            "m/model.safetensors: not a safetensors file: it declares a header of 2048 bytes, but only 92 follow",
            "hint: ",
        ]),
        ("data cut short", |s| start(s, 100_000), MODEL, &[
            "m/model.safetensors: not a safetensors file: its tensors do not end at the end of the file (100000 bytes)",
        ]),
        ("a tail", |s| file(s, r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5), MODEL, &[
            "m/model.safetensors: not a safetensors file: its tensors do not end at the end of the file (67 bytes)",
        ]),
        ("a header beyond any file", |s| s.write("m/model.safetensors", [255; 64]), MODEL, &[
            "m/model.safetensors: not a safetensors file: it declares a header of 18446744073709551615 bytes",
        ]),
        ("a header that is not JSON", |s| file(s, "{x}", 4), MODEL, &[
            "m/model.safetensors: not a safetensors file: ",
        ]),
        ("a pickled file", |s| s.write("m/model.safetensors", b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00"), MODEL, &[
            "m/model.safetensors: not a safetensors file: ",
        ]),
        ("tensors that overlap", |s| file(s, r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8), MODEL, &[
            "m/model.safetensors: not a safetensors file: tensor `y` overlaps another or leaves a gap",
        ]),
        ("a tensor past the end", |s| file(s, r#"{"x":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}"#, 8), MODEL, &[
            "m/model.safetensors: not a safetensors file: its tensors do not end at the end of the file",
        ]),
        ("offsets that overflow", |s| file(s, r#"{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,18446744073709551615]}}"#, 8), MODEL, &[
            "m/model.safetensors: not a safetensors file: ",
        ]),
        ("bytes that do not fit the shape", |s| file(s, r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8), MODEL, &[
            "m/model.safetensors: not a safetensors file: a tensor's bytes do not fit its shape and type",
        ]),
        ("a type that does not exist", |s| file(s, r#"{"x":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4), MODEL, &[
            "m/model.safetensors: not a safetensors file: ",
            "F33",
        ]),
    ]);
}

const INDEX: &str = "m/model.safetensors.index.json";

#[test]
#[rustfmt::skip] // one row, one line
fn shards() {
    check(2, &[
        ("a shard that is not there", |s| {
            s.golden("qwen2");
            fs::remove_file(s.path("m/model-00002-of-00003.safetensors")).unwrap();
        }, MODEL, &["m/model-00002-of-00003.safetensors: cannot open it"]),
        ("a shard outside the directory", |s| {
            s.golden("qwen2");
            s.write(INDEX, s.read(INDEX).replace("model-00002", "../model-00002"));
        }, MODEL, &[
            "m/model.safetensors.index.json: `weight_map`: found shard `../model-00002-of-00003.safetensors`, needed the name of a .safetensors file in this directory",
        ]),
        ("a shard at the root", |s| s.write(INDEX, r#"{"weight_map": {"x": "/etc/passwd"}}"#), MODEL, &[
            "m/model.safetensors.index.json: `weight_map`: found shard `/etc/passwd`",
        ]),
        ("an index that is not JSON", |s| s.write(INDEX, "{"), MODEL, &[
            "m/model.safetensors.index.json: `weight_map`: not a safetensors index",
        ]),
        ("an index without a map", |s| s.write(INDEX, "{}"), MODEL, &[
            "m/model.safetensors.index.json: `weight_map`: not a safetensors index: missing field",
        ]),
        ("an index of nothing", |s| s.write(INDEX, r#"{"weight_map": {}}"#), MODEL, &[
            "m/model.safetensors.index.json: `weight_map`: the index names no tensor",
        ]),
        ("an index that names a tensor that is not there", |s| s.write(INDEX, r#"{"weight_map": {"x": "model.safetensors"}}"#), MODEL, &[
            "m/model.safetensors: `x`: the file has 20 tensors, but none of this name",
            "hint: model.safetensors.index.json says that it is there",
        ]),
        ("a broken shard", |s| {
            s.golden("qwen2");
            s.write("m/model-00003-of-00003.safetensors", "");
        }, MODEL, &["m/model-00003-of-00003.safetensors: found an empty file"]),
    ]);
}
