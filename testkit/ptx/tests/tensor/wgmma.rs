//! wgmma: operands from shared memory in every layout and from registers, and when results arrive.

use ptx::Check;
use ptx::memory::swizzle::Swizzle;

use crate::harness::{Job, Outcome, bytes, numbers, put, stage};

/// One product of a warpgroup: 64 x n x 16.
#[derive(Clone, Copy)]
struct Product {
    n: usize,
    a: Operand,
    b: Operand,
    accumulate: bool,
    scales: (i32, i32),
    /// What stands for f32.bf16.bf16.
    types: Types,
}

#[derive(Clone, Copy, PartialEq)]
enum Types {
    Bf16,
    F16,
    F16Sums,
}

#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Registers,
    Shared { swizzle: Swizzle, mn_major: bool },
}

const A_AT: usize = 0;
const B_AT: usize = 8192;

const K_MAJOR: Operand = Operand::Shared { swizzle: Swizzle::Bytes128, mn_major: false };
const PLAIN: Product =
    Product { n: 16, a: K_MAJOR, b: K_MAJOR, accumulate: true, scales: (1, 1), types: Types::Bf16 };

impl Operand {
    /// (leading, stride) byte offsets of a dense tile of `mn` rows or columns.
    fn offsets(self, mn: usize) -> (usize, usize) {
        match self {
            Self::Registers => (0, 0),
            // cores of 8 x 8: along k first
            Self::Shared { swizzle: Swizzle::None, mn_major: false } => (128, 256),
            // along mn first
            Self::Shared { swizzle: Swizzle::None, mn_major: true } => (mn * 16, 128),
            Self::Shared { swizzle, mn_major: false } => (16, 8 * swizzle.bytes() as usize),
            // a block holds W bytes of mn for 16 k
            Self::Shared { swizzle, mn_major: true } => {
                (16 * swizzle.bytes() as usize, 8 * swizzle.bytes() as usize)
            }
        }
    }

    /// Where element (mn, k) lies in a dense tile, after the figures of the ISA.
    fn place(self, tile_mn: usize, mn: usize, k: usize) -> usize {
        let Self::Shared { swizzle, mn_major } = self else { return 0 };
        let width = swizzle.bytes() as usize;
        let at = match (swizzle, mn_major) {
            (Swizzle::None, false) => mn / 8 * 256 + k / 8 * 128 + mn % 8 * 16 + k % 8 * 2,
            (Swizzle::None, true) => k / 8 * tile_mn * 16 + mn / 8 * 128 + k % 8 * 16 + mn % 8 * 2,
            (_, false) => mn * width + k * 2,
            (_, true) => mn / (width / 2) * 16 * width + k * width + mn % (width / 2) * 2,
        };
        swizzle.apply(at as u32) as usize
    }

    fn descriptor(self, mn: usize, at: usize) -> u64 {
        let Self::Shared { swizzle, .. } = self else { return 0 };
        let mode = match swizzle {
            Swizzle::None => 0,
            Swizzle::Bytes128 => 1,
            Swizzle::Bytes64 => 2,
            Swizzle::Bytes32 => 3,
        };
        let (leading, stride) = self.offsets(mn);
        (mode << 62) | ((stride as u64 / 16) << 32) | ((leading as u64 / 16) << 16) | (at as u64 / 16)
    }

    fn transposed(self) -> u32 {
        u32::from(matches!(self, Self::Shared { mn_major: true, .. }))
    }
}

impl Product {
    fn encode(&self, value: f32) -> u32 {
        if self.types == Types::Bf16 { value.to_bits() >> 16 } else { half(value) }
    }

    fn registers(&self) -> usize {
        if self.types == Types::F16Sums { self.n / 4 } else { self.n / 2 }
    }

