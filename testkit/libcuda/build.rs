//! Gives the library the name that programs ask the loader for, so that a copy loaded by path answers to it.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo::rerun-if-changed=build.rs");
}
