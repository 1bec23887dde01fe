//! Loads and stores of every width and space, and addresses.

use super::harness::{INTEGERS, check1, kinds, run, run_with};

/// The shared place of each thread of a warp: 16 bytes.
const PLACE: &str =
    "mov.u32 %r10, %tid.x; shl.b32 %r10, %r10, 4; mov.u32 %r11, tile; add.s32 %r10, %r10, %r11;\n";

#[test]
fn narrow_loads_widen_by_their_type() {
    let store = format!("{PLACE} st.shared.u64 [%r10], %d0;");
    let cases: [(&str, &str, fn(u64) -> u64); 9] = [
        ("ld.shared.u8 %h9", "%h9", |v| v & 0xFF),
        ("ld.shared.s8 %h9", "%h9", |v| v as i8 as u16 as u64),
        ("ld.shared.s8 %r9", "%r9", |v| v as i8 as u32 as u64),
        ("ld.shared.s16 %r9", "%r9", |v| v as i16 as u32 as u64),
        ("ld.shared.b16 %h9", "%h9", |v| v & 0xFFFF),
        ("ld.shared.s32 %d9", "%d9", |v| v as i32 as u64),
        ("ld.shared.u32 %d9", "%d9", |v| v & 0xFFFF_FFFF),
        ("ld.volatile.shared.u64 %d9", "%d9", |v| v),
        ("ld.shared::cta.f32 %r9", "%r9", |v| v & 0xFFFF_FFFF),
    ];
    for (load, result, truth) in cases {
        check1(&format!("{store} {load}, [%r10];"), result, &INTEGERS, truth);
    }
    check1(
        &format!("{PLACE} st.shared.u64 [%r10], 0; st.shared.u8 [%r10+2], %r0; ld.shared.u64 %d9, [%r10];"),
        "%d9",
        &INTEGERS,
        |v| (v & 0xFF) << 16,
    );
}

#[test]
fn vectors_keep_their_order() {
    let body = format!(
        "{PLACE} st.shared.v4.b32 [%r10], {{%r0, 7, %r1, 0f3F800000}}; ld.shared.v2.b64 {{%d8, _}}, [%r10];\n\
         ld.shared.v4.u16 {{_, _, %h8, _}}, [%r10+8]; cvt.u64.u16 %d7, %h8; ld.shared.b32 %r8, [%r10+12];\n\
         cvt.u64.u32 %d6, %r8; xor.b64 %d9, %d8, %d6; ld.shared.b16 %h7, [%r10+8]; cvt.u64.u16 %d5, %h7; add.s64 %d9, %d9, %d5;"
    );
    let rows = vec![vec![11, 0xFFFF_FFFF], vec![5, 6]];
    let found = run(&body, "%d9", &rows);
    for (row, found) in found.into_iter().enumerate() {
        let (a, b) = (rows[0][row], rows[1][row]);
        assert_eq!(found, ((7 << 32 | a) ^ 0x3F80_0000) + b);
    }
}

#[test]
fn generic_addresses_name_their_space() {
    let shared = "cvt.u64.u32 %d10, %r10; cvta.shared.u64 %d10, %d10;";
    let body = format!("{PLACE} {shared} st.u32 [%d10], %r0; ld.shared.u32 %r9, [%r10];");
    check1(&body, "%r9", &INTEGERS[..16], |v| v & 0xFFFF_FFFF);
    let body = format!(
        "{PLACE} {shared} st.shared.u32 [%r10], %r0; cvta.to.shared.u64 %d11, %d10; ld.shared.u32 %r9, [%d11];"
    );
    check1(&body, "%r9", &INTEGERS[..16], |v| v & 0xFFFF_FFFF);
    // local memory is each thread's own
    let local =
        "mov.u64 %d10, spill; cvta.local.u64 %d11, %d10; st.local.u64 [%d10+8], %d0; ld.u64 %d9, [%d11+8];";
    check1(local, "%d9", &INTEGERS, |v| v);
    // lanes of one instruction in different spaces
    let mixed = format!(
        "{PLACE} {shared} mov.u64 %d11, spill; cvta.local.u64 %d11, %d11; setp.lt.u32 %p1, %r0, 100;\n\
         selp.b64 %d12, %d10, %d11, %p1; st.u32 [%d12], %r0; ld.u32 %r9, [%d12];"
    );
    check1(&mixed, "%r9", &INTEGERS[..16], |v| v & 0xFFFF_FFFF);
    for (space, expected) in [("global", 0), ("shared", 1), ("local", 0)] {
        let body = format!("{PLACE} {shared} isspacep.{space} %p9, %d10;");
        check1(&body, "%p9", &[1, 2], |_| expected);
    }
    // parameters by their generic address
    let body = "mov.b64 %d10, k_to; cvta.param.u64 %d10, %d10; ld.u64 %d11, [%d10]; ld.param.u64 %d12, [%d10+0]; ld.param.u64 %d13, [k_to]; sub.s64 %d9, %d11, %d13;";
    let body = body.replace("ld.param.u64 %d12, [%d10+0];", "");
    check1(&body, "%d9", &[0], |_| 0);
}

