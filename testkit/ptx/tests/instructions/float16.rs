//! f16 and bf16 arithmetic against the `half` crate and exact integers.

use half::{bf16, f16};

use super::harness::{check1, check2, check3, pairs, random, round_integer, run};

fn interesting() -> Vec<u64> {
    let fixed = [
        0_u64, 1, 0x3FF, 0x400, 0x3C00, 0x3C01, 0x3555, 0x7BFF, 0x7C00, 0x7E00, 0x3F80, 0x4049, 0x7F80,
        0x7F7F,
    ];
    let signed = fixed.into_iter().flat_map(|bits| [bits, bits | 0x8000]);
    signed.chain(random(60, 11).into_iter().map(|bits| bits & 0xFFFF)).collect()
}

/// The bits of one operation in f64, rounded to nearest once (f64 is wide enough for all of them).
fn round_f16(value: f64) -> u64 {
    // through f32 with its last bit sticky: `half` rounds an f64 by its upper half only
    let nearest = value as f32;
    let exact = f64::from(nearest) == value || !value.is_finite();
    let low = if f64::from(nearest).abs() > value.abs() {
        nearest.to_bits().wrapping_sub(1)
    } else {
        nearest.to_bits()
    };
    let sticky = f32::from_bits(if exact { nearest.to_bits() } else { low | 1 });
    if value.is_nan() { 0x7FFF } else { u64::from(f16::from_f32(sticky).to_bits()) }
}

fn round_bf16(value: f64) -> u64 {
    let nearest = value as f32;
    let exact = f64::from(nearest) == value || !value.is_finite();
    let low = if f64::from(nearest).abs() > value.abs() {
        nearest.to_bits().wrapping_sub(1)
    } else {
        nearest.to_bits()
    };
    let sticky = f32::from_bits(if exact { nearest.to_bits() } else { low | 1 });
    if value.is_nan() { 0x7FFF } else { u64::from(bf16::from_f32(sticky).to_bits()) }
}

/// A format: its name, its exact value as f64, its rounding.
type Format = (&'static str, fn(u64) -> f64, fn(f64) -> u64);

const FORMATS: [Format; 2] = [
    ("f16", |bits| f16::from_bits(bits as u16).to_f64(), round_f16),
    ("bf16", |bits| bf16::from_bits(bits as u16).to_f64(), round_bf16),
];

#[test]
fn one_operation_is_rounded_once() {
    let inputs = pairs(&interesting(), &interesting());
    let operations: [(&str, fn(f64, f64) -> f64); 3] =
        [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b)];
    for (ty, exact, round) in FORMATS {
        for (name, truth) in operations {
            let body = format!("{name}.rn.{ty} %h9, %h0, %h1;");
            check2(&body, "%h9", &inputs, |a, b| round(truth(exact(a), exact(b))));
            // the other half computes with its own operands
            let body =
                format!("mov.b32 %r5, {{%h0, %h1}}; mov.b32 %r6, {{%h1, %h1}}; {name}.{ty}x2 %r9, %r5, %r6;");
            check2(&body, "%r9", &inputs, |a, b| {
                round(truth(exact(a), exact(b))) | round(truth(exact(b), exact(b))) << 16
            });
        }
        let number = |a: u64, bits: u64| if exact(a).is_nan() { 0x7FFF } else { bits };
        check1(&format!("neg.{ty} %h9, %h0;"), "%h9", &interesting(), |a| number(a, a ^ 0x8000));
        check1(&format!("abs.{ty} %h9, %h0;"), "%h9", &interesting(), |a| number(a, a & 0x7FFF));
    }
}

#[test]
fn a_changed_sign_of_nan_is_that_of_arithmetic() {
    // inputs and results of an H100
    for (body, seen) in [
        (
            "neg.bf16x2 %r9, %r0;",
            [
                (0x7F8F_1FA9, 0x7FFF_9FA9),
                (0x7FFF_FFFF, 0x7FFF_7FFF),
                (0xFFE4_0CEB, 0x7FFF_8CEB),
                (0xAB28_7FF2, 0x2B28_7FFF),
            ],
        ),
        (
            "abs.f16x2 %r9, %r0;",
            [
                (0x2B8A_FF0E, 0x2B8A_7FFF),
                (0x7C58_9CEF, 0x7FFF_1CEF),
                (0xFC6B_3FAB, 0x7FFF_3FAB),
                (0x7F80_FF80, 0x7FFF_7FFF),
            ],
        ),
    ] {
        for (input, result) in seen {
            check1(body, "%r9", &[input], |_| result);
        }
    }
}

