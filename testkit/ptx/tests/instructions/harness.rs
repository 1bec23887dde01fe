//! Runs a few instructions on many values.

use ptx::{Finding, Launch, Memory, Module, Options, Report, launch};

/// Runs `body` for each row of `inputs` (one thread a row) and returns the register `result` of each.
///
/// The inputs are in `%d0..`, their low parts in `%r0..` and `%h0..`. Results of 16 bits are `%h`, of 32
/// `%r`, of 64 `%d`, predicates `%p`.
pub(crate) fn run(body: &str, result: &str, inputs: &[impl AsRef<[u64]>]) -> Vec<u64> {
    let (values, report) = run_with(body, result, inputs, 32, None);
    assert_eq!(report.findings, [], "{body}");
    values
}

/// As [`run`], with threads of a block, a seed, and what was found.
pub(crate) fn run_with(
    body: &str,
    result: &str,
    inputs: &[impl AsRef<[u64]>],
    threads: u32,
    seed: Option<u64>,
) -> (Vec<u64>, Report) {
    let rows = inputs[0].as_ref().len().next_multiple_of(threads as usize);
    let store = match &result[..2] {
        "%h" => format!("cvt.u64.u16 %dresult, {result};"),
        "%r" => format!("cvt.u64.u32 %dresult, {result};"),
        "%p" => format!("selp.b64 %dresult, 1, 0, {result};"),
        _ => format!("mov.b64 %dresult, {result};"),
    };
    let mut load = String::new();
    for index in 0..inputs.len() {
        load += &format!(
            "ld.global.b64 %d{index}, [%dfrom+{}]; cvt.u32.u64 %r{index}, %d{index}; cvt.u16.u64 %h{index}, %d{index};\n",
            index * rows * 8
        );
    }
    let text = format!(
        ".version 8.7\n.target sm_100a\n.address_size 64\n.visible .entry k(.param .u64 k_from, .param .u64 k_to)\n{{\n\
         .reg .b16 %h<20>; .reg .b32 %r<20>, %rthread, %rwidth, %rblock; .reg .pred %p<20>;\n\
         .reg .b64 %d<20>, %dfrom, %dto, %dresult;\n.shared .align 16 .b8 tile[4096];\n.local .align 16 .b8 spill[64];\n\
         ld.param.u64 %dfrom, [k_from]; ld.param.u64 %dto, [k_to];\n\
         mov.u32 %rthread, %tid.x; mov.u32 %rwidth, %ntid.x; mov.u32 %rblock, %ctaid.x;\n\
         mad.lo.u32 %rthread, %rblock, %rwidth, %rthread;\n\
         mad.wide.u32 %dfrom, %rthread, 8, %dfrom; mad.wide.u32 %dto, %rthread, 8, %dto;\n\
         {load}{body}\n{store}\nst.global.b64 [%dto], %dresult;\nret;\n}}\n"
    );
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let memory = Memory::new();
    let from = memory.allocate(inputs.len() * rows * 8, "from");
    let to = memory.allocate(rows * 8, "to");
    for (index, column) in inputs.iter().enumerate() {
        let mut bytes: Vec<u8> = column.as_ref().iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.resize(rows * 8, 0);
        memory.write(from + (index * rows * 8) as u64, &bytes).expect("allocated above");
    }
    let parameters: Vec<u8> = [from, to].iter().flat_map(|address| address.to_le_bytes()).collect();
    let started = Launch {
        kernel: &module.kernels[0],
        grid: [rows as u32 / threads, 1, 1],
        block: [threads, 1, 1],
        dynamic_shared: 0,
        parameters: &parameters,
    };
    let report = launch(&module, &started, &memory, &Options { threads: 1, seed });
    let mut bytes = vec![0; inputs[0].as_ref().len() * 8];
    memory.read(to, &mut bytes).expect("allocated above");
    (
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect(),
        report,
    )
}

