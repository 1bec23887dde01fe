//! Any text as a model's config.json: refused, or a specification that can be asked for its shapes.
#![cfg_attr(feature = "libfuzzer", no_main)]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(spec) = preceptor::model::Spec::parse(text) else { return };
    for layer in 0..spec.layers.len() {
        spec.heads(layer);
        spec.linears_of(layer);
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