    /// The accumulators of every thread after the product, from exact integers.
    fn expected(&self, a: &[f32], b: &[f32]) -> Vec<u32> {
        let sign = (self.scales.0 * self.scales.1) as f32;
        let value = |thread: usize, i: usize| {
            let lane = thread % 32;
            let row = thread / 32 * 16 + lane / 4 + if i / 2 % 2 == 1 { 8 } else { 0 };
            let column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            let product: f32 = (0..16).map(|k| a[row * 16 + k] * b[column * 16 + k]).sum();
            sign * product + if self.accumulate { START } else { 0.0 }
        };
        let words = |thread: usize| -> Vec<u32> {
            let values = (0..self.n / 2).map(|i| value(thread, i));
            match self.types {
                Types::F16Sums => {
                    values.map(half).collect::<Vec<_>>().chunks(2).map(|h| h[0] | h[1] << 16).collect()
                }
                _ => values.map(f32::to_bits).collect(),
            }
        };
        (0..128).flat_map(words).collect()
    }

    /// The operands in shared memory, then A's fragments for the form with registers.
    fn input(&self, a: &[f32], b: &[f32]) -> Vec<u8> {
        let mut shared = vec![0; 16384];
        for (operand, values, mn, at) in [(self.a, a, 64, A_AT), (self.b, b, self.n, B_AT)] {
            for (row, k) in (0..mn).flat_map(|row| (0..16).map(move |k| (row, k))) {
                let place = at + operand.place(mn, row, k);
                let bytes = (self.encode(values[row * 16 + k]) as u16).to_le_bytes();
                shared[place..place + 2].copy_from_slice(&bytes);
            }
        }
        let fragments = (0..128).flat_map(|thread: usize| {
            let (g, t) = (thread % 32 / 4, thread % 4);
            let element = |row: usize, k: usize| self.encode(a[(thread / 32 * 16 + row) * 16 + k]);
            let pair = move |row: usize, k: usize| element(row, k) | element(row, k + 1) << 16;
            [pair(g, 2 * t), pair(g + 8, 2 * t), pair(g, 2 * t + 8), pair(g + 8, 2 * t + 8)]
        });
        shared.extend(bytes(fragments));
        shared
    }

    fn instruction(&self) -> String {
        let accumulators: Vec<_> = (0..self.registers()).map(|q| format!("%r{}", 100 + q)).collect();
        let types = match self.types {
            Types::Bf16 => "f32.bf16.bf16",
            Types::F16 => "f32.f16.f16",
            Types::F16Sums => "f16.f16.f16",
        };
        let (a, transposed_a) = match self.a {
            Operand::Registers => ("{%r60, %r61, %r62, %r63}", String::new()),
            shared @ Operand::Shared { .. } => ("%rd30", format!("{}, ", shared.transposed())),
        };
        let accumulators = accumulators.join(", ");
        format!(
            "wgmma.mma_async.sync.aligned.m64n{}k16.{types} {{{accumulators}}}, {a}, \
             %rd31, %p5, {}, {}, {transposed_a}{};\n",
            self.n,
            self.scales.0,
            self.scales.1,
            self.b.transposed()
        )
    }

    /// Everything before the product: operands staged, accumulators started.
    fn before(&self) -> String {
        let start =
            if self.types == Types::F16Sums { half(START) | half(START) << 16 } else { START.to_bits() };
        let mut text = stage(16384, 128);
        text += "shl.b32 %r10, %r1, 4; cvt.u64.u32 %rd10, %r10; add.u64 %rd10, %rd10, %rd2;\n\
            ld.global.v4.b32 {%r60, %r61, %r62, %r63}, [%rd10+16384];\n\
            mov.u32 %r41, s; shr.u32 %r42, %r41, 4; cvt.u64.u32 %rd32, %r42;\n";
        for (register, operand, mn, at) in [("%rd30", self.a, 64, A_AT), ("%rd31", self.b, self.n, B_AT)] {
            text += &format!("add.u64 {register}, %rd32, {};\n", operand.descriptor(mn, at) as i64);
        }
        text += &format!("setp.ne.u32 %p5, {}, 0;\n", u32::from(self.accumulate));
        for q in 0..self.registers() {
            text += &format!("mov.b32 %r{}, {start};\n", 100 + q);
        }
        text
    }

