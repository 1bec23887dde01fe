//! Runs inside a study say what is wrong, not how far they are: the study itself says that.

use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// What warns of an order; a study does so once, before its runs.
const SAID_BEFORE: &str = "preceptor::train::plan";

/// Runs `work` with only warnings and errors logged on this thread.
pub(super) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    let loud = tracing::dispatcher::get_default(Clone::clone);
    tracing::subscriber::with_default(Warnings(loud), work)
}

/// Passes warnings and errors on.
struct Warnings(Dispatch);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target() != SAID_BEFORE && self.0.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span);
    }
}
