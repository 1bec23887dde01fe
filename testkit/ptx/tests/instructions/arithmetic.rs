//! Integer arithmetic against i128.

use super::harness::{INTEGERS, check1, check2, check3, pairs, triples};

/// Integer types: name, bits, sign, register letter.
const TYPES: [(&str, u32, bool, &str); 6] = [
    ("u16", 16, false, "h"),
    ("s16", 16, true, "h"),
    ("u32", 32, false, "r"),
    ("s32", 32, true, "r"),
    ("u64", 64, false, "d"),
    ("s64", 64, true, "d"),
];

fn value(bits: u64, width: u32, signed: bool) -> i128 {
    let mask = u64::MAX >> (64 - width);
    let low = bits & mask;
    if signed && low >> (width - 1) & 1 == 1 { i128::from(low) - (1 << width) } else { i128::from(low) }
}

fn cut(value: i128, width: u32) -> u64 {
    value as u64 & (u64::MAX >> (64 - width))
}

#[test]
fn two_sources_of_every_type() {
    type Truth = fn(i128, i128) -> i128;
    let operations: [(&str, Truth); 9] = [
        ("add", |a, b| a + b),
        ("sub", |a, b| a - b),
        ("mul.lo", |a, b| a.wrapping_mul(b)),
        ("min", i128::min),
        ("max", i128::max),
        ("div", |a, b| if b == 0 { -1 } else { a / b }),
        ("rem", |a, b| if b == 0 { -1 } else { a % b }),
        ("mul.hi", i128::wrapping_mul),
        ("mul.wide", i128::wrapping_mul),
    ];
    let inputs = pairs(&INTEGERS, &INTEGERS);
    for (name, width, signed, letter) in TYPES {
        for (operation, truth) in operations {
            let (result, shift, kept) = match operation {
                "mul.hi" => (letter, width, width),
                "mul.wide" if width == 64 => continue,
                "mul.wide" => (if width == 16 { "r" } else { "d" }, 0, 2 * width),
                _ => (letter, 0, width),
            };
            let body = format!("{operation}.{name} %{result}9, %{letter}0, %{letter}1;");
            check2(&body, &format!("%{result}9"), &inputs, |a, b| {
                cut(truth(value(a, width, signed), value(b, width, signed)) >> shift, kept)
            });
        }
    }
}

#[test]
fn unsigned_products_of_64_bits_have_a_right_upper_half() {
    let inputs = pairs(&INTEGERS, &INTEGERS);
    let truth = |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64;
    check2("mul.hi.u64 %d9, %d0, %d1;", "%d9", &inputs, truth);
}

#[test]
fn multiply_add_of_every_type() {
    let inputs = triples(&INTEGERS, &INTEGERS[4..], &INTEGERS[10..]);
    for (name, width, signed, letter) in TYPES {
        let read = |bits: u64| value(bits, width, signed);
        let product = |a: u64, b: u64| read(a).wrapping_mul(read(b));
        let body = format!("mad.lo.{name} %{letter}9, %{letter}0, %{letter}1, %{letter}2;");
        check3(&body, &format!("%{letter}9"), &inputs, |a, b, c| {
            cut(product(a, b).wrapping_add(read(c)), width)
        });
        if width == 32 {
            let body = format!("mad.wide.{name} %d9, %r0, %r1, %d2;");
            check3(&body, "%d9", &inputs, |a, b, c| (product(a, b) as u64).wrapping_add(c));
            let body = format!("mad.hi.{name} %r9, %r0, %r1, %r2;");
            check3(&body, "%r9", &inputs, |a, b, c| cut((product(a, b) >> 32) + read(c), 32));
        }
        let body = format!("sad.{name} %{letter}9, %{letter}0, %{letter}1, %{letter}2;");
        check3(&body, &format!("%{letter}9"), &inputs, |a, b, c| {
            cut(read(c) + (read(a) - read(b)).abs(), width)
        });
    }
    check3("mad.wide.u16 %r9, %h0, %h1, %r2;", "%r9", &inputs, |a, b, c| {
        ((a & 0xFFFF) * (b & 0xFFFF)).wrapping_add(c) & 0xFFFF_FFFF
    });
}

#[test]
fn signs_and_saturation() {
    for (name, width, signed, letter) in TYPES.into_iter().filter(|ty| ty.2) {
        let read = |bits: u64| value(bits, width, signed);
        let result = format!("%{letter}9");
        check1(&format!("neg.{name} {result}, %{letter}0;"), &result, &INTEGERS, |a| cut(-read(a), width));
        check1(&format!("abs.{name} {result}, %{letter}0;"), &result, &INTEGERS, |a| {
            cut(read(a).abs(), width)
        });
    }
    let inputs = pairs(&INTEGERS, &INTEGERS);
    let clamp = |value: i128| cut(value.clamp(i128::from(i32::MIN), i128::from(i32::MAX)), 32);
    let read = |bits| value(bits, 32, true);
    check2("add.sat.s32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| clamp(read(a) + read(b)));
    check2("sub.sat.s32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| clamp(read(a) - read(b)));
    check2("max.relu.s32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| cut(read(a).max(read(b)).max(0), 32));
}

#[test]
fn negative_immediates_fit_their_type() {
    check1("add.s16 %h9, %h0, -1;", "%h9", &INTEGERS, |a| a.wrapping_sub(1) & 0xFFFF);
    check1("add.s32 %r9, %r0, -5;", "%r9", &INTEGERS, |a| a.wrapping_sub(5) & 0xFFFF_FFFF);
    check1("add.s64 %d9, %d0, -7;", "%d9", &INTEGERS, |a| a.wrapping_sub(7));
    check1("mov.u16 %h9, -2;", "%h9", &[0], |_| 0xFFFE);
}
