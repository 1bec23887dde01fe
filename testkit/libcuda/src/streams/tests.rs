use super::*;

/// Runs to a point and returns what ran, in order.
fn run(
    streams: &mut Streams<&'static str>,
    point: impl Fn(&Streams<&'static str>) -> Clock,
) -> Vec<&'static str> {
    let (mut ran, point) = (Vec::new(), &point(streams));
    while let Some(started) = streams.start_next(point) {
        ran.push(started.work);
        streams.finish(started.stream);
    }
    assert!(streams.reached(point));
    ran
}

#[test]
fn nothing_runs_that_the_point_does_not_need() {
    let mut streams = Streams::new(None);
    let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
    streams.issue(a, "write");
    let read = streams.issue(b, "read");
    // The read did not wait for the write, so it runs without it.
    assert_eq!(run(&mut streams, |_| read.clone()), ["read"]);
    assert_eq!(run(&mut streams, |s| s.tail(a)), ["write"]);
}

#[test]
fn what_was_issued_last_overtakes() {
    let mut streams = Streams::new(None);
    let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
    for (stream, work) in [(a, "a1"), (b, "b1"), (a, "a2"), (b, "b2")] {
        streams.issue(stream, work);
    }
    assert_eq!(run(&mut streams, |s| s.context_tail(1)), ["b1", "b2", "a1", "a2"]);
}

#[test]
fn an_event_orders_and_is_a_snapshot() {
    let mut streams = Streams::new(None);
    let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
    streams.issue(a, "before");
    let event = streams.tail(a);
    streams.issue(a, "after");
    streams.wait(b, &event);
    let read = streams.issue(b, "read");
    assert_eq!(run(&mut streams, |_| read.clone()), ["before", "read"]);
}

#[test]
fn the_legacy_stream_and_blocking_streams_wait_for_each_other() {
    let mut streams = Streams::new(None);
    let legacy = streams.create(1, Kind::Legacy);
    let (blocking, free) = (streams.create(1, Kind::Blocking), streams.create(1, Kind::NonBlocking));
    let elsewhere = streams.create(2, Kind::Blocking);
    streams.issue(blocking, "blocking 1");
    streams.issue(free, "free");
    streams.issue(elsewhere, "elsewhere");
    streams.issue(legacy, "legacy");
    let last = streams.issue(blocking, "blocking 2");
    assert_eq!(run(&mut streams, |_| last.clone()), ["blocking 1", "legacy", "blocking 2"]);
}

#[test]
fn what_the_host_waited_for_lies_before_all_later_work() {
    let mut streams = Streams::new(None);
    let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
    let write = streams.issue(a, "write");
    assert_eq!(streams.issue(b, "early").of(a), 0);
    run(&mut streams, |_| write.clone());
    streams.host_waited(&write);
    assert_eq!(streams.issue(b, "late").of(a), 1);
}

#[test]
fn an_operation_that_runs_holds_back_only_its_dependents() {
    let mut streams = Streams::new(None);
    let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
    let slow = streams.issue(a, "slow");
    streams.wait(b, &slow);
    let dependent = streams.issue(b, "dependent");
    let started = streams.start_next(&dependent).expect("slow is free to run");
    assert!(streams.start_next(&dependent).is_none());
    streams.finish(started.stream);
    assert_eq!(run(&mut streams, |_| dependent.clone()), ["dependent"]);
}

#[test]
fn a_seed_draws_other_legal_orders() {
    let orders: Vec<Vec<&str>> = (0..20)
        .map(|seed| {
            let mut streams = Streams::new(Some(seed));
            let (a, b) = (streams.create(1, Kind::NonBlocking), streams.create(1, Kind::NonBlocking));
            for (stream, work) in [(a, "a1"), (b, "b1"), (a, "a2"), (b, "b2")] {
                streams.issue(stream, work);
            }
            run(&mut streams, |s| s.context_tail(1))
        })
        .collect();
    let place = |order: &[&str], work| order.iter().position(|&w| w == work).expect("ran");
    assert!(orders.iter().all(|o| place(o, "a1") < place(o, "a2") && place(o, "b1") < place(o, "b2")));
    assert!(orders.iter().any(|order| order != &orders[0]));
}