#[test]
fn fused_multiply_add_of_exact_integers() {
    // integers of 8 bits times a power of two are exact in both formats
    let numbers: Vec<f32> = random(24, 5)
        .into_iter()
        .map(|r| ((r & 0xFF) as f32 - 128.0) * 2.0_f32.powi((r >> 20 & 7) as i32))
        .collect();
    for (ty, precision, greatest) in [("f16", 11, 65504.0), ("bf16", 8, f64::INFINITY)] {
        let encode = |value: f32| {
            u64::from(if ty == "f16" {
                f16::from_f32(value).to_bits()
            } else {
                bf16::from_f32(value).to_bits()
            })
        };
        let columns: Vec<(f32, f32, f32)> = numbers
            .iter()
            .flat_map(|&a| numbers.iter().map(move |&b| (a, b)))
            .zip(numbers.iter().cycle())
            .map(|((a, b), &c)| (a, b, c))
            .collect();
        let inputs = vec![
            columns.iter().map(|row| encode(row.0)).collect(),
            columns.iter().map(|row| encode(row.1)).collect(),
            columns.iter().map(|row| encode(row.2)).collect::<Vec<_>>(),
        ];
        for relu in ["", ".relu"] {
            let found = run(&format!("fma.rn{relu}.{ty} %h9, %h0, %h1, %h2;"), "%h9", &inputs);
            for (&(a, b, c), found) in columns.iter().zip(found) {
                let exact = a as i128 * b as i128 + c as i128;
                let rounded = round_integer(exact, precision, "rn") as f64;
                let mut right =
                    if rounded.abs() > greatest { f64::INFINITY.copysign(rounded) } else { rounded };
                if !relu.is_empty() {
                    right = right.max(0.0);
                }
                let value = if ty == "f16" {
                    f16::from_bits(found as u16).to_f64()
                } else {
                    bf16::from_bits(found as u16).to_f64()
                };
                assert_eq!(value, right, "{a} * {b} + {c} in {ty}{relu}");
            }
        }
    }
    check3(
        "fma.rn.bf16x2 %r9, %r0, %r1, %r2;",
        "%r9",
        &[vec![0x4000_3F80], vec![0x4040_3F80], vec![0x3F80_3F80]],
        |_, _, _| {
            0x40E0_4000 // 2 * 3 + 1, 1 * 1 + 1
        },
    );
}

#[test]
fn extremes_and_functions() {
    let inputs = pairs(&interesting(), &interesting());
    for (ty, exact, round) in FORMATS {
        check2(&format!("max.{ty} %h9, %h0, %h1;"), "%h9", &inputs, |a, b| {
            match (exact(a).is_nan(), exact(b).is_nan()) {
                (true, true) => 0x7FFF,
                (true, false) => b,
                (false, true) => a,
                _ if exact(a) == exact(b) => a & b,
                _ => round(exact(a).max(exact(b))),
            }
        });
        check2(&format!("min.NaN.{ty} %h9, %h0, %h1;"), "%h9", &inputs, |a, b| {
            if exact(a).is_nan() || exact(b).is_nan() {
                0x7FFF
            } else if exact(a) == exact(b) {
                a | b
            } else {
                round(exact(a).min(exact(b)))
            }
        });
        let found = run(
            &format!("ex2.approx.{}{ty} %h9, %h0;", if ty == "bf16" { "ftz." } else { "" }),
            "%h9",
            &[interesting()],
        );
        for (a, found) in interesting().into_iter().zip(found) {
            let right = exact(a).exp2();
            let near = (exact(found) - right).abs() <= right.abs() * 0.01 + 1e-7;
            assert!(near || right.is_nan() || !(1e-37..=60000.0).contains(&right), "2^{} in {ty}", exact(a));
        }
    }
}
