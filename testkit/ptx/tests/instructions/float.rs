//! f32 and f64 arithmetic. Exact truths: f64 for one operation of f32 (it has more than twice the bits),
//! integers for fused and directed ones.

use super::harness::{check1, check2, check3, floats, pairs, random, round_integer, run, run_with};

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn wide(bits: u64) -> f64 {
    f64::from(f(bits))
}

/// Bits of a result; every NaN is the canonical one.
fn bits(value: f64) -> u64 {
    if value.is_nan() { 0x7FFF_FFFF } else { u64::from((value as f32).to_bits()) }
}

fn flush(bits: u64) -> u64 {
    if bits & 0x7F80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

#[test]
fn one_operation_is_rounded_once() {
    let all = [floats(), random(60, 1)].concat();
    let inputs = pairs(&all, &all);
    let operations: [(&str, fn(f64, f64) -> f64); 4] =
        [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b), ("div.rn", |a, b| a / b)];
    for (name, truth) in operations {
        let body = format!("{name}.f32 %r9, %r0, %r1;");
        check2(&body, "%r9", &inputs, |a, b| bits(truth(wide(a), wide(b))));
        let name = if name == "div.rn" { name.to_owned() } else { format!("{name}.rn") };
        let body = format!("{name}.ftz.f32 %r9, %r0, %r1;");
        check2(&body, "%r9", &inputs, |a, b| flush(bits(truth(wide(flush(a)), wide(flush(b))))));
    }
    check2("add.sat.f32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| {
        let sum = wide(a) + wide(b);
        bits(if sum > 0.0 { sum.min(1.0) } else { 0.0 })
    });
    for (form, truth) in [("full", 2.0_f64.powi(-22)), ("approx", 2.0_f64.powi(-22))] {
        let found =
            run(&format!("div.{form}.f32 %r9, %r0, %r1;"), "%r9", &pairs(&random(99, 2), &[0x4048_F5C3]));
        for (a, found) in random(99, 2).into_iter().zip(found) {
            let exact = wide(a) / wide(0x4048_F5C3);
            assert!(
                (wide(found) - exact).abs() <= exact.abs() * truth
                    || !exact.is_finite()
                    || exact.abs() < 1e-37
            );
        }
    }
}

#[test]
fn directed_and_fused_operations_are_exact() {
    // integers of 24 bits times a power of two: everything is exact in 128 bits
    let numbers: Vec<u64> = random(40, 3)
        .into_iter()
        .chain([0xFF_FFFF, 1, 0x80_0001])
        .flat_map(|r| {
            let scaled = (r & 0xFF_FFFF) as f32 * 2.0_f32.powi((r >> 30 & 15) as i32);
            [scaled, -scaled].map(|value| u64::from(value.to_bits()))
        })
        .collect();
    let inputs = pairs(&numbers, &numbers);
    let exact = |bits| f(bits) as i128;
    for mode in ["rn", "rz", "rm", "rp"] {
        // what cancels is -0 when rounding down: an H100 gives 80000000 for add.rm of bf800000 and 3f800000
        let cancelled = if mode == "rm" { 0x8000_0000 } else { 0 };
        let right = |value: i128| match value {
            0 => cancelled,
            _ => u64::from((round_integer(value, 24, mode) as f32).to_bits()),
        };
        let with = |body: &str, truth: &dyn Fn(u64, u64) -> i128| {
            let found = run(body, "%r9", &inputs);
            for (row, found) in found.into_iter().enumerate() {
                let (a, b) = (inputs[0][row], inputs[1][row]);
                assert_eq!(found, right(truth(a, b)), "{body} {a:x} {b:x}");
            }
        };
        with(&format!("add.{mode}.f32 %r9, %r0, %r1;"), &|a, b| exact(a) + exact(b));
        with(&format!("sub.{mode}.f32 %r9, %r0, %r1;"), &|a, b| exact(a) - exact(b));
        with(&format!("mul.{mode}.f32 %r9, %r0, %r1;"), &|a, b| exact(a) * exact(b));
        with(&format!("fma.{mode}.f32 %r9, %r0, %r1, %r0;"), &|a, b| exact(a) * exact(b) + exact(a));
    }
    check2("fma.rn.f32 %r9, %r0, %r1, 0f7FC00001;", "%r9", &inputs, |_, _| 0x7FFF_FFFF);
}

