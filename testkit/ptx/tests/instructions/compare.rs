//! Comparisons by the definition of each operator.

use std::cmp::Ordering;

use half::{bf16, f16};

use super::harness::{INTEGERS, check1, check2, check3, floats, pairs, triples};

/// What an operator says of an order; `None` is unordered.
fn truth(operator: &str, order: Option<Ordering>) -> bool {
    let (ordered, unordered) = match operator.len() {
        3 if operator != "num" && operator != "nan" => (&operator[..2], true),
        _ => (operator, false),
    };
    match (order, ordered) {
        (None, "nan") => true,
        // of integers and `ne`, `eq`, .. of NaN only the unordered forms hold
        (None, _) => unordered,
        (Some(_), "num") => true,
        (Some(order), "eq") => order.is_eq(),
        (Some(order), "ne") => order.is_ne(),
        (Some(order), "lt" | "lo") => order.is_lt(),
        (Some(order), "le" | "ls") => order.is_le(),
        (Some(order), "gt" | "hi") => order.is_gt(),
        (Some(order), "ge" | "hs") => order.is_ge(),
        _ => false,
    }
}

const SIGNED: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const FLOATS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

#[test]
fn every_operator_of_every_type() {
    type Order = fn(u64, u64) -> Option<Ordering>;
    let types: [(&str, &str, &[&str], Order); 10] = [
        ("u16", "h", &["lo", "ls", "hi", "hs"], |a, b| Some((a as u16).cmp(&(b as u16)))),
        ("s16", "h", &SIGNED, |a, b| Some((a as i16).cmp(&(b as i16)))),
        ("u32", "r", &["eq", "ne", "lo", "ls", "hi", "hs", "lt", "ge"], |a, b| {
            Some((a as u32).cmp(&(b as u32)))
        }),
        ("b32", "r", &["eq", "ne"], |a, b| Some((a as u32).cmp(&(b as u32)))),
        ("s32", "r", &SIGNED, |a, b| Some((a as i32).cmp(&(b as i32)))),
        ("u64", "d", &["eq", "lo", "hs"], |a, b| Some(a.cmp(&b))),
        ("s64", "d", &SIGNED, |a, b| Some((a as i64).cmp(&(b as i64)))),
        ("f32", "r", &FLOATS, |a, b| f32::from_bits(a as u32).partial_cmp(&f32::from_bits(b as u32))),
        ("f16", "h", &FLOATS, |a, b| f16::from_bits(a as u16).partial_cmp(&f16::from_bits(b as u16))),
        ("bf16", "h", &FLOATS, |a, b| bf16::from_bits(a as u16).partial_cmp(&bf16::from_bits(b as u16))),
    ];
    let values = [&INTEGERS[..], &floats(), &[0x7E00, 0x3C00, 0xBC00, 0x7F81]].concat();
    let inputs = pairs(&values, &values);
    for (ty, letter, operators, order) in types {
        for operator in operators {
            let body = format!("setp.{operator}.{ty} %p9, %{letter}0, %{letter}1;");
            check2(&body, "%p9", &inputs, |a, b| u64::from(truth(operator, order(a, b))));
        }
    }
    check2("setp.lt.ftz.f32 %p9, %r0, %r1;", "%p9", &inputs, |a, b| {
        let flushed = |bits: u64| {
            let value = f32::from_bits(bits as u32);
            if value.is_subnormal() { 0.0 } else { value }
        };
        u64::from(flushed(a) < flushed(b))
    });
    let doubles: Vec<u64> = [0.0, -1.0, 2.5, f64::NAN].map(f64::to_bits).to_vec();
    check2("setp.gtu.f64 %p9, %d0, %d1;", "%p9", &pairs(&doubles, &doubles), |a, b| {
        u64::from(truth("gtu", f64::from_bits(a).partial_cmp(&f64::from_bits(b))))
    });
}

#[test]
fn a_third_predicate_and_a_second_result() {
    let inputs = triples(&[1, 2, 3], &[1, 2, 3], &[0, 1]);
    for (name, combine) in
        [("and", (|a, b| a & b) as fn(bool, bool) -> bool), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)]
    {
        let body = |operand: &str| {
            format!(
                "setp.ne.u32 %p1, %r2, 0; setp.lt.{name}.s32 %p9|%p8, %r0, %r1, {operand}; selp.u32 %r9, 1, 0, %p9; selp.u32 %r8, 2, 0, %p8; or.b32 %r9, %r9, %r8;"
            )
        };
        check3(&body("%p1"), "%r9", &inputs, |a, b, c| {
            u64::from(combine(a < b, c == 1)) | u64::from(combine(a >= b, c == 1)) << 1
        });
        check3(&body("!%p1"), "%r9", &inputs, |a, b, c| {
            u64::from(combine(a < b, c == 0)) | u64::from(combine(a >= b, c == 0)) << 1
        });
    }
    let pair = pairs(&[1, 2], &[1, 2]);
    check2("set.lt.u32.s32 %r9, %r0, %r1;", "%r9", &pair, |a, b| if a < b { 0xFFFF_FFFF } else { 0 });
    check2("set.lt.f16.f16 %h9, %h0, %h1;", "%h9", &pair, |a, b| if a < b { 0x3C00 } else { 0 });
    // halves: 1 < 2 below, 3 < 2 above
    let pairs = [vec![0x4040_3F80], vec![0x4000_4000]];
    check2("set.lt.u32.bf16x2 %r9, %r0, %r1;", "%r9", &pairs, |_, _| 0xFFFF);
    check2("set.gt.bf16x2.bf16x2 %r9, %r0, %r1;", "%r9", &pairs, |_, _| 0x3F80_0000);
    check2("setp.lt.bf16x2 %p9|%p8, %r0, %r1; and.pred %p9, %p9, !%p8;", "%p9", &pairs, |_, _| 1);
    check2("set.lt.f32.u32 %r9, %r0, %r1;", "%r9", &pair, |a, b| if a < b { 0x3F80_0000 } else { 0 });
}

#[test]
fn selections() {
    let inputs = triples(&[5, 6], &[7, 8], &[0, 1, 0xFFFF_FFFF]);
    for (ty, letter) in [("b16", "h"), ("f32", "r"), ("u64", "d")] {
        let body = format!("setp.eq.u32 %p1, %r2, 1; selp.{ty} %{letter}9, %{letter}0, %{letter}1, %p1;");
        check3(&body, &format!("%{letter}9"), &inputs, |a, b, c| if c == 1 { a } else { b });
    }
    check3("slct.b32.s32 %r9, %r0, %r1, %r2;", "%r9", &inputs, |a, b, c| if c < 2 { a } else { b });
    check1("selp.f32 %r9, 1.0, 0f40000000, 1;", "%r9", &[0], |_| 0x3F80_0000);
}

#[test]
fn kinds_of_numbers() {
    let tests: [(&str, fn(f32) -> bool); 6] = [
        ("finite", f32::is_finite),
        ("infinite", f32::is_infinite),
        ("number", |value| !value.is_nan()),
        ("notanumber", f32::is_nan),
        ("normal", f32::is_normal),
        ("subnormal", f32::is_subnormal),
    ];
    for (name, test) in tests {
        check1(&format!("testp.{name}.f32 %p9, %r0;"), "%p9", &floats(), |a| {
            u64::from(test(f32::from_bits(a as u32)))
        });
    }
}
