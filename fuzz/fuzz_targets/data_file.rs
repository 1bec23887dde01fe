//! Any bytes as a CSV and as a Parquet file: refused, or every example of the index can be read again.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::io::Write;

use preceptor::data::{Dataset, index};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    for ending in [".csv", ".parquet"] {
        let mut named = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
        named.write_all(file).expect("room for it");
        let Ok(format) = index::detect_format(named.path()) else { continue };
        let Ok(data) = Dataset::open(named.path(), format, 0) else { continue };
        for example in 0..data.len() {
            data.line(example).expect("it was read before");
        }
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
