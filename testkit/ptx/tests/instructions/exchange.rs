//! Exchange between lanes by the definitions, and what happens when lanes are missing.

use super::harness::{kinds, random, run, run_with};

fn lanes(f: impl Fn(usize) -> u64) -> Vec<u64> {
    (0..32).map(f).collect()
}

#[test]
fn shuffles_within_segments() {
    let values = random(32, 8).iter().map(|v| v & 0xFFFF_FFFF).collect::<Vec<_>>();
    for width in [32_usize, 16, 8, 2] {
        let base = |lane: usize| lane / width * width;
        for delta in [0, 1, 3, 7, 16, 31] {
            // the C++ intrinsics describe a segment so
            let clamp = (32 - width) << 8;
            let cases: [(&str, usize, Box<dyn Fn(usize) -> Option<usize>>); 4] = [
                ("idx", clamp | 31, Box::new(move |lane| Some(base(lane) + delta % width))),
                (
                    "up",
                    clamp,
                    Box::new(move |lane| lane.checked_sub(delta).filter(|&from| from >= base(lane))),
                ),
                (
                    "down",
                    clamp | 31,
                    Box::new(move |lane| Some(lane + delta).filter(|&from| from < base(lane) + width)),
                ),
                (
                    "bfly",
                    clamp | 31,
                    Box::new(move |lane| Some(lane ^ delta).filter(|&from| from < base(lane) + width)),
                ),
            ];
            for (mode, c, from) in cases {
                let body = format!(
                    "shfl.sync.{mode}.b32 %r9|%p1, %r0, {delta}, {c}, -1; cvt.u64.u32 %d9, %r9; @%p1 add.s64 %d9, %d9, 0x100000000;"
                );
                let expected = lanes(|lane| from(lane).map_or(values[lane], |from| values[from] + (1 << 32)));
                assert_eq!(run(&body, "%d9", &[&values]), expected, "{mode} {delta} width {width}");
            }
        }
    }
}

#[test]
fn votes_matches_and_reductions() {
    let bits: Vec<u64> = lanes(|lane| u64::from(lane % 3 == 0));
    let ballot = (0..32).filter(|lane| lane % 3 == 0).map(|lane| 1_u64 << lane).sum::<u64>();
    let prepare = "setp.ne.u32 %p1, %r0, 0;";
    assert_eq!(run(&format!("{prepare} vote.sync.ballot.b32 %r9, %p1, -1;"), "%r9", &[&bits]), [ballot; 32]);
    for (kind, expected) in [("any", 1), ("all", 0), ("uni", 0)] {
        let body = format!("{prepare} vote.sync.{kind}.pred %p9, %p1, 0xffffffff;");
        assert_eq!(run(&body, "%p9", &[&bits]), [expected; 32], "{kind}");
    }
    let body = "setp.ne.u32 %p1, %r0, 9; vote.sync.uni.pred %p9, !%p1, -1;";
    assert_eq!(run(body, "%p9", &[&bits]), [1; 32]);

    assert_eq!(
        run("match.any.sync.b32 %r9, %r0, -1;", "%r9", &[&bits]),
        lanes(|lane| if lane % 3 == 0 { ballot } else { !ballot & 0xFFFF_FFFF })
    );
    assert_eq!(
        run(
            "match.all.sync.b64 %r9|%p1, %d0, -1; selp.u32 %r8, 1, 2, %p1; add.s32 %r9, %r9, %r8;",
            "%r9",
            &[bits]
        ),
        [2; 32]
    );
    assert_eq!(run("match.all.sync.b32 %r9|%p9, 5, -1;", "%r9", &[vec![0; 32]]), [0xFFFF_FFFF; 32]);

    let values = random(32, 4).iter().map(|v| v & 0xFFFF_FFFF).collect::<Vec<_>>();
    let fold = |f: fn(u64, u64) -> u64| values.iter().copied().reduce(f).unwrap();
    let signed = |bits: u64| bits as u32 as i32;
    for (body, expected) in [
        ("add.u32", fold(|a, b| (a + b) & 0xFFFF_FFFF)),
        ("min.u32", fold(u64::min)),
        ("max.u32", fold(u64::max)),
        ("min.s32", *values.iter().min_by_key(|&&v| signed(v)).unwrap()),
        ("max.s32", *values.iter().max_by_key(|&&v| signed(v)).unwrap()),
        ("and.b32", fold(|a, b| a & b)),
        ("or.b32", fold(|a, b| a | b)),
        ("xor.b32", fold(|a, b| a ^ b)),
    ] {
        assert_eq!(
            run(&format!("redux.sync.{body} %r9, %r0, -1;"), "%r9", &[&values]),
            [expected; 32],
            "{body}"
        );
    }
}