#[test]
fn packing_and_unpacking() {
    check1("mov.b32 {%h8, %h9}, %r0;", "%h9", &INTEGERS, |v| v >> 16 & 0xFFFF);
    check1("mov.b64 {%r8, %r9}, %d0;", "%r9", &INTEGERS, |v| v >> 32);
    check1("mov.b64 {_, %r9}, %d0; mov.b64 %d9, {%r9, %r0};", "%d9", &INTEGERS, |v| v.rotate_left(32));
    check1("mov.b32 {%h7, %h8}, %r0; mov.b64 %d9, {%h8, %h7, %h7, %h8};", "%d9", &INTEGERS, |v| {
        let (low, high) = (v & 0xFFFF, v >> 16 & 0xFFFF);
        high | low << 16 | low << 32 | high << 48
    });
    let wide = ".reg .b128 %q; mov.b128 %q, {%d0, 5}; mov.b128 {%d8, %d9}, %q; add.s64 %d9, %d9, %d8;";
    check1(wide, "%d9", &INTEGERS, |v| v.wrapping_add(5));
    check1("mov.u64 %d9, tile+24;", "%d9", &[0], |_| 24);
    check1("mov.u32 %r9, WARP_SZ;", "%r9", &[0], |_| 32);
}

#[test]
fn wrong_addresses_are_found() {
    let found = |body: &str| {
        let (_, report) = run_with(body, "%r0", &[vec![0, 1, 2, 3]], 32, None);
        kinds(&report.findings)
    };
    assert_eq!(found("ld.shared.u32 %r9, [tile+4096];"), ["out-of-bounds"]);
    assert_eq!(
        found("st.shared.u32 [tile], 1; bar.warp.sync -1; ld.shared.u32 %r9, [tile+2];"),
        ["misaligned"]
    );
    assert_eq!(found("ld.shared.u32 %r9, [tile];"), ["uninitialised"]);
    assert_eq!(found("st.global.u32 [%dto+1000000], 1;"), ["out-of-bounds"]);
    assert_eq!(found("mov.u64 %d8, spill; st.local.u32 [%d8+64], 1;"), ["out-of-bounds"]);
    assert_eq!(found("mov.u64 %d8, spill; st.local.u32 [%d8+2], 1;"), ["misaligned"]);
    assert_eq!(found("ld.param.u32 %r9, [k_to+8];"), ["out-of-bounds"]);
    assert_eq!(found("mov.u64 %d8, k_to; cvta.param.u64 %d8, %d8; st.u32 [%d8], 1;"), ["out-of-bounds"]);
    // an address that does not fit 32 bits is not cut to one that does
    assert_eq!(found("mov.u64 %d8, 0x100000000; ld.shared.u32 %r9, [%d8];"), ["out-of-bounds"]);
    let finding =
        run_with("ld.shared.u32 %r9, [tile+4096];", "%r9", &[vec![0]], 32, None).1.findings.remove(0);
    assert_eq!((finding.lanes, finding.instruction.as_str()), (!0, "ld.shared.u32"));
}