    fn job(&self, middle: &str) -> Job {
        let (a, b) = (numbers(64 * 16, 1), numbers(self.n * 16, 2));
        let body = self.before() + middle + &put(100, self.registers());
        Job::new(body).threads(128).input(self.input(&a, &b)).output(128 * 4 * self.registers())
    }

    fn check(&self) {
        let (a, b) = (numbers(64 * 16, 1), numbers(self.n * 16, 2));
        let middle = format!("{FENCE}{}{COMMIT}{WAIT}", self.instruction());
        assert_eq!(self.job(&middle).clean().words(), self.expected(&a, &b), "{}", self.instruction());
    }
}

/// What accumulators hold before the product.
const START: f32 = 100.0;

const FENCE: &str = "wgmma.fence.sync.aligned;\n";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;\n";
const WAIT: &str = "wgmma.wait_group.sync.aligned 0;\n";

fn half(value: f32) -> u32 {
    u32::from(half::f16::from_f32(value).to_bits())
}

#[test]
fn operands_in_every_layout_multiply() {
    for swizzle in [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128] {
        for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = Operand::Shared { swizzle, mn_major: left };
            let b = Operand::Shared { swizzle, mn_major: right };
            Product { n: 64, a, b, ..PLAIN }.check();
        }
    }
    // mixed modes, and the smallest and a large width
    let other = Operand::Shared { swizzle: Swizzle::None, mn_major: true };
    Product { a: other, ..PLAIN }.check();
    Product { n: 8, b: other, ..PLAIN }.check();
    Product { n: 192, b: Operand::Shared { swizzle: Swizzle::Bytes32, mn_major: false }, ..PLAIN }.check();
}

#[test]
fn a_may_come_from_registers() {
    Product { a: Operand::Registers, ..PLAIN }.check();
    let b = Operand::Shared { swizzle: Swizzle::Bytes128, mn_major: true };
    Product { n: 64, a: Operand::Registers, b, types: Types::F16, ..PLAIN }.check();
}

#[test]
fn types_scales_and_overwriting() {
    Product { types: Types::F16, ..PLAIN }.check();
    Product { types: Types::F16Sums, ..PLAIN }.check();
    Product { accumulate: false, ..PLAIN }.check();
    Product { scales: (-1, 1), ..PLAIN }.check();
    Product { scales: (-1, -1), ..PLAIN }.check();
}

#[test]
fn products_add_up_across_groups() {
    let product = PLAIN.instruction();
    let one = format!("{product}{COMMIT}");
    let twice = format!("{FENCE}{one}{one}wgmma.wait_group.sync.aligned 1;\n{WAIT}");
    let (a, b) = (numbers(64 * 16, 1), numbers(PLAIN.n * 16, 2));
    let once = PLAIN.expected(&a, &b);
    let expected = once.iter().map(|&word| 2.0 * f32::from_bits(word) - START);
    assert!(PLAIN.job(&twice).clean().floats().into_iter().eq(expected));
}

fn finds(middle: &str, check: Check, part: &str) -> Outcome {
    PLAIN.job(middle).finds(check, part)
}

#[test]
fn results_arrive_with_the_wait() {
    let product = PLAIN.instruction();
    let early =
        PLAIN.job(&format!("{FENCE}{product}{COMMIT}add.f32 %f1, %f1, %f1;\nmov.b32 %r110, %r100;\n{WAIT}"));
    let words = early.clean().words();
    assert!(words.chunks(8).all(|thread| f32::from_bits(thread[0]).is_finite()), "a moved promise is kept");
    let used = format!(
        "{FENCE}{product}{COMMIT}mov.b32 %f1, %r100; mov.b32 %f2, %r101;\n\
         add.f32 %f1, %f1, 0f3F800000;\n{WAIT}"
    );
    let body = PLAIN.before() + &used + "mov.b32 %r100, %f1; mov.b32 %r101, %f2;\n" + &put(100, 2);
    let job = Job { body, ..PLAIN.job("") };
    let floats = job.clean().floats();
    assert!(floats[..256].chunks(2).all(|pair| pair[0].is_nan()), "arithmetic before the wait");
    // the newest group may stay, so its results are not there
    let stays = format!("{FENCE}{product}{COMMIT}wgmma.wait_group.sync.aligned 1;\n");
    let outcome = finds(&stays, Check::AsyncUse, "nothing waits for this product");
    assert!(outcome.floats()[..1024].iter().all(|value| value.is_nan()));
    finds(&format!("{FENCE}{product}{WAIT}"), Check::AsyncUse, "nothing waits for this product");
}

