//! Branches, loops, barriers, and what stops a kernel.

use super::harness::{check1, kinds, run, run_with};

#[test]
fn loops_end_for_each_lane_alone() {
    // the steps of the Collatz sequence
    let body = "mov.u32 %r9, 0; LOOP: setp.le.u32 %p1, %r0, 1; @%p1 bra END; and.b32 %r5, %r0, 1; setp.eq.u32 %p2, %r5, 1;\n\
                @%p2 mad.lo.u32 %r0, %r0, 3, 1; @!%p2 shr.u32 %r0, %r0, 1; add.u32 %r9, %r9, 1; bra.uni LOOP; END:";
    let values: Vec<u64> = (1..100).collect();
    check1(body, "%r9", &values, |start| {
        let (mut n, mut steps) = (start, 0);
        while n > 1 {
            n = if n % 2 == 1 { 3 * n + 1 } else { n / 2 };
            steps += 1;
        }
        steps
    });
}

#[test]
fn tables_of_branches() {
    let body = "T: .branchtargets A, B, C; mov.u32 %r9, 9; brx.idx %r0, T;\n\
                A: mov.u32 %r9, 10; bra END; B: mov.u32 %r9, 11; bra END; C: mov.u32 %r9, 12; END:";
    check1(body, "%r9", &[0, 1, 2, 2, 1, 0, 0, 1], |index| 10 + index);
    let (_, report) = run_with(body, "%r9", &[vec![3]], 32, None);
    assert_eq!(kinds(&report.findings), ["trap"]);
}

#[test]
fn scopes_have_their_own_labels_and_registers() {
    let block = "{ .reg .pred %P1; .reg .b32 %r9; mov.u32 %r9, 5; LOOP: sub.u32 %r9, %r9, 1; setp.ne.u32 %P1, %r9, 0; @%P1 bra LOOP; bra DONE; DONE: }";
    check1(&format!("mov.u32 %r9, %r0; {block} {block}"), "%r9", &[3, 4], |value| value);
}

#[test]
fn barriers_reduce_over_the_block() {
    let values: Vec<u64> = (0..128).collect();
    let with = |body: &str, result: &str| run_with(body, result, &[&values], 128, None);
    let (found, report) = with("setp.lt.u32 %p1, %r0, 50; bar.red.popc.u32 %r9, 0, %p1;", "%r9");
    assert_eq!((found, kinds(&report.findings)), (vec![50; 128], vec![]));
    for (kind, limit, expected) in [("and", 50, 0), ("or", 50, 1), ("and", 128, 1), ("or", 0, 0)] {
        let body =
            format!("setp.ge.u32 %p1, %r0, {limit}; barrier.cta.red.{kind}.aligned.pred %p9, 2, 128, !%p1;");
        let (found, report) = with(&body.replace(".aligned.pred", ".pred"), "%p9");
        assert_eq!((found, kinds(&report.findings)), (vec![expected; 128], vec![]), "{kind} {limit}");
    }
}

#[test]
fn named_barriers_order_producers_and_consumers() {
    // warp 0 writes and arrives, warp 1 waits and reads; the others take no part
    let body = "mov.u32 %r5, %warpid; mov.u32 %r6, %laneid; shl.b32 %r7, %r6, 2; mov.u32 %r9, 0;\n\
                setp.eq.u32 %p1, %r5, 0; setp.eq.u32 %p2, %r5, 1; @%p1 bra PRODUCE; @%p2 bra CONSUME; bra END;\n\
                PRODUCE: st.shared.u32 [%r7], %r6; bar.arrive 3, 64; bra END;\n\
                CONSUME: bar.sync 3, 64; ld.shared.u32 %r9, [%r7]; END:";
    let (found, report) = run_with(body, "%r9", &[vec![0; 128]], 128, None);
    assert_eq!(kinds(&report.findings), Vec::<String>::new());
    let expected: Vec<u64> = (0..128).map(|thread| if thread / 32 == 1 { thread % 32 } else { 0 }).collect();
    assert_eq!(found, expected);
    // without the barrier it is a race
    let race = body.replace("bar.sync 3, 64;", "").replace("bar.arrive 3, 64;", "");
    let (_, report) = run_with(&race, "%r9", &[vec![0; 128]], 128, None);
    assert_eq!(kinds(&report.findings), ["shared-race"]);
}

#[test]
fn hints_do_nothing() {
    let body = "membar.gl; fence.acq_rel.gpu; fence.sc.sys; nanosleep.u32 100; griddepcontrol.wait; setmaxnreg.dec.sync.aligned.u32 40;\n\
                createpolicy.fractional.L2::evict_last.b64 %d8; prefetch.global.L2 [%dto];\n\
                ld.global.L1::evict_last.L2::cache_hint.b64 %d9, [%dfrom], %d8;";
    assert_eq!(run(body, "%d9", &[vec![3, 4]]), [3, 4]);
}

#[test]
fn trap_and_divergent_barriers_are_found() {
    let found = |body: &str| kinds(&run_with(body, "%r0", &[vec![0; 32]], 32, None).1.findings);
    assert_eq!(found("trap;"), ["trap"]);
    assert_eq!(
        found("mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 9; @%p1 bar.sync 0;"),
        ["divergent-barrier"]
    );
    assert_eq!(found("bar.sync 16;"), ["trap"]);
}
