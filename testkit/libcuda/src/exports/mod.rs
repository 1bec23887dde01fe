//! What a program calls: the C interface of the driver, each function a few lines over the model.
//!
//! Names and signatures are those of `cuda.h`. A function that is not here makes cudarc panic with "missing
//! symbol"; what the stand-in has under its name but does not model is in [`missing`], and says so.
#![allow(
    unsafe_code,
    reason = "exported names and pointers of the program; pointers.rs says why they are sound"
)]
#![allow(non_snake_case, reason = "the names of cuda.h")]

mod context;
mod device;
mod event;
mod graph;
mod kernel;
mod memory;
mod missing;
mod module;
mod nccl;
mod pointers;
mod stream;
mod tensor_map;
mod testkit;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::run;
use crate::status::{Outcome, Status};

/// The program that loaded this library.
pub(crate) static PROGRAM: pointers::Program = pointers::Program;

/// Turns an outcome into the code that a program sees. A panic must not leave through a C interface.
fn answer(name: &str, call: impl FnOnce() -> Outcome) -> i32 {
    if run::in_host_call() {
        eprintln!("[libcuda] {name} was called from a host function of a stream, which is not permitted");
        return Status::ERROR_NOT_PERMITTED.0;
    }
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => Status::SUCCESS.0,
        Ok(Err(status)) => status.0,
        Err(_) => {
            eprintln!("[libcuda] {name}: the stand-in itself failed");
            Status::ERROR_UNKNOWN.0
        }
    }
}

/// Exports functions under their own names. The body's value is an [`Outcome`].
macro_rules! exports {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> i32 {
            crate::exports::answer(stringify!($name), || -> crate::status::Outcome { $body })
        }
    )*};
}
use exports;
