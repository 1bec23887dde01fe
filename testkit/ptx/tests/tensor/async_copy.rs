//! cp.async: what lands, and when.

use ptx::Check;

use crate::harness::{Job, bytes, put};

/// Thread `t`'s 16 bytes: source in `%rd12`, target in `%r20`; what [`READ`] reads is zero before it.
const PLACES: &str = "mul.wide.u32 %rd12, %r1, 16; add.u64 %rd12, %rd12, %rd2;\n\
    shl.b32 %r20, %r1, 4; mov.u32 %r21, s; add.u32 %r20, %r20, %r21;\n\
    mov.b32 %r30, 0; mov.b32 %r31, 0; mov.b32 %r32, 0; mov.b32 %r33, 0;\n";
const COPY: &str = "cp.async.cg.shared.global [%r20], [%rd12], 16;\n";
const WAIT: &str = "cp.async.commit_group; cp.async.wait_group 0;\n";
const READ: &str = "ld.shared.v4.b32 {%r30, %r31, %r32, %r33}, [%r20];\n";

fn job(body: &str) -> Job {
    Job::new(PLACES.to_owned() + body + &put(30, 4)).input(bytes(0..1024))
}

#[test]
fn waited_for_it_is_there() {
    for wait in [WAIT, "cp.async.wait_all;\n"] {
        assert_eq!(job(&format!("{COPY}{wait}{READ}")).clean().words()[..128], Vec::from_iter(0..128));
    }
    let narrow = |size: usize| format!("cp.async.ca.shared.global [%r20], [%rd12], {size};\n");
    let zero = "mov.b32 %r30, 0; st.shared.v4.b32 [%r20], {%r30, %r30, %r30, %r30};\n";
    for size in [4, 8] {
        let words = job(&format!("{zero}{}{WAIT}{READ}", narrow(size))).clean().words();
        for (word, &found) in words[..128].iter().enumerate() {
            assert_eq!(found, if word % 4 * 4 < size { word as u32 } else { 0 });
        }
    }
}

#[test]
fn what_is_not_read_becomes_zero_and_has_no_source() {
    // lanes read 0, 1, .. 16 bytes; those that read none have a wild source
    let body = format!(
        "min.u32 %r22, %r2, 16; setp.eq.u32 %p3, %r22, 0; selp.b64 %rd12, 64, %rd12, %p3;\n\
         cp.async.cg.shared.global [%r20], [%rd12], 16, %r22;\n{WAIT}{READ}"
    );
    let output = job(&body).clean().output;
    let input = bytes(0..128);
    for (byte, &found) in output[..512].iter().enumerate() {
        let read = byte % 16 < (byte / 16).min(16);
        assert_eq!(found, if read { input[byte] } else { 0 }, "byte {byte}");
    }
    let ignored = format!(
        "setp.lt.u32 %p3, %r2, 8; selp.b64 %rd12, 64, %rd12, %p3;\n\
         cp.async.cg.shared.global [%r20], [%rd12], 16, %p3;\n{WAIT}{READ}"
    );
    let words = job(&ignored).clean().words();
    assert!(words[..32].iter().all(|&word| word == 0));
    assert_eq!(words[32..128], Vec::from_iter(32..128));
    job(&format!("mov.b32 %r22, 20; cp.async.cg.shared.global [%r20], [%rd12], 16, %r22;\n{WAIT}"))
        .finds(Check::Trap, "more than 16 source bytes");
}

#[test]
fn hints_and_policies_change_nothing() {
    let body = format!(
        "createpolicy.fractional.L2::evict_last.b64 %rd13, 0f3F800000;\n\
         cp.async.cg.shared::cta.global.L2::cache_hint.L2::128B [%r20], [%rd12], 16, %rd13;\n{WAIT}{READ}"
    );
    assert_eq!(job(&body).clean().words()[..128], Vec::from_iter(0..128));
}

