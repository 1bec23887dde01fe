//! The one lock, and the waits of host threads, which make work run.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::driver::Driver;
use crate::exports::PROGRAM;
use crate::nccl::{Answer, Call};
use crate::status::{Outcome, Status};
use crate::streams::{Clock, Started};
use crate::work::Work;

static DRIVER: LazyLock<Mutex<Driver>> =
    LazyLock::new(|| Mutex::new(Driver::new(Config::default(), &PROGRAM)));

/// Woken whenever an operation has finished.
static PROGRESS: Condvar = Condvar::new();

/// The driver's state, locked.
pub(crate) type Guard = MutexGuard<'static, Driver>;

/// Waits for the lock.
pub(crate) fn lock() -> Guard {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, if no other thread has it.
pub(crate) fn try_lock() -> Option<Guard> {
    DRIVER.try_lock().ok()
}

thread_local! {
    static IN_HOST_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a function that a stream calls: such a function may not call the driver.
pub(crate) fn in_host_call() -> bool {
    IN_HOST_CALL.get()
}

/// Makes everything before `point` run. The lock is released while a function of the program runs, while
/// other ranks are waited for, and while another thread runs what this one needs.
pub(crate) fn reach(mut driver: Guard, point: &Clock) -> Guard {
    while !driver.streams.reached(point) {
        driver = match driver.streams.start_next(point) {
            Some(started) => run(driver, started),
            None => PROGRESS.wait(driver).unwrap_or_else(PoisonError::into_inner),
        };
    }
    driver
}

/// A wait of the program: everything before `point` runs, and what is issued later lies behind it.
///
/// Fails with the fault of the current context, if there is one.
pub(crate) fn wait(driver: Guard, point: &Clock) -> Outcome<Guard> {
    let mut driver = reach(driver, point);
    driver.streams.host_waited(point);
    driver.contexts.healthy()?;
    Ok(driver)
}

/// A question whether everything before `point` is done. A "no" also makes one operation run, so asking until
/// it is "yes" ends.
pub(crate) fn query(mut driver: Guard, point: &Clock) -> Outcome {
    if driver.streams.reached(point) {
        driver.streams.host_waited(point);
        return driver.contexts.healthy().map(drop);
    }
    if let Some(started) = driver.streams.start_next(point) {
        driver = run(driver, started);
    }
    driver.contexts.healthy()?;
    Err(Status::ERROR_NOT_READY)
}

fn run(mut driver: Guard, started: Started<Work>) -> Guard {
    match &started.work {
        Work::HostCall { function, argument } => driver = call_host(driver, *function, *argument),
        Work::Complete(call) => {
            let (guard, answer) = wait_for_ranks(driver, call);
            driver = guard;
            driver.complete(&started, call, answer);
        }
        _ => {
            // An operation must leave its queue whatever happens, or later waits would never end.
            let outcome = catch_unwind(AssertUnwindSafe(|| driver.execute(&started)));
            if outcome.is_err() {
                driver.fail(started.context, Status::ERROR_UNKNOWN);
            }
        }
    }
    driver.streams.finish(started.stream);
    PROGRESS.notify_all();
    driver
}

fn call_host(driver: Guard, function: usize, argument: usize) -> Guard {
    let host = driver.host;
    drop(driver);
    IN_HOST_CALL.set(true);
    host.call(function, argument);
    IN_HOST_CALL.set(false);
    lock()
}

/// Waits for the hub's answer. Meanwhile the other ranks of this process give their parts, as they would on
/// devices of their own.
fn wait_for_ranks(mut driver: Guard, call: &Call) -> (Guard, Answer) {
    loop {
        let mut posts = Clock::default();
        for (point, work) in driver.streams.pending() {
            if matches!(work, Work::Post(other) if call.meets(other)) {
                posts.join(point);
            }
        }
        while let Some(started) = driver.streams.start_next(&posts) {
            driver = run(driver, started);
        }
        drop(driver);
        let answer = call.answer(Duration::from_millis(10));
        driver = lock();
        if let Some(answer) = answer {
            return (driver, answer);
        }
    }
}
