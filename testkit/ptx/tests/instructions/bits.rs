//! Logic, shifts and bit fields, bit by bit.

use super::harness::{INTEGERS, check1, check2, check3, pairs, run, triples};

const WIDTHS: [(u32, &str); 3] = [(16, "h"), (32, "r"), (64, "d")];

fn mask(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

fn bit(value: u64, index: u32) -> u64 {
    if index < 64 { value >> index & 1 } else { 0 }
}

#[test]
fn logic() {
    let inputs = pairs(&INTEGERS, &INTEGERS);
    for (width, letter) in WIDTHS {
        let result = format!("%{letter}9");
        let body = |name: &str| format!("{name}.b{width} {result}, %{letter}0, %{letter}1;");
        check2(&body("and"), &result, &inputs, |a, b| a & b & mask(width));
        check2(&body("or"), &result, &inputs, |a, b| (a | b) & mask(width));
        check2(&body("xor"), &result, &inputs, |a, b| (a ^ b) & mask(width));
        let one = |name: &str| format!("{name}.b{width} {result}, %{letter}0;");
        check1(&one("not"), &result, &INTEGERS, |a| !a & mask(width));
        check1(&one("cnot"), &result, &INTEGERS, |a| u64::from(a & mask(width) == 0));
    }
    check1(
        "setp.ne.u64 %p0, %d0, 0; setp.gt.u64 %p1, %d0, 99; and.pred %p2, %p0, !%p1; xor.pred %p3, %p2, %p1; not.pred %p4, %p3;",
        "%p4",
        &INTEGERS,
        |a| u64::from(a == 0),
    );
}

#[test]
fn shifts_clamp_at_their_width() {
    let amounts: Vec<u64> = vec![0, 1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 0xFFFF_FFFF];
    let inputs = pairs(&INTEGERS, &amounts);
    for (width, letter) in WIDTHS {
        let result = format!("%{letter}9");
        check2(&format!("shl.b{width} {result}, %{letter}0, %r1;"), &result, &inputs, |a, n| {
            (0..width).fold(0, |r, i| r | if u64::from(i) >= n { bit(a, i - n as u32) << i } else { 0 })
        });
        check2(&format!("shr.u{width} {result}, %{letter}0, %r1;"), &result, &inputs, |a, n| {
            (0..width).fold(0, |r, i| {
                let from = u64::from(i) + n;
                r | if from < u64::from(width) { bit(a, from as u32) << i } else { 0 }
            })
        });
        check2(&format!("shr.s{width} {result}, %{letter}0, %r1;"), &result, &inputs, |a, n| {
            (0..width).fold(0, |r, i| r | bit(a, (u64::from(i) + n).min(u64::from(width) - 1) as u32) << i)
        });
    }
}

#[test]
fn funnel_shifts() {
    let inputs = triples(&INTEGERS[10..], &INTEGERS[10..], &[0, 1, 8, 31, 32, 33, 63, 200]);
    for (form, amount) in [("clamp", (|n: u64| n.min(32)) as fn(u64) -> u64), ("wrap", |n| n % 32)] {
        let wide = |a: u64, b: u64| u128::from(b & mask(32)) << 32 | u128::from(a & mask(32));
        check3(&format!("shf.l.{form}.b32 %r9, %r0, %r1, %r2;"), "%r9", &inputs, |a, b, n| {
            (wide(a, b) << amount(n) >> 32) as u64 & mask(32)
        });
        check3(&format!("shf.r.{form}.b32 %r9, %r0, %r1, %r2;"), "%r9", &inputs, |a, b, n| {
            (wide(a, b) >> amount(n)) as u64 & mask(32)
        });
    }
}

#[test]
fn counting_and_reversing() {
    for (width, letter) in [(32, "r"), (64, "d")] {
        let ones = |a: u64| (0..width).filter(|&i| bit(a, i) == 1).count() as u64;
        let top = |a: u64| (0..width).rev().find(|&i| bit(a, i) == 1);
        check1(&format!("popc.b{width} %r9, %{letter}0;"), "%r9", &INTEGERS, ones);
        check1(&format!("clz.b{width} %r9, %{letter}0;"), "%r9", &INTEGERS, |a| {
            u64::from(top(a).map_or(width, |i| width - 1 - i))
        });
        check1(&format!("bfind.u{width} %r9, %{letter}0;"), "%r9", &INTEGERS, |a| {
            top(a).map_or(mask(32), u64::from)
        });
        check1(&format!("bfind.shiftamt.u{width} %r9, %{letter}0;"), "%r9", &INTEGERS, |a| {
            top(a).map_or(mask(32), |i| u64::from(width - 1 - i))
        });
        check1(&format!("bfind.s{width} %r9, %{letter}0;"), "%r9", &INTEGERS, |a| {
            let sign = bit(a, width - 1);
            (0..width).rev().find(|&i| bit(a, i) != sign).map_or(mask(32), u64::from)
        });
        check1(&format!("brev.b{width} %{letter}9, %{letter}0;"), &format!("%{letter}9"), &INTEGERS, |a| {
            (0..width).fold(0, |r, i| r | bit(a, i) << (width - 1 - i))
        });
    }
}

#[test]
fn bit_fields() {
    let places: Vec<u64> = vec![0, 1, 4, 16, 31, 32, 40, 63, 64, 255, 256];
    for (width, letter) in [(32, "r"), (64, "d")] {
        let result = format!("%{letter}9");
        let inputs = triples(&INTEGERS[9..], &places, &places);
        for signed in [false, true] {
            let name = if signed { "s" } else { "u" };
            let body = format!("bfe.{name}{width} {result}, %{letter}0, %r1, %r2;");
            check3(&body, &result, &inputs, |a, place, length| {
                let (place, length) = (place as u32 & 0xFF, length as u32 & 0xFF);
                let top = (place + length).saturating_sub(1).min(width - 1);
                let sign = if signed && length > 0 { bit(a, top) } else { 0 };
                (0..width).fold(0, |r, i| {
                    let inside = i < length && place + i < width;
                    r | (if inside { bit(a, place + i) } else { sign }) << i
                })
            });
        }
        let body = format!("bfi.b{width} {result}, %{letter}0, 0x0F0F0F0F, %r1, %r2;");
        check3(&body, &result, &inputs, |a, place, length| {
            let (place, length) = (place as u32 & 0xFF, length as u32 & 0xFF);
            (0..width).fold(0, |r, i| {
                let inside = i >= place && i - place < length;
                r | (if inside { bit(a, i - place) } else { bit(0x0F0F_0F0F, i) }) << i
            })
        });
    }
}

#[test]
fn every_table_of_three() {
    // these three words hold all eight combinations of three bits
    let (a, b, c) = (0xF0F0_F0F0_u64, 0xCCCC_CCCC, 0xAAAA_AAAA);
    for table in 0..256_u64 {
        let body = format!("lop3.b32 %r9, %r0, %r1, %r2, {table};");
        let expected = (0..32).fold(0, |r, i| {
            let row = bit(a, i) * 4 + bit(b, i) * 2 + bit(c, i);
            r | (table >> row & 1) << i
        });
        assert_eq!(run(&body, "%r9", &[vec![a], vec![b], vec![c]]), [expected], "{table:#x}");
    }
}

#[test]
fn byte_permutations() {
    let (a, b) = (0x8331_2211_u64, 0xF776_6554);
    let bytes: Vec<u64> = (0..8).map(|i| (b << 32 | a) >> (8 * i) & 0xFF).collect();
    let selectors = [0x3210_u64, 0x7654, 0x0123, 0xFEDC, 0x8BB3, 0x4040, 0xCC33];
    let inputs = vec![vec![a; 7], vec![b; 7], selectors.to_vec()];
    check3("prmt.b32 %r9, %r0, %r1, %r2;", "%r9", &inputs, |_, _, selector| {
        (0..4).fold(0, |word, i| {
            let choice = selector >> (4 * i) & 0xF;
            let byte = bytes[choice as usize & 7];
            let sign = if byte >= 0x80 { 0xFF } else { 0 };
            word | (if choice >= 8 { sign } else { byte }) << (8 * i)
        })
    });
    // the documented tables: for each selector, which byte each result byte takes, lowest first
    let tables: [(&str, [[usize; 4]; 4]); 6] = [
        ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
        ("rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
        ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
    ];
    let inputs = vec![vec![a; 4], vec![b; 4], vec![0, 1, 2, 3]];
    for (form, table) in tables {
        check3(&format!("prmt.b32.{form} %r9, %r0, %r1, %r2;"), "%r9", &inputs, |_, _, selector| {
            (0..4).fold(0, |word, i| word | bytes[table[selector as usize][i]] << (8 * i))
        });
    }
}
