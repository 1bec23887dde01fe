use crate::machine::Mask;

use super::*;

const LIVE: Mask = !0;

fn fresh() -> (Shadow, Clocks) {
    (Shadow::new(64, 3), Clocks::new(2))
}

#[test]
fn words_cover_exactly_the_bytes() {
    let all: Vec<_> = words(0, 16).collect();
    assert_eq!(all, [(0, 15), (1, 15), (2, 15), (3, 15)]);
    assert_eq!(words(6, 2).collect::<Vec<_>>(), [(1, 0b1100)]);
    assert_eq!(words(5, 1).collect::<Vec<_>>(), [(1, 0b0010)]);
}

#[test]
fn unwritten_bytes_show_and_written_halves_do_not_hide_them() {
    let (mut shadow, clocks) = fresh();
    assert_eq!(shadow.read(0, 4, 0, 0, &clocks), Some(Fault::Uninitialised));
    assert_eq!(shadow.write(8, 2, 0, 0, false, &clocks), None);
    assert_eq!(shadow.read(8, 2, 0, 0, &clocks), None);
    assert_eq!(shadow.read(8, 4, 0, 0, &clocks), Some(Fault::Uninitialised));
}

#[test]
fn a_read_of_another_lane_needs_a_warp_barrier_and_of_another_warp_a_block_barrier() {
    let (mut shadow, mut clocks) = fresh();
    assert_eq!(shadow.write(0, 4, 0, 1, false, &clocks), None);
    assert_eq!(shadow.read(0, 4, 0, 1, &clocks), None);
    assert!(matches!(shadow.read(0, 4, 0, 2, &clocks), Some(Fault::AfterWrite(s)) if s.lane == 1));
    clocks.sync_lanes(0, LIVE, LIVE);
    assert_eq!(shadow.read(0, 4, 0, 2, &clocks), None);
    assert!(matches!(shadow.read(0, 4, 1, 0, &clocks), Some(Fault::AfterWrite(_))));
    clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
    assert_eq!(shadow.read(0, 4, 1, 0, &clocks), None);
}

#[test]
fn a_write_after_a_read_needs_order_whoever_read_in_between() {
    let (mut shadow, mut clocks) = fresh();
    shadow.write(0, 4, 0, 0, false, &clocks);
    clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
    assert_eq!(shadow.read(0, 4, 1, 5, &clocks), None);
    assert_eq!(shadow.read(0, 4, 0, 0, &clocks), None);
    assert!(matches!(shadow.write(0, 4, 0, 0, false, &clocks), Some(Fault::AfterRead(s)) if s.warp == 1));
    clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
    assert_eq!(shadow.write(0, 4, 0, 0, false, &clocks), None);
}

#[test]
fn lanes_may_write_the_halves_of_a_word_and_copies_of_one_value() {
    let (mut shadow, clocks) = fresh();
    assert_eq!(shadow.write(0, 2, 0, 0, false, &clocks), None);
    assert_eq!(shadow.write(2, 2, 0, 1, false, &clocks), None);
    assert_eq!(shadow.write(4, 4, 0, 0, false, &clocks), None);
    assert_eq!(shadow.write(4, 4, 1, 0, true, &clocks), None);
    assert!(matches!(shadow.write(4, 4, 0, 0, false, &clocks), Some(Fault::AfterWrite(_))));
}

#[test]
fn bytes_in_flight_belong_to_nobody() {
    let (mut shadow, clocks) = fresh();
    assert_eq!(shadow.start(0, 16, 0, 0, &clocks), None);
    assert_eq!(shadow.read(4, 4, 0, 0, &clocks), Some(Fault::InFlight));
    assert_eq!(shadow.write(8, 4, 0, 0, false, &clocks), Some(Fault::InFlight));
    shadow.land(0, 16, 0, 0, &clocks);
    assert_eq!(shadow.read(4, 4, 0, 0, &clocks), None);
    assert!(matches!(shadow.read(4, 4, 0, 1, &clocks), Some(Fault::AfterWrite(_))));
}

#[test]
fn a_group_is_its_words_once_one_of_them_is_touched_alone() {
    let (mut shadow, mut clocks) = fresh();
    assert_eq!(shadow.write(0, 16, 0, 3, false, &clocks), None);
    assert_eq!(shadow.read(4, 4, 0, 3, &clocks), None);
    assert!(shadow.split[0]);
    assert!(matches!(shadow.read(8, 4, 1, 0, &clocks), Some(Fault::AfterWrite(s)) if s.lane == 3));
    clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
    assert_eq!(shadow.write(12, 4, 1, 7, false, &clocks), None);
    assert_eq!(
        shadow.read_row(0, 0, 0, &clocks).map(|fault| matches!(fault, Fault::AfterWrite(s) if s.lane == 7)),
        Some(true)
    );
    clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
    assert_eq!(shadow.write(0, 16, 1, 0, false, &clocks), None);
    assert!(!shadow.split[0], "one write covers all of it");
    assert!(matches!(shadow.write(4, 4, 0, 0, false, &clocks), Some(Fault::AfterWrite(s)) if s.warp == 1));
}
