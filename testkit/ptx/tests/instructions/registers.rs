//! Registers that hold no value: found where the value gets out, and nowhere else.

use super::harness::{kinds, run_with};

/// Inputs that tell two halves of a warp apart by `%p1`.
const LOW: &str = "mov.u32 %r10, %laneid; setp.lt.u32 %p1, %r10, 16;";

fn found(body: &str, result: &str) -> Vec<String> {
    kinds(&run_with(&format!("{LOW}{body}"), result, &[vec![1, 2, 3, 4]], 32, None).1.findings)
}

#[test]
fn a_value_that_nothing_wrote_is_found_where_it_gets_out() {
    let uses = [
        ("", "%r9"),
        ("add.u32 %r8, %r0, %r9; mov.b32 %r7, %r8;", "%r7"),
        ("mov.b64 %d9, {%r0, %r9};", "%d9"),
        ("@%p1 mov.u32 %r9, 1;", "%r9"),
        ("@%p1 mov.u32 %r9, 1; selp.b32 %r8, %r0, %r9, %p1;", "%r8"),
        ("selp.b32 %r8, %r0, %r0, %p9;", "%r8"),
        ("shfl.sync.idx.b32 %r8, %r9, 0, 31, -1;", "%r8"),
        ("ld.shared.u32 %r8, [%r9];", "%r0"),
        ("@%p9 mov.u32 %r8, 1;", "%r0"),
        ("@%p9 bra out; out:", "%r0"),
        ("vote.sync.any.pred %p8, %p9, -1;", "%r0"),
        ("bar.sync %r9;", "%r0"),
    ];
    for (body, result) in uses {
        assert!(found(body, result).contains(&"uninitialised".to_owned()), "{body}");
    }
    let body = format!("{LOW} @%p1 mov.u32 %r9, 1; st.shared.u32 [tile], %r9;");
    let finding = run_with(&body, "%r0", &[vec![0]], 32, None).1.findings.remove(0);
    assert_eq!(finding.lanes, 0xffff_0000);
    assert!(finding.message.contains("%r9"), "{}", finding.message);
}

#[test]
fn lanes_and_sources_that_are_not_used_may_hold_none() {
    let uses = [
        ("@%p1 mov.u32 %r9, 1; @%p1 add.u32 %r8, %r9, 1; mov.u32 %r7, 0; @%p1 mov.u32 %r7, %r8;", "%r7"),
        ("@%p1 mov.u32 %r9, 1; selp.b32 %r8, %r9, %r0, %p1;", "%r8"),
        ("@!%p1 mov.u32 %r9, 1; selp.b32 %r8, %r0, %r9, %p1;", "%r8"),
        ("mov.u32 %r8, %r9; mov.u32 %r8, 1;", "%r8"),
        ("@%p1 bra low; mov.u32 %r9, 1; bra all; low: mov.u32 %r9, 2; all:", "%r9"),
    ];
    for (body, result) in uses {
        assert_eq!(found(body, result), [""; 0], "{body}");
    }
}
