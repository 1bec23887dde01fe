//! Any bytes as a GGUF file: refused, or every tensor lies inside the file and all metadata can be asked for.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::io::Write;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(contents) = preceptor::tensor::gguf::parse(file) else { return };
    for tensor in contents.tensors.values() {
        let bytes = &file[tensor.bytes.clone()];
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(bytes.len(), tensor.dtype.bytes(elements));
        assert_eq!(preceptor::tensor::stored::widen(bytes, tensor.dtype).len(), elements);
    }
    let mut named = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a temporary file");
    named.write_all(file).expect("room for it");
    let _ = preceptor::model::Spec::read(named.path());
    if let Ok(tokenizer) = preceptor::data::Tokenizer::open(named.path()) {
        let _ = tokenizer.encode("a b 12").map(|tokens| tokenizer.decode(&tokens.ids, false));
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