/// All pairs of two lists, as two columns.
pub(crate) fn pairs(a: &[u64], b: &[u64]) -> Vec<Vec<u64>> {
    let all = || a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b)));
    vec![all().map(|(a, _)| a).collect(), all().map(|(_, b)| b).collect()]
}

/// All triples of three lists, as three columns.
pub(crate) fn triples(a: &[u64], b: &[u64], c: &[u64]) -> Vec<Vec<u64>> {
    let ab = pairs(a, b);
    let rows = || ab[0].iter().zip(&ab[1]).flat_map(|(&a, &b)| c.iter().map(move |&c| (a, b, c)));
    vec![
        rows().map(|row| row.0).collect(),
        rows().map(|row| row.1).collect(),
        rows().map(|row| row.2).collect(),
    ]
}

/// Runs `body` on each value and compares with `expected`.
pub(crate) fn check1(body: &str, result: &str, values: &[u64], expected: impl Fn(u64) -> u64) {
    let results = run(body, result, &[values]);
    for (&a, found) in values.iter().zip(results) {
        assert_eq!(found, expected(a), "{body} of {a:#x}: {found:#x}, not {:#x}", expected(a));
    }
}

/// Runs `body` on each pair and compares with `expected`.
pub(crate) fn check2(body: &str, result: &str, inputs: &[Vec<u64>], expected: impl Fn(u64, u64) -> u64) {
    let results = run(body, result, inputs);
    for (row, found) in results.into_iter().enumerate() {
        let (a, b) = (inputs[0][row], inputs[1][row]);
        assert_eq!(found, expected(a, b), "{body} of {a:#x}, {b:#x}: {found:#x}, not {:#x}", expected(a, b));
    }
}

/// Runs `body` on each triple and compares with `expected`.
pub(crate) fn check3(body: &str, result: &str, inputs: &[Vec<u64>], expected: impl Fn(u64, u64, u64) -> u64) {
    let results = run(body, result, inputs);
    for (row, found) in results.into_iter().enumerate() {
        let [a, b, c] = [0, 1, 2].map(|column: usize| inputs[column][row]);
        let right = expected(a, b, c);
        assert_eq!(found, right, "{body} of {a:#x}, {b:#x}, {c:#x}: {found:#x}, not {right:#x}");
    }
}

/// The kinds of findings, as text.
pub(crate) fn kinds(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| finding.check.to_string()).collect()
}

/// Integers that show carries, signs and widths.
pub(crate) const INTEGERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    31,
    0x55,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1234_5678,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_FFFF,
];

/// Floats of every kind, as bits of f32.
pub(crate) fn floats() -> Vec<u64> {
    let values = [
        0.0,
        1.0,
        1.5,
        3.0,
        1e-3,
        std::f32::consts::PI,
        16_777_215.0,
        0.1,
        1.0 + f32::EPSILON,
        123_456.79,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-40,
        f32::from_bits(1),
        1e30,
        1e-30,
        f32::INFINITY,
        f32::NAN,
    ];
    values
        .iter()
        .flat_map(|&value: &f32| [u64::from(value.to_bits()), u64::from((-value).to_bits())])
        .collect()
}

/// A number in the middle of a lot, the same every time.
pub(crate) fn random(count: usize, seed: u64) -> Vec<u64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11 ^ state << 21
    };
    (0..count).map(|_| next()).collect()
}

/// An exact integer rounded to `precision` significant bits, as a correct rounding must.
pub(crate) fn round_integer(value: i128, precision: u32, mode: &str) -> i128 {
    let magnitude = value.unsigned_abs();
    let length = 128 - magnitude.leading_zeros();
    if length <= precision {
        return value;
    }
    let step = 1_u128 << (length - precision);
    let (low, rest) = (magnitude / step, magnitude % step);
    let up = match mode {
        "rn" => rest > step / 2 || (rest == step / 2 && low % 2 == 1),
        "rz" => false,
        "rm" => rest > 0 && value < 0,
        _ => rest > 0 && value > 0,
    };
    let rounded = ((low + u128::from(up)) * step).cast_signed();
    if value < 0 { -rounded } else { rounded }
}