#[test]
fn packed_pairs_compute_alone() {
    let body = "mov.b64 %d8, {%r0, %r1}; mov.b64 %d7, {%r1, %r0}; fma.rn.f32x2 %d9, %d8, %d7, %d8; add.rn.f32x2 %d9, %d9, %d9;";
    let inputs = pairs(&floats(), &floats());
    check2(body, "%d9", &inputs, |a, b| {
        let one = |a: u64, b: u64| {
            let fused = f(a).mul_add(f(b), f(a));
            bits(f64::from(fused + fused))
        };
        one(a, b) | one(b, a) << 32
    });
}

#[test]
fn extremes_prefer_numbers_unless_told() {
    let inputs = pairs(&floats(), &floats());
    let order = |bits: u64| {
        let signed = bits as u32;
        // the order of floats, -0 below +0
        if signed >> 31 == 1 { -i64::from(signed & 0x7FFF_FFFF) - 1 } else { i64::from(signed) }
    };
    let choose = move |a: u64, b: u64, greater: bool| match (f(a).is_nan(), f(b).is_nan()) {
        (true, true) => 0x7FFF_FFFF,
        (true, false) => b,
        (false, true) => a,
        _ if (order(a) > order(b)) == greater => a,
        _ => b,
    };
    for (name, greater) in [("min", false), ("max", true)] {
        check2(&format!("{name}.f32 %r9, %r0, %r1;"), "%r9", &inputs, |a, b| choose(a, b, greater));
        check2(&format!("{name}.NaN.f32 %r9, %r0, %r1;"), "%r9", &inputs, |a, b| {
            if f(a).is_nan() || f(b).is_nan() { 0x7FFF_FFFF } else { choose(a, b, greater) }
        });
        check2(&format!("{name}.ftz.f32 %r9, %r0, %r1;"), "%r9", &inputs, |a, b| {
            choose(flush(a), flush(b), greater)
        });
        check2(&format!("{name}.f32 %r9, %r0, %r1, 0f3F800000;"), "%r9", &inputs, |a, b| {
            choose(choose(a, b, greater), 0x3F80_0000, greater)
        });
    }
}

#[test]
fn zeros_of_one_sign_keep_it_in_every_mode() {
    for mode in ["rn", "rz", "rm", "rp"] {
        let body = format!("add.{mode}.f32 %r9, %r0, %r0;");
        check1(&body, "%r9", &[0, 0x8000_0000], |a| a);
        let body = format!("fma.{mode}.f32 %r9, %r0, 0f3F800000, %r0;");
        check1(&body, "%r9", &[0, 0x8000_0000], |a| a);
    }
}