#[test]
fn before_the_wait_the_target_belongs_to_nobody() {
    job(&format!("{COPY}cp.async.commit_group;\n{READ}{WAIT}")).finds(Check::InFlight, "not waited for");
    let write = "st.shared.b32 [%r20], %r1;\n";
    job(&format!("{COPY}{write}{WAIT}")).finds(Check::InFlight, "not waited for");
    // the newest group may stay
    let two =
        format!("{COPY}cp.async.commit_group;\nadd.u32 %r20, %r20, 512;\n{COPY}cp.async.commit_group;\n");
    let rest = format!("sub.u32 %r20, %r20, 512;\n{READ}cp.async.wait_group 0;\n");
    job(&format!("{two}cp.async.wait_group 1;\n{rest}")).clean();
    job(&format!("{two}cp.async.wait_group 2;\n{rest}")).finds(Check::InFlight, "not waited for");
    // a wait for groups does not wait for what no group holds
    job(&format!("{COPY}cp.async.wait_group 0;\n{READ}cp.async.wait_all;\n")).finds(Check::InFlight, "");
}

#[test]
fn the_source_is_read_as_late_as_is_legal() {
    let overwrite = "mov.b32 %r40, 7; st.global.b32 [%rd12], %r40;\n";
    let early =
        job(&format!("{COPY}cp.async.commit_group;\n{overwrite}cp.async.wait_group 0;\n{READ}")).run();
    assert_eq!(early.words()[..4], [7, 1, 2, 3], "the new value came over");
    let late = job(&format!("{COPY}{WAIT}{overwrite}{READ}")).run();
    assert_eq!(late.words()[..4], [0, 1, 2, 3]);
}

#[test]
fn other_lanes_need_a_barrier_too() {
    let other = "xor.b32 %r20, %r20, 16;\n";
    job(&format!("{COPY}{WAIT}{other}{READ}")).finds(Check::SharedRace, "nothing orders");
    job(&format!("{COPY}{WAIT}bar.sync 0;\n{other}{READ}")).clean();
    job(&format!("{COPY}{WAIT}bar.warp.sync -1;\n{other}{READ}")).clean();
}

#[test]
fn wrong_addresses_and_forgotten_copies_are_found() {
    job(&format!("add.u32 %r20, %r20, 4;\n{COPY}{WAIT}")).finds(Check::Misaligned, "shared address");
    job(&format!("add.u64 %rd12, %rd12, 4;\n{COPY}{WAIT}")).finds(Check::Misaligned, "16 bytes");
    job(&format!("add.u64 %rd12, %rd12, 4096;\n{COPY}{WAIT}"))
        .finds(Check::OutOfBounds, "behind the end of in");
    job(COPY).finds(Check::AsyncUse, "nothing waits");
    job(&format!("{COPY}cp.async.commit_group;\n")).finds(Check::AsyncUse, "nothing waits");
}

/// Thread 0 sets up a barrier behind the data; every thread waits at it.
fn with_barrier(arrivals: usize, arrive: &str) -> Job {
    let body = format!(
        "mov.u32 %r40, s; add.u32 %r40, %r40, 8192;\n\
         @%p1 mbarrier.init.shared::cta.b64 [%r40], {arrivals};\nbar.sync 0;\n\
         {COPY}{arrive}\n\
         LOOP: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r40], 0; @!%p3 bra LOOP;\n\
         xor.b32 %r20, %r20, 512;\n{READ}"
    );
    job(&body).threads(64)
}

#[test]
fn copies_arrive_at_an_mbarrier_when_they_have_landed() {
    let read_by_the_other_warp: Vec<_> = (128..256).chain(0..128).collect();
    let counted = with_barrier(64, "cp.async.mbarrier.arrive.noinc.shared.b64 [%r40];");
    assert_eq!(counted.clean().words()[..256], read_by_the_other_warp);
    // without .noinc the phase also waits for the plain arrivals
    let both = "cp.async.mbarrier.arrive.shared.b64 [%r40]; mbarrier.arrive.shared.b64 _, [%r40];";
    assert_eq!(with_barrier(64, both).clean().words()[..256], read_by_the_other_warp);
    let outcome = with_barrier(65, "cp.async.mbarrier.arrive.noinc.shared.b64 [%r40];").run();
    let deadlock =
        outcome.findings.iter().find(|finding| finding.check == Check::Deadlock).expect("one is missing");
    assert!(deadlock.message.contains("waits for 65 of 65 arrivals"), "{}", deadlock.message);
    assert!(deadlock.message.contains("bring 64 arrivals"), "{}", deadlock.message);
}
