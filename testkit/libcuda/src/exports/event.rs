//! Events.

use super::pointers::Out;
use crate::run::{lock, query, wait};

super::exports! {
    fn cuEventCreate(event: Out<usize>, flags: u32) {
        event.set(lock().event_create(flags)?)
    }

    fn cuEventDestroy_v2(event: usize) {
        lock().events.remove(event).map(drop)
    }

    fn cuEventRecord(event: usize, stream: usize) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.event_record(event, stream)
    }

    fn cuEventRecordWithFlags(event: usize, stream: usize, _flags: u32) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.event_record(event, stream)
    }

    fn cuEventSynchronize(event: usize) {
        let mut driver = lock();
        let point = driver.event_point(event)?;
        wait(driver, &point).map(drop)
    }

    fn cuEventQuery(event: usize) {
        let mut driver = lock();
        let point = driver.event_point(event)?;
        query(driver, &point)
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: usize, end: usize) {
        milliseconds.set(lock().event_elapsed(start, end)?)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: usize, end: usize) {
        milliseconds.set(lock().event_elapsed(start, end)?)
    }
}
