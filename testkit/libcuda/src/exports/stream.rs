//! Streams and their capture.

use super::pointers::Out;
use crate::capture::Progress;
use crate::run::{lock, query, wait};
use crate::status::{Outcome, Status};
use crate::streams::{Kind, StreamId};
use crate::work::Work;

fn create(stream: Out<usize>, flags: u32) -> Outcome {
    stream.set(lock().stream_create(flags)?.0)
}

super::exports! {
    fn cuStreamCreate(stream: Out<usize>, flags: u32) {
        create(stream, flags)
    }

    fn cuStreamCreateWithPriority(stream: Out<usize>, flags: u32, _priority: i32) {
        create(stream, flags)
    }

    fn cuStreamDestroy_v2(stream: usize) {
        let mut driver = lock();
        let id = StreamId(stream);
        driver.streams.context(id).ok_or(Status::ERROR_INVALID_HANDLE)?;
        driver.streams.close(id);
        Ok(())
    }

    fn cuStreamSynchronize(stream: usize) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        let point = driver.stream_point(stream)?;
        wait(driver, &point).map(drop)
    }

    fn cuStreamQuery(stream: usize) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        let point = driver.stream_point(stream)?;
        query(driver, &point)
    }

    fn cuStreamWaitEvent(stream: usize, event: usize, _flags: u32) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.stream_wait(stream, event)
    }

    fn cuStreamGetFlags(stream: usize, flags: Out<u32>) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        flags.set(u32::from(driver.streams.kind(stream) == Kind::NonBlocking))
    }

    fn cuStreamGetPriority(stream: usize, priority: Out<i32>) {
        lock().stream(stream)?;
        priority.set(0)
    }

    fn cuStreamGetCtx(stream: usize, context: Out<usize>) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        context.set(driver.streams.context(stream).ok_or(Status::ERROR_INVALID_HANDLE)?)
    }

    fn cuStreamGetId(stream: usize, id: Out<u64>) {
        let stream = lock().stream(stream)?;
        id.set(stream.0 as u64)
    }

    fn cuStreamBeginCapture_v2(stream: usize, mode: u32) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.capture_begin(stream, mode)
    }

    fn cuStreamEndCapture(stream: usize, graph: Out<usize>) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        match driver.capture_end(stream) {
            Ok(handle) => graph.set(handle),
            Err(status) => {
                graph.set_optional(0);
                Err(status)
            }
        }
    }

    fn cuStreamIsCapturing(stream: usize, status: Out<u32>) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        status.set(driver.captures.progress(stream) as u32)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: usize, status: Out<u32>, id: Out<u64>, graph: Out<usize>, dependencies: Out<usize>, count: Out<usize>,
    ) {
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        let progress = driver.captures.progress(stream);
        status.set(progress as u32)?;
        if progress == Progress::Active {
            id.set_optional(driver.captures.id(stream).unwrap_or(0));
        }
        graph.set_optional(0);
        dependencies.set_optional(0);
        count.set_optional(0);
        Ok(())
    }

    fn cuLaunchHostFunc(stream: usize, function: usize, argument: usize) {
        if function == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let mut driver = lock();
        let stream = driver.stream(stream)?;
        driver.submit(stream, Work::HostCall { function, argument }).map(drop)
    }
}
