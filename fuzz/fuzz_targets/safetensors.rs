//! Any bytes as a weights file: refused, or every tensor lies inside the file.
#![cfg_attr(feature = "libfuzzer", no_main)]

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(tensors) = preceptor::tensor::stored::parse(file) else { return };
    for stored in tensors.values() {
        let bytes = &file[stored.bytes.clone()];
        if let Some(dtype) = stored.weight_dtype() {
            assert_eq!(bytes.len(), dtype.bytes(stored.elements()));
        }
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