#[test]
fn parts_of_a_warp_agree_among_themselves() {
    // the halves take different branches and name only themselves
    let body = "mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 16; @%p1 bra LOW;\n\
                redux.sync.add.u32 %r9, %r0, 0xffff0000; bra END;\n\
                LOW: redux.sync.add.u32 %r9, %r0, 0x0000ffff; END: bar.warp.sync -1;";
    let values: Vec<u64> = (0..32).collect();
    assert_eq!(run(body, "%r9", &[&values]), lanes(|lane| if lane < 16 { 120 } else { 376 }));
    // one instruction, two groups
    let body = "mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 16; selp.b32 %r6, 0x0000ffff, 0xffff0000, %p1; redux.sync.add.u32 %r9, %r0, %r6;";
    assert_eq!(run(body, "%r9", &[values]), lanes(|lane| if lane < 16 { 120 } else { 376 }));
    let body = "activemask.b32 %r9; mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 4; @!%p1 bra END; activemask.b32 %r9; END: bar.warp.sync -1;";
    assert_eq!(run(body, "%r9", &[vec![0; 32]]), lanes(|lane| if lane < 4 { 15 } else { 0xFFFF_FFFF }));
    assert_eq!(run("elect.sync _|%p9, -1;", "%p9", &[vec![0; 32]]), lanes(|lane| u64::from(lane == 0)));
    assert_eq!(run("elect.sync %r9|%p9, -1;", "%r9", &[vec![0; 32]]), [0; 32]);
}

#[test]
fn lanes_that_come_late_are_waited_for() {
    // the lower half goes another way before it meets the shuffle
    let body = "mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 16; @%p1 bra LOW; bra JOIN;\n\
                LOW: add.s32 %r0, %r0, 100; bra JOIN;\n\
                JOIN: shfl.sync.bfly.b32 %r9, %r0, 16, 31, -1;";
    let values: Vec<u64> = (0..32).collect();
    assert_eq!(
        run(body, "%r9", &[values]),
        lanes(|lane| if lane < 16 { lane as u64 + 16 } else { lane as u64 - 16 + 100 })
    );
}

#[test]
fn lanes_that_never_come_are_found() {
    let found = |body: &str| {
        let body = format!("mov.u32 %r9, 0; mov.u32 %r5, %laneid; setp.lt.u32 %p1, %r5, 16;\n{body}");
        let (_, report) = run_with(&body, "%r9", &[vec![0; 32]], 32, None);
        (kinds(&report.findings), report.findings.first().map(|finding| finding.lanes))
    };
    assert_eq!(
        found("@%p1 shfl.sync.bfly.b32 %r9, %r0, 1, 31, -1;"),
        (vec!["missing-lanes".into()], Some(0xFFFF))
    );
    assert_eq!(found("@%p1 bar.warp.sync -1;"), (vec!["missing-lanes".into()], Some(0xFFFF)));
    assert_eq!(
        found("vote.sync.ballot.b32 %r9, %p1, 0x7fffffff;"),
        (vec!["not-in-mask".into()], Some(1 << 31))
    );
    // lane 0 reads a lane that is elsewhere, and names only itself
    assert_eq!(
        found("setp.eq.u32 %p2, %r5, 0; @%p2 shfl.sync.idx.b32 %r9, %r0, 5, 31, 1;"),
        (vec!["inactive-source".into()], Some(1))
    );
    assert_eq!(found("@%p1 shfl.sync.bfly.b32 %r9, %r0, 1, 31, 0x0000ffff;"), (vec![], None));
    // lanes that are not in the block are not missed
    let (values, report) = run_with("redux.sync.add.u32 %r9, 1, -1;", "%r9", &[vec![0; 20]], 20, None);
    assert_eq!((values, kinds(&report.findings)), (vec![20; 20], vec![]));
}
