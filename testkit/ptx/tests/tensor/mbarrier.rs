//! mbarrier: phases, order, misuse.

use ptx::Check;

use crate::harness::{Job, put};

/// `%r40`: a barrier behind the data, set up by thread 0 for `count` arrivals.
fn init(count: u32) -> String {
    format!(
        "mov.u32 %r40, s; add.u32 %r40, %r40, 8192;\n\
         @%p1 mbarrier.init.shared::cta.b64 [%r40], {count};\nbar.sync 0;\n"
    )
}

fn wait(parity: &str) -> String {
    format!(
        "{{ LOOP: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r40], {parity};\n\
         @%p3 bra DONE; bra LOOP; DONE: }}\n"
    )
}

const ARRIVE: &str = "mbarrier.arrive.shared::cta.b64 _, [%r40];\n";

/// Warp 0 produces a word a lane, warp 1 consumes it, eight times, through one buffer and two barriers.
#[test]
fn producers_and_consumers_take_turns() {
    let body = "mov.u32 %r40, s; add.u32 %r40, %r40, 8192; add.u32 %r41, %r40, 8;\n\
        @%p1 mbarrier.init.shared::cta.b64 [%r40], 32;\n\
        @%p1 mbarrier.init.shared::cta.b64 [%r41], 32; bar.sync 0;\n\
        shl.b32 %r20, %r2, 2; mov.u32 %r21, s; add.u32 %r20, %r20, %r21;\n\
        mov.b32 %r22, 0; mov.b32 %r30, 0; setp.ge.u32 %p2, %r1, 32; @%p2 bra CONSUME;\n\
        PRODUCE: and.b32 %r23, %r22, 1; xor.b32 %r24, %r23, 1;\n\
        WAIT_EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r41], %r24; @!%p3 bra WAIT_EMPTY;\n\
        add.u32 %r25, %r22, %r2; st.shared.b32 [%r20], %r25;\n\
        mbarrier.arrive.release.cta.shared::cta.b64 _, [%r40];\n\
        add.u32 %r22, %r22, 1; setp.lt.u32 %p4, %r22, 8; @%p4 bra PRODUCE; bra END;\n\
        CONSUME: and.b32 %r23, %r22, 1;\n\
        WAIT_FULL: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p3, [%r40], %r23, 100;\n\
        @!%p3 bra WAIT_FULL;\n\
        xor.b32 %r26, %r20, 4; ld.shared.b32 %r25, [%r26]; mad.lo.u32 %r30, %r30, 3, %r25;\n\
        mbarrier.arrive.shared::cta.b64 _, [%r41];\n\
        add.u32 %r22, %r22, 1; setp.lt.u32 %p4, %r22, 8; @%p4 bra CONSUME;\n\
        END:\n";
    let words = Job::new(body.to_owned() + &put(30, 1)).threads(64).clean().words();
    for lane in 0..32_u32 {
        let expected = (0..8).fold(0, |sum, turn| sum * 3 + turn + (lane ^ 1));
        assert_eq!(words[32 + lane as usize], expected, "lane {lane}");
    }
}

#[test]
fn a_state_names_its_phase() {
    let body = init(32)
        + "mbarrier.arrive.shared::cta.b64 %rd20, [%r40];\n\
           LOOP: mbarrier.test_wait.shared::cta.b64 %p3, [%r40], %rd20; @!%p3 bra LOOP;\n\
           mov.b32 %r30, 1;\n";
    assert_eq!(Job::new(body + &put(30, 1)).clean().words()[..32], [1; 32]);
}

#[test]
fn a_wait_without_arrivals_is_a_deadlock_that_says_what_is_missing() {
    let body = init(33) + ARRIVE + &wait("0");
    let outcome = Job::new(body).run();
    let found = outcome.findings.iter().find(|finding| finding.check == Check::Deadlock).expect("a deadlock");
    assert!(found.message.contains("waits for 1 of 33 arrivals and 0 bytes"), "{}", found.message);
}

#[test]
fn only_the_wait_orders() {
    let clear = "mov.u32 %r20, s; @%p1 st.shared.b32 [%r20], 0;\n";
    let produce = "@%p1 st.shared.b32 [%r20], 7;\n".to_owned() + ARRIVE;
    let read = "ld.shared.b32 %r30, [%r20];\n";
    let run = |count: u32, produce: &str, wait: &str| {
        Job::new(clear.to_owned() + &init(count) + produce + wait + read).threads(64)
    };
    run(64, &produce, &wait("0")).clean();
    run(64, &produce, "").finds(Check::SharedRace, "nothing orders");
    // the phase before the first counts as over: no order comes from it
    run(65, &produce, &wait("1")).finds(Check::SharedRace, "nothing orders");
    // a relaxed arrival releases nothing, a relaxed wait acquires nothing
    let relaxed = produce.replace("arrive", "arrive.relaxed.cta");
    run(64, &relaxed, &wait("0")).finds(Check::SharedRace, "nothing orders");
    let relaxed = wait("0").replace("parity", "parity.relaxed.cta");
    run(64, &produce, &relaxed).finds(Check::SharedRace, "nothing orders");
}

#[test]
fn misuse_is_found() {
    let none = "mov.u32 %r40, s; add.u32 %r40, %r40, 8192;\n";
    let find = |body: String, part: &str| Job::new(body).threads(64).finds(Check::Mbarrier, part);
    find(none.to_owned() + "@%p1 " + ARRIVE, "no initialised mbarrier at shared address 8192");
    find(
        init(48) + "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r40], 49;\n",
        "49 arrivals in phase 0, which waits for 48",
    );
    find(init(0), "a count of 0");
    find(init(64) + "@%p1 mbarrier.init.shared::cta.b64 [%r40], 64;\n", "mbarrier.inval must come before");
    find(init(64) + "@%p1 mbarrier.inval.shared::cta.b64 [%r40];\nbar.sync 0;\n" + ARRIVE, "no initialised");
    find(init(64) + "ld.shared.b64 %rd20, [%r40];\n", "is a live mbarrier");
    find(init(64) + "@%p1 st.shared.b32 [%r40], 1;\n", "is a live mbarrier");
    find(
        init(64) + "@%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r40], 2000000;\n",
        "tx-count of 2000000",
    );
    find(
        init(1) + "@%p1 mbarrier.arrive.noComplete.shared.b64 %rd20, [%r40], 1;\n",
        ".noComplete ends the phase",
    );
}

#[test]
fn an_init_needs_order_before_the_first_use() {
    let body = init(64).replace("bar.sync 0;", "bar.warp.sync -1;");
    Job::new(body + ARRIVE)
        .threads(64)
        .run()
        .findings
        .iter()
        .find(|f| f.check == Check::SharedRace)
        .expect("unordered");
    let inval = "@%p1 mbarrier.inval.shared::cta.b64 [%r40];\n@%p1 st.shared.b32 [%r40], 1;\n";
    Job::new(init(64) + inval).threads(64).clean();
}
