//! mma.sync: fragments written out from the ISA's tables, results against exact sums.

use crate::harness::{Job, bytes, numbers};

/// Where element `i` of a fragment lies: (row, column), for `g = lane / 4` and `t = lane % 4`.
type Table = fn(i: usize, g: usize, t: usize) -> (usize, usize);

struct Form {
    name: &'static str,
    k: usize,
    /// Bits of an element of a and b, and how a number becomes one.
    bits: usize,
    encode: fn(f32) -> u32,
    a: Table,
    b: Table,
    half_sums: bool,
    integer: bool,
}

const C: Table = |i, g, t| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1));

const A16: Table = |i, g, t| {
    let row = if i < 2 || (4..6).contains(&i) { g } else { g + 8 };
    (row, t * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
};
const B16: Table = |i, g, t| (t * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, g);
const A32: Table = |i, g, t| (if i % 2 == 0 { g } else { g + 8 }, if i < 2 { t } else { t + 4 });
const B32: Table = |i, g, t| (if i == 0 { t } else { t + 4 }, g);
const A8: Table = |i, g, t| {
    let row = if i < 4 || (8..12).contains(&i) { g } else { g + 8 };
    (row, t * 4 + (i & 3) + if i >= 8 { 16 } else { 0 })
};
const B8: Table = |i, g, t| (t * 4 + (i & 3) + if i >= 4 { 16 } else { 0 }, g);

fn bf16(value: f32) -> u32 {
    value.to_bits() >> 16
}

fn f16(value: f32) -> u32 {
    u32::from(half::f16::from_f32(value).to_bits())
}

fn fragment(
    bits: usize,
    count: usize,
    lane: usize,
    table: Table,
    value: impl Fn(usize, usize) -> u32,
) -> Vec<u32> {
    let each = 32 / bits;
    let word = |q: usize| {
        (0..each).fold(0, |word, part| {
            let (row, column) = table(q * each + part, lane / 4, lane % 4);
            word | value(row, column) << (part * bits)
        })
    };
    (0..count).map(word).collect()
}

fn check(form: &Form) {
    let Form { name, k, bits, encode, .. } = *form;
    let (a, b, c) = (numbers(16 * k, 1), numbers(8 * k, 2), numbers(128, 3));
    let (blocks, sums) = (k * bits / 128, if form.half_sums { 2 } else { 4 });
    let sum_bits = if form.half_sums { 16 } else { 32 };
    let sum = |value: f32| match (form.integer, form.half_sums) {
        (true, _) => value as i32 as u32,
        (false, true) => f16(value),
        (false, false) => value.to_bits(),
    };
    let mask = |value: u32| if bits == 8 { value & 0xff } else { value };
    let input = (0..32).flat_map(|lane| {
        let a = fragment(bits, 2 * blocks, lane, form.a, |row, column| mask(encode(a[row * k + column])));
        let b = fragment(bits, blocks, lane, form.b, |row, column| mask(encode(b[row * 8 + column])));
        let c = fragment(sum_bits, sums, lane, C, |row, column| sum(c[row * 8 + column]));
        [a, b, c].concat()
    });
    let words = 3 * blocks + sums;
    let list = |first: usize, count: usize| {
        let names: Vec<_> = (first..first + count).map(|register| format!("%r{register}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let loads: String =
        (0..words).map(|word| format!("ld.global.b32 %r{}, [%rd10+{}];\n", 20 + word, 4 * word)).collect();
    let body = format!(
        "mul.wide.u32 %rd10, %r1, {}; add.u64 %rd10, %rd10, %rd2;\n{loads}\
         mma.sync.aligned.{name} {}, {}, {}, {};\n",
        4 * words,
        list(60, sums),
        list(20, 2 * blocks),
        list(20 + 2 * blocks, blocks),
        list(20 + 3 * blocks, sums)
    );
    let job = Job::new(body + &crate::harness::put(60, sums)).input(bytes(input));
    let found = job.clean().words();
    let exact = |row: usize, column: usize| {
        c[row * 8 + column] + (0..k).map(|i| a[row * k + i] * b[i * 8 + column]).sum::<f32>()
    };
    for lane in 0..32 {
        let expected = fragment(sum_bits, sums, lane, C, |row, column| sum(exact(row, column)));
        assert_eq!(found[lane * sums..][..sums], expected, "{name}, lane {lane}");
    }
}

/// Small integers: every sum is exact in f32 and f16, so any order of additions gives the same bits.
#[test]
fn every_shape_and_type_multiplies() {
    let plain = Form {
        name: "m16n8k16.row.col.f32.bf16.bf16.f32",
        k: 16,
        bits: 16,
        encode: bf16,
        a: A16,
        b: B16,
        half_sums: false,
        integer: false,
    };
    let k8: Table = |i, g, t| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1));
    check(&plain);
    check(&Form { name: "m16n8k8.row.col.f32.bf16.bf16.f32", k: 8, a: k8, ..plain });
    check(&Form { name: "m16n8k16.row.col.f32.f16.f16.f32", encode: f16, ..plain });
    check(&Form { name: "m16n8k8.row.col.f32.f16.f16.f32", k: 8, a: k8, encode: f16, ..plain });
    check(&Form { name: "m16n8k16.row.col.f16.f16.f16.f16", encode: f16, half_sums: true, ..plain });
    check(&Form {
        name: "m16n8k8.row.col.f16.f16.f16.f16",
        k: 8,
        a: k8,
        encode: f16,
        half_sums: true,
        ..plain
    });
    let tf32 = Form { bits: 32, encode: f32::to_bits, a: A32, b: B32, ..plain };
    check(&Form { name: "m16n8k8.row.col.f32.tf32.tf32.f32", k: 8, ..tf32 });
    check(&Form { name: "m16n8k4.row.col.f32.tf32.tf32.f32", k: 4, ..tf32 });
    let s8 = Form { bits: 8, encode: |value| value as i32 as u32, a: A8, b: B8, integer: true, ..plain };
    check(&Form { name: "m16n8k32.row.col.s32.s8.s8.s32", k: 32, ..s8 });
    check(&Form {
        name: "m16n8k16.row.col.s32.s8.s8.s32",
        a: |i, g, t| (if i < 4 { g } else { g + 8 }, t * 4 + (i & 3)),
        ..s8
    });
}

#[test]
fn other_forms_are_refused_by_name() {
    for form in [
        "m8n8k4.row.col.f32.f16.f16.f32",
        "m16n8k16.row.row.f32.bf16.bf16.f32",
        "m16n8k64.row.col.s32.s4.s4.s32",
    ] {
        let text = format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n.visible .entry k() {{ .reg .b32 %r<9>;\n\
             mma.sync.aligned.{form} {{%r0,%r1,%r2,%r3}},\n\
             {{%r0,%r1,%r2,%r3}}, {{%r0,%r1}}, {{%r0,%r1,%r2,%r3}};\nret; }}\n"
        );
        let error = ptx::Module::parse(&text).err().expect("refused");
        assert!(error.to_string().contains("mma.sync"), "{error}");
    }
}