#[test]
fn operands_must_stay_until_the_wait() {
    let product = PLAIN.instruction();
    // part of b, which all warps read
    let overwrite = "@%p1 st.shared.b32 [%r41+8192], 0;\n";
    let early = format!("{FENCE}{product}{COMMIT}bar.sync 0;\n{overwrite}{WAIT}");
    let early = PLAIN.job(&early).run();
    assert!(early.findings.iter().any(|finding| finding.check == Check::SharedRace), "{:?}", early.findings);
    let late = format!("{FENCE}{product}{COMMIT}{WAIT}bar.sync 0;\n{overwrite}");
    assert_ne!(PLAIN.job(&late).clean().words(), early.words());
    let from_registers = Product { a: Operand::Registers, ..PLAIN };
    let product = from_registers.instruction();
    let job = from_registers.job(&format!("{FENCE}{product}{COMMIT}mov.b32 %r60, 0;\n{WAIT}"));
    job.finds(Check::AsyncUse, "registers of a changed");
}

#[test]
fn misuse_is_found() {
    let product = PLAIN.instruction();
    let tail = format!("{COMMIT}{WAIT}");
    finds(&format!("{product}{tail}"), Check::AsyncUse, "no wgmma.fence");
    let write = "add.u32 %r43, %r1, 64; and.b32 %r43, %r43, 127; mad.lo.u32 %r43, %r43, 4, %r41;\n\
        st.shared.b32 [%r43], 0; bar.sync 0;\n";
    finds(&format!("{write}{FENCE}{product}{tail}"), Check::ProxyFence, "no fence.proxy.async");
    PLAIN.job(&format!("{write}fence.proxy.async;\n{FENCE}{product}{tail}")).clean();
    finds(
        &format!("or.b64 %rd30, %rd30, {};\n{FENCE}{product}{tail}", 1_u64 << 49),
        Check::Trap,
        "base offset 1",
    );
    finds(
        &format!("add.u64 %rd31, %rd31, 4096;\n{FENCE}{product}{tail}"),
        Check::OutOfBounds,
        "the block has 32768",
    );
    finds(
        &format!("add.u64 %rd31, %rd31, 1024;\n{FENCE}{product}{tail}"),
        Check::Uninitialised,
        "never written",
    );
    let narrow = Product { n: 8, ..PLAIN }.instruction();
    finds(&format!("{FENCE}{product}{narrow}{tail}"), Check::AsyncUse, "of another shape");
    let lone = format!("{FENCE}setp.lt.u32 %p6, %r2, 31;\n@%p6 {product}{tail}");
    PLAIN
        .job(&lone)
        .run()
        .findings
        .iter()
        .find(|f| f.check == Check::MissingLanes)
        .expect("a lane is missing");
}

#[test]
fn other_forms_are_refused_by_name() {
    for form in [
        "m64n16k8.f32.tf32.tf32",
        "m64n12k16.f32.bf16.bf16",
        "m64n16k32.f32.e4m3.e4m3",
        "m64n16k16.f16.bf16.bf16",
    ] {
        let text = format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n\
             .visible .entry k() {{ .reg .b32 %r<9>; .reg .b64 %rd<3>;\n\
             wgmma.mma_async.sync.aligned.{form} {{%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}},\n\
             %rd1, %rd2, 1, 1, 1, 0, 0;\nret; }}\n"
        );
        let error = ptx::Module::parse(&text).err().expect("refused").to_string();
        assert!(error.contains("wgmma.mma_async"), "{error}");
    }
}
