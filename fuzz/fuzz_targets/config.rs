//! Any text as a configuration: refused, or written down so that reading it again gives the same.
#![cfg_attr(feature = "libfuzzer", no_main)]

use preceptor::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(config) = Config::parse(text) else { return };
    let resolved = config.to_toml();
    let again = Config::parse(&resolved).expect("a resolved configuration is valid");
    assert_eq!(again.to_toml(), resolved);
    assert_eq!(again.check().is_ok(), config.check().is_ok());
    // As an option too, for its own reader.
    let _ = config.with_sets(&[text.to_owned()]);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
