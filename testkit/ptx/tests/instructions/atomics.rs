//! Atomics: all lanes on one word, in both memories, against a loop.

use super::harness::{pairs, run, run_with};

/// Lanes that update one word.
const LANES: u64 = 32;

/// Runs `name` with the values 0..32 on a word that starts as `start`; returns the last word and the old
/// values that the lanes got.
fn contend(name: &str, ty: &str, bits: u32, space: &str, start: u64, operand: &str) -> (u64, Vec<u64>) {
    let (letter, ty) = (if bits == 64 { "d" } else { "r" }, format!("{name}.{ty}"));
    let address = if space == "shared" { "[tile]".to_owned() } else { "[%dfrom]".to_owned() };
    let prepare = match space {
        "shared" => format!("mov.b64 %d8, {start}; st.shared.b64 [tile], %d8;"),
        _ => format!("mov.b64 %d8, {start}; st.global.b64 [%dfrom], %d8;"),
    };
    let body = |result: &str| {
        format!(
            "ld.param.u64 %dfrom, [k_from]; mov.u32 %r0, %tid.x; cvt.u64.u32 %d0, %r0; cvt.rn.f32.u32 %r1, %r0; cvt.rn.f64.u32 %d1, %r0;\n\
             setp.ne.u32 %p1, %r0, 0; @%p1 bra L1; {prepare} L1: bar.sync 0;\n\
             atom.{space}.{ty} %{letter}9, {address}, {operand}; bar.sync 0; {result}"
        )
    };
    let inputs = [vec![0; LANES as usize]];
    let olds = run(&body(""), &format!("%{letter}9"), &inputs);
    let last = run(&body(&format!("ld.{space}.b64 %d9, {address};")), "%d9", &inputs);
    (last[0] & (u64::MAX >> (64 - bits)), olds)
}

#[test]
fn integers() {
    type Truth = fn(u64, u64) -> u64;
    let operations: [(&str, &str, u64, Truth); 14] = [
        ("add", "u32", 5, |a, b| a + b),
        ("add", "s32", 5, |a, b| a + b),
        ("inc", "u32", 29, |a, b| if a >= b { 0 } else { a + 1 }),
        ("dec", "u32", 3, |a, b| if a == 0 || a > b { b } else { a - 1 }),
        ("min", "u32", 9, u64::min),
        ("max", "s32", 9, u64::max),
        ("and", "b32", 0xFF, |a, b| a & b),
        ("or", "b32", 0x100, |a, b| a | b),
        ("xor", "b32", 0x1F0, |a, b| a ^ b),
        ("exch", "b32", 77, |_, b| b),
        ("add", "u64", 1 << 40, |a, b| a + b),
        ("max", "u64", 4, u64::max),
        ("min", "s64", 4, u64::min),
        ("exch", "b64", 1 << 50, |_, b| b),
    ];
    for space in ["shared", "global"] {
        for (name, ty, start, truth) in operations {
            let bits = if ty.ends_with("64") { 64 } else { 32 };
            let operand = if bits == 64 { "%d0" } else { "%r0" };
            let (last, olds) = contend(name, ty, bits, space, start, operand);
            let mut word = start;
            for lane in 0..LANES {
                assert_eq!(olds[lane as usize], word, "{space} {name}.{ty} lane {lane}");
                word = truth(word, lane);
            }
            assert_eq!(last, word, "{space} {name}.{ty}");
        }
    }
}

#[test]
fn counters_wrap_at_their_limit() {
    let (last, olds) = contend("inc", "u32", 32, "shared", 0, "5");
    assert_eq!((last, olds), (32 % 6, (0..32).map(|lane| lane % 6).collect()));
    let (last, olds) = contend("dec", "u32", 32, "shared", 5, "5");
    assert_eq!((last, olds), (5 - 32 % 6, (0..32).map(|lane| 5 - lane % 6).collect()));
}

#[test]
fn floats() {
    let single = |value: f32| u64::from(value.to_bits());
    for space in ["shared", "global"] {
        assert_eq!(contend("add", "f32", 32, space, single(0.5), "%r1").0, single(496.5));
        assert_eq!(contend("add", "f64", 64, space, 0.5_f64.to_bits(), "%d1").0, 496.5_f64.to_bits());
        // a pair of 1.0 and 2.0, 32 times
        assert_eq!(contend("add.noftz", "f16x2", 32, space, 0, "0x40003C00").0, 0x5400_5000);
        assert_eq!(contend("add.noftz", "bf16x2", 32, space, 0, "0x40003F80").0, 0x4280_4200);
    }
}

#[test]
fn compare_and_swap_makes_a_lock() {
    // each lane takes the word from its own number to the next
    let (last, olds) = contend("cas", "b32", 32, "shared", 0, "%r0, 0");
    assert_eq!((last, olds), (0, vec![0; 32])); // zero stays: only lane 0 finds its number
    let body = "mov.u32 %r0, %tid.x; ld.param.u64 %d5, [k_from]; mov.u32 %r5, 0; st.global.u32 [%d5], %r5; bar.sync 0;\n\
                add.u32 %r2, %r0, 1; atom.acq_rel.gpu.global.cas.b32 %r9, [%d5], %r0, %r2;";
    assert_eq!(run(body, "%r9", &[vec![0; 32]]), (0..32).collect::<Vec<_>>());
    // sixteen bits, in the upper half of a word
    let body =
        "ld.param.u64 %d5, [k_from]; atom.global.cas.b16 %h9, [%d5+2], 0, 9; ld.global.u16 %h9, [%d5+2];";
    assert_eq!(run(body, "%h9", &[vec![0]]), [9]);
}

#[test]
fn reductions_and_vectors() {
    let body = "ld.param.u64 %d5, [k_from]; mov.b32 %r5, 0f3F800000; red.relaxed.gpu.global.add.f32 [%d5], %r5;\n\
                red.global.add.v2.f32 [%d5+8], {%r5, 2.0}; bar.sync 0; ld.global.v2.b32 {%r6, %r7}, [%d5+8];\n\
                ld.global.b32 %r8, [%d5]; add.f32 %r9, %r6, %r7; add.f32 %r9, %r9, %r8;";
    // 32 * 1 + 32 * 1 + 32 * 2
    assert_eq!(run(body, "%r9", &[vec![0; 32]]), [u64::from(128.0_f32.to_bits()); 32]);
    let (_, report) = run_with("red.shared.add.u32 [tile+2], 1;", "%r0", &pairs(&[1], &[1]), 32, None);
    assert_eq!(report.findings[0].check.to_string(), "misaligned");
}
