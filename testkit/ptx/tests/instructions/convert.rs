//! Conversions against exact integers, `half` and the definition of saturation.

use half::{bf16, f16};

use super::harness::{INTEGERS, check1, check2, floats, pairs, random, round_integer};

const TYPES: [(&str, u32, bool); 8] = [
    ("u8", 8, false),
    ("s8", 8, true),
    ("u16", 16, false),
    ("s16", 16, true),
    ("u32", 32, false),
    ("s32", 32, true),
    ("u64", 64, false),
    ("s64", 64, true),
];

fn letter(width: u32) -> &'static str {
    match width {
        64 => "d",
        32 => "r",
        _ => "h",
    }
}

fn value(bits: u64, width: u32, signed: bool) -> i128 {
    let low = bits & (u64::MAX >> (64 - width));
    if signed && low >> (width - 1) & 1 == 1 { i128::from(low) - (1 << width) } else { i128::from(low) }
}

fn limits(width: u32, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) }
}

/// What a register of at least 16 bits holds: signed values fill it.
fn register(value: i128, width: u32, signed: bool) -> u64 {
    let low = value as u64 & (u64::MAX >> (64 - width));
    let whole = if signed { self::value(low, width, true) as u64 } else { low };
    whole & (u64::MAX >> (64 - width.max(16)))
}

#[test]
fn integers_to_integers() {
    for (to, to_width, to_signed) in TYPES {
        for (from, from_width, from_signed) in TYPES {
            let (d, a) = (letter(to_width), letter(from_width));
            let result = format!("%{d}9");
            check1(&format!("cvt.{to}.{from} {result}, %{a}0;"), &result, &INTEGERS, |bits| {
                register(value(bits, from_width, from_signed), to_width, to_signed)
            });
            let (least, greatest) = limits(to_width, to_signed);
            check1(&format!("cvt.sat.{to}.{from} {result}, %{a}0;"), &result, &INTEGERS, |bits| {
                register(value(bits, from_width, from_signed).clamp(least, greatest), to_width, to_signed)
            });
        }
    }
    // sources and targets may be wider than their types
    check1("cvt.s32.s8 %r9, %r0;", "%r9", &INTEGERS, |bits| value(bits, 8, true) as u64 & 0xFFFF_FFFF);
    check1("cvt.s64.s16 %d9, %r0;", "%d9", &INTEGERS, |bits| value(bits, 16, true) as u64);
}

#[test]
fn integers_to_floats_in_every_mode() {
    for (from, width, signed) in TYPES {
        for mode in ["rn", "rz", "rm", "rp"] {
            check1(&format!("cvt.{mode}.f32.{from} %r9, %{}0;", letter(width)), "%r9", &INTEGERS, |bits| {
                u64::from((round_integer(value(bits, width, signed), 24, mode) as f32).to_bits())
            });
        }
        check1(&format!("cvt.rn.f64.{from} %d9, %{}0;", letter(width)), "%d9", &INTEGERS, |bits| {
            (round_integer(value(bits, width, signed), 53, "rn") as f64).to_bits()
        });
        check1(&format!("cvt.rn.bf16.{from} %h9, %{}0;", letter(width)), "%h9", &INTEGERS, |bits| {
            u64::from(bf16::from_f32(round_integer(value(bits, width, signed), 8, "rn") as f32).to_bits())
        });
        check1(&format!("cvt.rn.f16.{from} %h9, %{}0;", letter(width)), "%h9", &INTEGERS, |bits| {
            u64::from(f16::from_f32(round_integer(value(bits, width, signed), 11, "rn") as f32).to_bits())
        });
    }
}

#[test]
fn floats_to_integers_saturate() {
    let halves: Vec<u64> = (-40..40).map(|n| u64::from((n as f32 / 4.0).to_bits())).collect();
    let values = [floats(), random(200, 3), halves].concat();
    for (to, width, signed) in TYPES {
        for mode in ["rni", "rzi", "rmi", "rpi"] {
            let round = |value: f64| match mode {
                "rni" => value.round_ties_even(),
                "rzi" => value.trunc(),
                "rmi" => value.floor(),
                _ => value.ceil(),
            };
            let (least, greatest) = limits(width, signed);
            let convert = |value: f64, nan: u64| {
                if value.is_nan() {
                    return nan;
                }
                register((round(value) as i128).clamp(least, greatest), width, signed)
            };
            let wide_nan = 1 << (width - 1);
            let result = format!("%{}9", letter(width));
            let nan = if width == 64 { wide_nan } else { 0 };
            check1(&format!("cvt.{mode}.{to}.f32 {result}, %r0;"), &result, &values, |bits| {
                convert(f64::from(f32::from_bits(bits as u32)), nan)
            });
            check1(&format!("cvt.{mode}.{to}.f16 {result}, %h0;"), &result, &values, |bits| {
                convert(f16::from_bits(bits as u16).to_f64(), nan)
            });
        }
    }
}

