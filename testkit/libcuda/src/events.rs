//! Events: a point in the work of a stream, and its time if the program asked for times.

use std::time::Instant;

use crate::capture::Place;
use crate::driver::Driver;
use crate::status::{Outcome, Status};
use crate::streams::{Clock, StreamId};
use crate::work::Work;

/// What was recorded last.
#[derive(Clone, Debug)]
pub(crate) enum Recorded {
    Nothing,
    /// A point in the streams' work.
    Point(Clock),
    /// A place in a graph under capture.
    Captured(Place),
}

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) context: usize,
    pub(crate) keeps_time: bool,
    pub(crate) recorded: Recorded,
    /// Counts records, so that a late stamp of an earlier one is recognised.
    pub(crate) records: u64,
    pub(crate) time: Option<Instant>,
}

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIME: u32 = 2;
/// The flags that `cuEventCreate` knows: blocking sync, no timing, interprocess.
const KNOWN_FLAGS: u32 = 7;

impl Driver {
    pub(crate) fn event_create(&mut self, flags: u32) -> Outcome<usize> {
        let context = self.contexts.healthy()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let keeps_time = flags & NO_TIME == 0;
        Ok(self.events.insert(Event {
            context,
            keeps_time,
            recorded: Recorded::Nothing,
            records: 0,
            time: None,
        }))
    }

    pub(crate) fn event_record(&mut self, event: usize, stream: StreamId) -> Outcome {
        let Event { context, keeps_time, records, .. } = *self.events.get(event)?;
        if self.streams.context(stream) != Some(context) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let record = records + 1;
        if keeps_time {
            self.submit(stream, Work::Stamp { event, record })?;
        }
        let recorded = match self.captures.place(stream)? {
            Some(place) => Recorded::Captured(place),
            None => Recorded::Point(self.streams.tail(stream)),
        };
        let event = self.events.get_mut(event)?;
        (event.recorded, event.records, event.time) = (recorded, record, None);
        Ok(())
    }

    /// Everything issued to the stream from now on waits for what the event recorded last.
    pub(crate) fn stream_wait(&mut self, stream: StreamId, event: usize) -> Outcome {
        match self.events.get(event)?.recorded.clone() {
            Recorded::Nothing => Ok(()),
            Recorded::Captured(place) => self.captures.join(stream, &place),
            Recorded::Point(point) => {
                self.captures.refuse_outside_work(stream)?;
                self.streams.wait(stream, &point);
                Ok(())
            }
        }
    }

    /// The point that the event stands for, for a wait or a query of the host.
    pub(crate) fn event_point(&mut self, event: usize) -> Outcome<Clock> {
        self.captures.refuse_unsafe_call()?;
        match &self.events.get(event)?.recorded {
            Recorded::Nothing => Ok(Clock::default()),
            Recorded::Point(point) => Ok(point.clone()),
            Recorded::Captured(_) => Err(Status::ERROR_CAPTURED_EVENT),
        }
    }

    /// Milliseconds from one event to another, by the clock of the stand-in: it says nothing about a device.
    pub(crate) fn event_elapsed(&self, start: usize, end: usize) -> Outcome<f32> {
        let (start, end) = (self.events.get(start)?, self.events.get(end)?);
        for event in [start, end] {
            match &event.recorded {
                Recorded::Point(point) if event.keeps_time => {
                    if !self.streams.reached(point) {
                        return Err(Status::ERROR_NOT_READY);
                    }
                }
                Recorded::Captured(_) => return Err(Status::ERROR_CAPTURED_EVENT),
                Recorded::Point(_) | Recorded::Nothing => return Err(Status::ERROR_INVALID_HANDLE),
            }
        }
        let (Some(start), Some(end)) = (start.time, end.time) else { return Err(Status::ERROR_NOT_READY) };
        let seconds = end.saturating_duration_since(start).as_secs_f32()
            - start.saturating_duration_since(end).as_secs_f32();
        Ok(seconds * 1e3)
    }
}
