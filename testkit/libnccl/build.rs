//! Gives the library its name and makes it need `libcuda.so`, through an empty library of that name.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let folder = PathBuf::from(variable("OUT_DIR"));
    let (source, library) = (folder.join("empty.rs"), folder.join("libcuda.so"));
    std::fs::write(&source, "").expect("OUT_DIR is ours to write");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-type", "cdylib", "--crate-name", "cuda", "--edition", "2024", "--target"]);
    rustc.arg(variable("TARGET")).args(["-C", "link-arg=-Wl,-soname,libcuda.so", "-o"]);
    let status = rustc.arg(&library).arg(&source).status().expect("rustc runs");
    assert!(status.success(), "the empty library was not made");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnccl.so");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--no-as-needed");
    println!("cargo::rustc-cdylib-link-arg={}", library.display());
}