#[test]
fn floats_to_narrower_floats() {
    let values = [floats(), random(2000, 9)].concat();
    let single = |bits: u64| f32::from_bits(bits as u32);
    let nan = |value: f32, bits: u16| u64::from(if value.is_nan() { 0x7FFF } else { bits });
    check1("cvt.rn.bf16.f32 %h9, %r0;", "%h9", &values, |a| {
        nan(single(a), bf16::from_f32(single(a)).to_bits())
    });
    check1("cvt.rn.f16.f32 %h9, %r0;", "%h9", &values, |a| {
        nan(single(a), f16::from_f32(single(a)).to_bits())
    });
    check1("cvt.rz.bf16.f32 %h9, %r0;", "%h9", &values, |a| nan(single(a), (a >> 16) as u16));
    check1("cvt.rn.relu.bf16.f32 %h9, %r0;", "%h9", &values, |a| {
        nan(single(a), bf16::from_f32(single(a).max(0.0) + 0.0).to_bits())
    });
    check1("cvt.rn.f32.f64 %r9, %d0;", "%r9", &random(2000, 1), |a| {
        let value = f64::from_bits(a) as f32;
        if value.is_nan() {
            0x7FC0_0000 | a >> 32 & 0x8000_0000 | a >> 29 & 0x3F_FFFF
        } else {
            u64::from(value.to_bits())
        }
    });
    // inputs and results of an H100: a NaN keeps its upper bits
    for (input, result) in [(0x7FF8_0000_0000_0000, 0x7FC0_0000), (0x7FF8_0000_2000_0000, 0x7FC0_0001)] {
        check1("cvt.rn.f32.f64 %r9, %d0;", "%r9", &[input], |_| result);
    }
    let inputs = pairs(&floats(), &floats());
    check2("cvt.rn.bf16x2.f32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| {
        let half = |bits| nan(single(bits), bf16::from_f32(single(bits)).to_bits());
        half(a) << 16 | half(b)
    });
    check2("cvt.rn.relu.f16x2.f32 %r9, %r0, %r1;", "%r9", &inputs, |a, b| {
        let half = |bits| {
            nan(single(bits), f16::from_f32(if single(bits) <= 0.0 { 0.0 } else { single(bits) }).to_bits())
        };
        half(a) << 16 | half(b)
    });
}

#[test]
fn directed_narrowing_lies_on_its_side() {
    let values = random(3000, 21);
    for (ty, exact) in [
        ("f16", (|bits: u64| f16::from_bits(bits as u16).to_f64()) as fn(u64) -> f64),
        ("bf16", |bits| bf16::from_bits(bits as u16).to_f64()),
    ] {
        for mode in ["rz", "rm", "rp"] {
            let found = super::harness::run(&format!("cvt.{mode}.{ty}.f32 %h9, %r0;"), "%h9", &[&values]);
            for (&a, found) in values.iter().zip(found) {
                let (value, result) = (f64::from(f32::from_bits(a as u32)), exact(found));
                if value.is_nan() {
                    continue;
                }
                // one step towards the value would pass it
                let magnitude = found & 0x7FFF;
                let (inner, outer) = (magnitude.saturating_sub(1), (magnitude + 1).min(0x7F80));
                let toward_zero = match mode {
                    "rz" => true,
                    "rm" => value > 0.0,
                    _ => value < 0.0,
                };
                if toward_zero {
                    assert!(
                        result.abs() <= value.abs() && exact(outer) > value.abs(),
                        "{mode} {ty} {value} {result}"
                    );
                } else {
                    assert!(result.abs() >= value.abs() && (magnitude == 0 || exact(inner) < value.abs()));
                }
            }
        }
    }
}

