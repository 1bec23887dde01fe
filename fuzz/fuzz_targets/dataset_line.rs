//! Any bytes as a dataset line, in each format: refused, or what the rest of the program counts on holds.
#![cfg_attr(feature = "libfuzzer", no_main)]

use preceptor::data::line::{Body, Format, Line};

const FORMATS: [Format; 7] = [
    Format::Mcqa,
    Format::PromptCompletion,
    Format::Messages,
    Format::Instruction,
    Format::Text,
    Format::Preference,
    Format::Tokens,
];

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    if let Ok(format) = Format::detect(text) {
        assert!(FORMATS.contains(&format));
    }
    for line in FORMATS.into_iter().filter_map(|format| Line::parse(text, format).ok()) {
        assert!(line.weight > 0.0 && line.weight.is_finite());
        assert!(line.smoothing.is_none_or(|s| (0.0..1.0).contains(&s)));
        match line.body {
            Body::Mcqa(mcqa) => {
                assert!(mcqa.answer < mcqa.options.len());
                assert!(mcqa.teacher.is_none_or(|teacher| teacher.len() == mcqa.options.len()));
            }
            Body::Tokens(tokens) => assert_eq!(tokens.input_ids.len(), tokens.labels.len()),
            _ => {}
        }
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
