//! Any two files as a PEFT adapter: refused, or read with finite values only.
//!
//! The input is the text of adapter_config.json up to a NUL byte, then adapter_model.safetensors.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::fs;
use std::sync::LazyLock;

use preceptor::device::{self, Device};
use preceptor::{adapter, model};

/// The model that `seeds.py` makes adapters for.
static SPEC: LazyLock<model::Spec> =
    LazyLock::new(|| model::Spec::parse(include_str!("../model.json")).expect("a valid model"));
static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    Device::open(&device::Settings { threads: 1, ..Default::default() }).expect("every machine has a CPU")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|&b| b == 0) else { return };
    let folder = tempfile::tempdir().expect("a writable temporary folder");
    fs::write(folder.path().join("adapter_config.json"), &input[..end]).expect("a writable file");
    fs::write(folder.path().join("adapter_model.safetensors"), &input[end + 1..]).expect("a writable file");
    if let Ok(lora) = adapter::peft::read(&DEVICE, folder.path(), &SPEC.linears()) {
        assert!(lora.params().values().iter().all(|x| x.is_finite()));
    }
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {}