#[test]
fn floats_to_wider_floats_are_exact() {
    let all: Vec<u64> = (0..=0xFFFF).collect();
    let single = |value: f32| if value.is_nan() { 0x7FFF_FFFF } else { u64::from(value.to_bits()) };
    check1("cvt.f32.f16 %r9, %h0;", "%r9", &all, |a| single(f16::from_bits(a as u16).to_f32()));
    check1("cvt.f64.f32 %d9, %r0;", "%d9", &floats()[..34], |a| {
        f64::from(f32::from_bits(a as u32)).to_bits()
    });
    let numbers: Vec<u64> = all.into_iter().filter(|&a| !bf16::from_bits(a as u16).is_nan()).collect();
    check1("cvt.f32.bf16 %r9, %h0;", "%r9", &numbers, |a| a << 16);
}

#[test]
fn rounding_to_integers_and_saturation_in_place() {
    let values: Vec<u64> = (-40..40).map(|n| u64::from((n as f32 / 4.0).to_bits())).collect();
    let bits = |value: f32| u64::from(value.to_bits());
    let single = |bits: u64| f32::from_bits(bits as u32);
    check1("cvt.rni.f32.f32 %r9, %r0;", "%r9", &values, |a| bits(single(a).round_ties_even()));
    check1("cvt.rzi.ftz.f32.f32 %r9, %r0;", "%r9", &values, |a| bits(single(a).trunc()));
    check1("cvt.rmi.f32.f32 %r9, %r0;", "%r9", &values, |a| bits(single(a).floor()));
    check1("cvt.rpi.f32.f32 %r9, %r0;", "%r9", &values, |a| bits(single(a).ceil()));
    check1("cvt.sat.f32.f32 %r9, %r0;", "%r9", &values, |a| bits(single(a).clamp(0.0, 1.0) + 0.0));
}

#[test]
fn tf32_keeps_ten_bits() {
    let ties = random(100, 5).into_iter().map(|a| (a & 0xFFFF_E000) | 0x1000).collect();
    let values = [random(2000, 2), ties].concat();
    let numbers: Vec<u64> = values.into_iter().filter(|&a| f32::from_bits(a as u32).is_finite()).collect();
    // inputs and results of an H100: `.rna` knows no NaN
    for (input, result) in [
        (0x7FC0_0000, 0x7FC0_0000),
        (0xFFF7_E1E5, 0xFFF7_E000),
        (0x7F87_5A6B, 0x7F87_4000),
        (0x7F87_AAB9, 0x7F87_A000),
        (0x7F80_0001, 0x7F80_0000),
        (0xFF80_0000, 0xFF80_0000),
    ] {
        check1("cvt.rna.tf32.f32 %r9, %r0;", "%r9", &[input], |_| result);
    }
    check1("cvt.rna.tf32.f32 %r9, %r0;", "%r9", &numbers, |a| {
        let a = a & 0xFFFF_FFFF;
        (a + 0x1000) & 0xFFFF_E000
    });
    check1("cvt.rn.tf32.f32 %r9, %r0;", "%r9", &numbers, |a| {
        let a = a & 0xFFFF_FFFF;
        let (low, rest) = (a >> 13, a & 0x1FFF);
        (low + u64::from(rest > 0x1000 || (rest == 0x1000 && low & 1 == 1))) << 13
    });
}

#[test]
fn eight_bit_floats_go_both_ways() {
    // 1.0, -2.0 in e4m3: bias 7; in e5m2: bias 15
    let one = u64::from(1.0_f32.to_bits());
    let minus_two = u64::from((-2.0_f32).to_bits());
    check2("cvt.rn.satfinite.e4m3x2.f32 %h9, %r0, %r1;", "%h9", &[vec![one], vec![minus_two]], |_, _| 0x38C0);
    check2("cvt.rn.satfinite.e5m2x2.f32 %h9, %r0, %r1;", "%h9", &[vec![one], vec![minus_two]], |_, _| 0x3CC0);
    check1("cvt.rn.f16x2.e4m3x2 %r9, %h0;", "%r9", &[0x38C0], |_| 0x3C00_C000);
    check1("cvt.rn.f16x2.e5m2x2 %r9, %h0;", "%r9", &[0x3CC0], |_| 0x3C00_C000);
    check1("cvt.rn.satfinite.e4m3x2.f16x2 %h9, %r0;", "%h9", &[0x3C00_C000], |_| 0x38C0);
}
