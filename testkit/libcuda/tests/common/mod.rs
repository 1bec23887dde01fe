//! Loads the stand-in before anything calls a driver, and reads its report.
#![allow(unsafe_code, dead_code, reason = "foreign functions; not every test file uses all of this")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, CudaModule};
use cudarc::nvrtc::Ptx;
use libloading::{Library, Symbol};
use serde_json::Value;

pub(crate) const PTX: &str = include_str!("kernels.ptx");

type Configure = unsafe extern "C" fn(*const u8, usize) -> i32;
type Take = unsafe extern "C" fn(*mut usize) -> *mut u8;
type Free = unsafe extern "C" fn(*mut u8, usize);

/// The library, which cargo puts beside the test's own program.
pub(crate) fn path() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("libcuda.so")
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    // SAFETY: the library's initialisation only registers a function for the process's end.
    LIBRARY.get_or_init(|| unsafe { Library::new(path()) }.unwrap())
}

/// Chooses the modelled device.
pub(crate) fn configure(text: &str) -> i32 {
    // SAFETY: the symbol has this type in testkit/libcuda.
    unsafe {
        let configure: Symbol<'_, Configure> = library().get(b"preceptor_testkit_configure").unwrap();
        configure(text.as_ptr(), text.len())
    }
}

/// Everything since the last call.
pub(crate) fn take_report() -> Vec<Value> {
    // SAFETY: the symbols have these types, and the report is `length` bytes until it is given back.
    let text = unsafe {
        let take: Symbol<'_, Take> = library().get(b"preceptor_testkit_take_report").unwrap();
        let free: Symbol<'_, Free> = library().get(b"preceptor_testkit_free_report").unwrap();
        let mut length = 0;
        let report = take(&mut length);
        let text = std::slice::from_raw_parts(report, length).to_vec();
        free(report, length);
        text
    };
    serde_json::from_slice(&text).unwrap()
}

/// The checks that found something since the last report, in order.
pub(crate) fn findings() -> Vec<String> {
    let entries = take_report();
    let all = entries.iter().flat_map(|entry| entry["findings"].as_array().unwrap());
    all.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
}

/// An empty report for one test at a time: the driver is one a process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    take_report();
    alone
}

/// The same, with a context of its own.
pub(crate) fn context() -> (MutexGuard<'static, ()>, Arc<CudaContext>) {
    let alone = alone();
    let context = CudaContext::new_non_primary(0, 0).unwrap();
    // SAFETY: these tests order their streams themselves, or fail to on purpose.
    unsafe { context.disable_event_tracking() };
    (alone, context)
}

pub(crate) fn module(context: &Arc<CudaContext>) -> Arc<CudaModule> {
    context.load_module(Ptx::from_src(PTX)).unwrap()
}
