//! What the stand-in has beside a driver's interface.

use super::pointers::{In, Out};
use crate::config::Config;
use crate::run::{lock, try_lock};
use crate::status::Status;
use crate::streams::Streams;

/// Chooses the modelled device, the seed and the threads, from `length` bytes of JSON; see [`Config::parse`].
/// To be called while no context exists. `ERROR_INVALID_VALUE` for text that it does not understand, said on
/// stderr.
#[unsafe(no_mangle)]
extern "C" fn preceptor_testkit_configure(text: In<u8>, length: usize) -> i32 {
    super::answer("preceptor_testkit_configure", || {
        let text = String::from_utf8_lossy(&text.slice(length)?).into_owned();
        let config = Config::parse(&text).map_err(|error| {
            eprintln!("[libcuda] configuration: {error}");
            Status::ERROR_INVALID_VALUE
        })?;
        let mut driver = lock();
        if driver.contexts.iter().next().is_some() {
            return Err(Status::ERROR_ILLEGAL_STATE);
        }
        driver.config = config;
        driver.log.keeps_launches = true;
        driver.streams = Streams::new(config.seed);
        Ok(())
    })
}

/// Launches and findings since the last call, as a JSON array of entries in order: `{"kernel", "grid",
/// "block", "shared", "findings", "counters"}`. Findings of the driver itself have an empty kernel and no
/// counters. Launches without findings are kept only once this or `configure` was called.
///
/// The text is UTF-8 of `length` bytes; [`preceptor_testkit_free_report`] takes it back.
#[unsafe(no_mangle)]
extern "C" fn preceptor_testkit_take_report(length: Out<usize>) -> *mut u8 {
    let report = lock().log.take().into_bytes().into_boxed_slice();
    length.set_optional(report.len());
    Box::into_raw(report).cast()
}

/// Takes a report back.
#[unsafe(no_mangle)]
extern "C" fn preceptor_testkit_free_report(text: *mut u8, length: usize) {
    if !text.is_null() {
        // SAFETY: the caller gives back pointer and length that `take_report` made from a box of bytes.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(text, length)) });
    }
}

/// At the process's end: what was never freed.
extern "C" fn report_at_exit() {
    if let Some(mut driver) = try_lock() {
        driver.report_leaks(None);
    }
}

// SAFETY: the section holds functions of this type, which the loader calls when the library or the process
// ends.
#[unsafe(link_section = ".fini_array")]
#[used]
static AT_EXIT: extern "C" fn() = report_at_exit;