#[test]
fn signs_are_bits_unless_of_nan() {
    let numbers = |a: u64, bits: u64| if f(a).is_nan() { 0x7FFF_FFFF } else { bits };
    // of an H100
    let nans = [0x7FC0_0000, 0x7F80_0001];
    for name in ["neg", "abs", "neg.ftz", "abs.ftz"] {
        check1(&format!("{name}.f32 %r9, %r0;"), "%r9", &nans, |_| 0x7FFF_FFFF);
    }
    check1("sqrt.rn.f32 %r9, %r0;", "%r9", &[0xBF80_0000, 0xFF80_0000, 0x7FC0_0000], |_| 0x7FFF_FFFF);
    check1("neg.f32 %r9, %r0;", "%r9", &floats(), |a| numbers(a, a ^ 0x8000_0000));
    check1("abs.ftz.f32 %r9, %r0;", "%r9", &floats(), |a| numbers(a, flush(a) & 0x7FFF_FFFF));
    check1("neg.f64 %d9, %d0;", "%d9", &floats(), |a| a ^ 1 << 63);
    let inputs = pairs(&floats(), &floats());
    check2("copysign.f32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| b & 0x7FFF_FFFF | a & 0x8000_0000);
}

#[test]
fn doubles() {
    let values: Vec<u64> =
        floats().iter().map(|&bits| wide(bits)).chain([1e300, 1e-300]).map(f64::to_bits).collect();
    let inputs = pairs(&values, &values);
    let same = |found: u64, right: f64| {
        found == right.to_bits() || (f64::from_bits(found).is_nan() && right.is_nan())
    };
    let operations: [(&str, fn(f64, f64) -> f64); 5] = [
        ("add.f64", |a, b| a + b),
        ("sub.rn.f64", |a, b| a - b),
        ("mul.f64", |a, b| a * b),
        ("div.rn.f64", |a, b| a / b),
        ("max.f64", f64::max),
    ];
    for (name, truth) in operations {
        let found = run(&format!("{name} %d9, %d0, %d1;"), "%d9", &inputs);
        for (row, found) in found.into_iter().enumerate() {
            let right = truth(f64::from_bits(inputs[0][row]), f64::from_bits(inputs[1][row]));
            assert!(same(found, right) || right == 0.0, "{name} {row}");
        }
    }
    check3(
        "fma.rn.f64 %d9, %d0, %d1, %d2;",
        "%d9",
        &[vec![3_f64.to_bits()], vec![5_f64.to_bits()], vec![7_f64.to_bits()]],
        |_, _, _| 22_f64.to_bits(),
    );
}

#[test]
fn special_functions_are_near_the_truth() {
    let values: Vec<u64> = random(500, 7)
        .into_iter()
        .map(|r| u64::from(((r % 40_000) as f32 / 1000.0 - 20.0).to_bits()))
        .collect();
    let functions: [(&str, fn(f64) -> f64, f64); 10] = [
        ("ex2.approx", f64::exp2, 2.0_f64.powi(-22)),
        ("ex2.approx.ftz", f64::exp2, 2.0_f64.powi(-22)),
        ("lg2.approx", f64::log2, 2.0_f64.powi(-22)),
        ("rcp.approx", f64::recip, 2.0_f64.powi(-23)),
        ("rsqrt.approx", |a| 1.0 / a.sqrt(), 2.0_f64.powf(-22.9)),
        ("sqrt.approx", f64::sqrt, 2.0_f64.powi(-23)),
        ("sin.approx", f64::sin, 2.0_f64.powf(-20.5)),
        ("cos.approx", f64::cos, 2.0_f64.powf(-20.5)),
        ("tanh.approx", f64::tanh, 2.0_f64.powi(-11)),
        ("sqrt.rn", f64::sqrt, 2.0_f64.powi(-24)),
    ];
    for (name, truth, error) in functions {
        let body = format!("{name}.f32 %r9, %r0;");
        for seed in [None, Some(3), Some(4)] {
            let (found, report) = run_with(&body, "%r9", &[&values], 32, seed);
            assert_eq!(report.findings, []);
            let mut moved = 0;
            for (&a, found) in values.iter().zip(found) {
                let right = truth(wide(a));
                if right.is_nan() {
                    assert!(f(found).is_nan(), "{name} of {}", f(a));
                    continue;
                }
                let allowed = right.abs() * (error + 2.0_f64.powi(-24));
                assert!(
                    (wide(found) - right).abs() <= allowed,
                    "{name} of {}: {} for {right}",
                    f(a),
                    f(found)
                );
                moved += u32::from((right as f32) != f(found));
            }
            let approximate = name.contains("approx");
            assert!(seed.is_none() || !approximate || moved > 50, "{name}: a seed moved {moved} results");
        }
    }
    check1("rcp.rn.f32 %r9, %r0;", "%r9", &floats(), |a| bits(1.0 / wide(a)));
    check1("ex2.approx.ftz.f32 %r9, %r0;", "%r9", &[0xC300_0000], |_| 0); // 2^-128 is subnormal
    let found = run("rcp.approx.ftz.f64 %d9, %d0;", "%d9", &[[3.0_f64.to_bits(), 0x0008_0000_0000_0000]]);
    assert!((f64::from_bits(found[0]) * 3.0 - 1.0).abs() < 2.0_f64.powi(-20) && found[0] as u32 == 0);
    assert_eq!(f64::from_bits(found[1]), f64::INFINITY);
}

#[test]
fn unknown_forms_are_refused() {
    for body in [
        "add.f32.bogus %r9, %r0, %r1;",
        "add.rn.sat.bogus.f32 %r9, %r0, %r1;",
        "div.f32 %r9, %r0, %r1;",
        "fma.rn.oob.f16 %h9, %h0, %h1, %h1;",
        "min.xorsign.abs.f32 %r9, %r0, %r1;",
        "add.rz.f64 %d9, %d0, %d1;",
        "add.u16x2 %r9, %r0, %r1;",
        "lop3.or.b32 %r9|%p1, %r0, %r1, %r1, 3, %p2;",
        "add.s32 %r9, %r0;",
        "add.s32 %d9, %r0, %r1;",
        "mul.s32 %r9, %r0, %r1;",
    ] {
        let text = format!(
            ".version 8.7\n.target sm_90\n.address_size 64\n.entry k() {{\n.reg .b16 %h<20>; .reg .b32 %r<20>; .reg .b64 %d<20>; .reg .pred %p<9>;\n{body}\nret; }}"
        );
        let error = ptx::Module::parse(&text).err().unwrap_or_else(|| panic!("{body} was taken"));
        let name = body.split(' ').next().unwrap();
        assert!(
            error.starts_with(&format!("unsupported instruction `{name}` (PTX line 6, kernel k): ")),
            "{error}"
        );
    }
}
