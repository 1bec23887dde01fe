//! Whole modules: declarations, variables, lines, and what is refused.

use ptx::{Launch, Memory, Module, Options, launch};

const HEAD: &str = ".version 8.7\n.target sm_90a, debug\n.address_size 64\n";

fn refusal(text: &str) -> String {
    Module::parse(&format!("{HEAD}{text}")).err().unwrap_or_else(|| panic!("taken: {text}"))
}

#[test]
fn declarations_of_a_kernel() {
    let text = format!(
        "{HEAD}\n.file 1 \"a.cu\"\n.file\t3 \"dir/b.cuh\", 17, 9\n.extern .shared .align 128 .b8 dynamic[];\n\
         .shared .align 4 .b8 used[12]; .shared .align 4 .b8 unused[400];\n\
         .func (.param .b32 r) helper(.param .b32 a) {{ trap; ret; }}\n\
         .weak .entry first(.param .u32 n, .param .align 8 .b8 pair[12], .param .u64 .ptr .global .align 1 x)\n\
         .maxntid 64, 2, 1\n.minnctapersm 2\n{{\n.loc 3 41 7\nmov.u32 _, used;\n.loc 1 5 1, function_name $L_info, inlined_at 3 42 7\n\
         mov.u32 _, dynamic;\n}}\n.visible .entry second()\n.reqntid 96\n{{ ret; }}\n\
         .section .debug_str\n{{\n$L_info:\n.b8 102, 0\n}}\n"
    );
    let module = Module::parse(
        &text.replace("mov.u32 _, ", "mov.u32 %r1, ").replace("{\n.loc", "{ .reg .b32 %r<4>;\n.loc"),
    )
    .unwrap();
    assert_eq!((module.version.as_str(), module.target.as_str()), ("8.7", "sm_90a"));
    assert_eq!(module.files, ["", "a.cu", "", "dir/b.cuh"]);
    let first = module.kernel("first").unwrap();
    let places: Vec<_> = first.parameters.iter().map(|p| (p.offset, p.bytes, p.align)).collect();
    assert_eq!(places, [(0, 4, 4), (8, 12, 8), (24, 8, 8)]);
    assert_eq!((first.parameter_bytes, first.max_threads), (32, Some(128)));
    // 12 bytes that are used, then dynamic memory at its alignment
    assert_eq!(first.static_shared, 128);
    let lines: Vec<_> = first.code.iter().map(|i| (i.place.file, i.place.line)).collect();
    assert_eq!(lines[..2], [(3, 41), (1, 5)]);
    let second = module.kernel("second").unwrap();
    assert_eq!((second.max_threads, second.required_threads), (Some(96), Some([96, 1, 1])));
    assert!(module.kernel("third").is_none());
}

#[test]
fn variables_have_addresses_and_first_values() {
    let text = format!(
        "{HEAD}.const .align 4 .u32 table[4] = {{10, 20, 30}};\n.global .align 8 .f64 scale = 0d4000000000000000;\n\
         .visible .entry k(.param .u64 to) {{ .reg .b32 %r<9>; .reg .b64 %d<9>;\n\
         ld.param.u64 %d0, [to]; mov.u32 %r0, %tid.x; ld.const.u32 %r1, [table+4];\n\
         mov.u64 %d1, table; mad.wide.u32 %d1, %r0, 4, %d1; ld.const.u32 %r2, [%d1]; add.s32 %r1, %r1, %r2;\n\
         mov.u64 %d2, table+8; cvta.const.u64 %d2, %d2; ld.u32 %r3, [%d2]; add.s32 %r1, %r1, %r3;\n\
         ld.global.u32 %r4, [scale+4]; shr.u32 %r4, %r4, 30; add.s32 %r1, %r1, %r4;\n\
         mad.wide.u32 %d0, %r0, 4, %d0; st.global.u32 [%d0], %r1; ret; }}"
    );
    let mut module = Module::parse(&text).unwrap();
    let memory = Memory::new();
    module.place(&memory).unwrap();
    let to = memory.allocate(16, "to");
    let kernel = &module.kernels[0];
    let started =
        Launch { kernel, grid: [1; 3], block: [4, 1, 1], dynamic_shared: 0, parameters: &to.to_le_bytes() };
    let report = launch(&module, &started, &memory, &Options::default());
    assert_eq!(report.findings, []);
    let mut bytes = [0; 16];
    memory.read(to, &mut bytes).unwrap();
    let words: Vec<u8> = bytes.chunks_exact(4).map(|word| word[0]).collect();
    assert_eq!(words, [10, 20, 30, 0].map(|own| own + 20 + 30 + 1));
}

#[test]
fn what_is_unknown_is_named_with_its_line() {
    assert_eq!(
        refusal(".entry k() {\n// a comment\n/* two\nlines */ tex.1d.v4.f32.f32 {%f1}, [t, {%f2}];\n}"),
        "unsupported instruction `tex.1d.v4.f32.f32` (PTX line 7, kernel k)"
    );
    assert_eq!(
        refusal(".entry k() { call.uni (retval0), vprintf, (param0, param1); }"),
        "unsupported instruction `call.uni` (PTX line 4, kernel k): functions must be inlined ({retval0}, vprintf, {param0, param1})"
    );
    assert_eq!(
        refusal(".entry k() { .reg .b64 %d; mov.u64 %d, %clock64; }"),
        "unsupported instruction `mov.u64` (PTX line 4, kernel k): special register `%clock64`"
    );
    assert_eq!(refusal(".entry k() { bra NOWHERE; }"), "kernel k: no label `NOWHERE`");
    assert!(refusal(".entry k() { { L: } bra L; }").contains("no label `L`"));
    assert!(refusal(".entry k() { L: L: ret; }").contains("label `L` is defined twice"));
    assert!(refusal(".entry k() { mov.u32 %r1, 1; }").contains("`%r1` is not a register"));
    assert!(refusal(".entry k() { ret;").contains("kernel `k` has no end"));
    assert!(refusal(".entry k()\n.reqnctapercluster 2, 1, 1\n{ ret; }").contains("line 5: clusters"));
    assert!(refusal(".entry k()\n.blocksareclusters\n{ ret; }").contains("`.blocksareclusters`"));
    assert!(refusal(".tex .u64 t;").contains("`.tex` outside of a function"));
    assert!(
        refusal(".entry k() { .reg .b32 %r; ld.global.bogus.u32 %r, [4]; }").contains("modifier `.bogus`")
    );
}

/// A module with most of what the grammar has.
const EVERYTHING: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n.file 1 \"a.cu\"\n.extern .shared .align 16 .b8 dynamic[];\n\
    .const .align 4 .u32 table[2][2] = {{1, 2}, {3}};\n.global .f32 scale = 0f40000000;\n\
    .visible .entry k(.param .align 8 .b8 pair[16], .param .u64 .ptr .global .align 1 to)\n.maxntid 128, 1, 1\n{\n\
    .reg .pred %p<4>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .b128 %q;\n.shared .align 8 .b8 tile[64];\n\
    .local .align 16 .b8 spill[32];\n.loc 1 3 5\nld.param.v2.u64 {%d0, _}, [pair]; mov.b64 {%r1, %r2}, %d0; mov.b128 %q, {%d0, %d0};\n\
    T: .branchtargets A, B;\nmov.u32 %r3, %tid.x; setp.lt.and.s32 %p1|%p2, %r3, -7, !%p0; @!%p1 brx.idx %r3, T;\nA: { .reg .b32 %r1; mov.u32 %r1, tile+4; }\n\
    B: cvt.rn.satfinite.e4m3x2.f32 %h1, 1.5, 0f00000000; shfl.sync.bfly.b32 %r4|%p3, %r3, 1, 31, -1; bar.red.popc.u32 %r5, 0, 64, %p3;\n\
    st.global.v4.b32 [%d0+-16], {%r1, 2, 0x3, %r4}; atom.global.cas.b32 %r6, [%d0], 0, 1; bfi.b32 %r7, %r1, %r2, 0, 8; ld.shared.f32 %r8, [dynamic];\n\
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1,%r2,%r3,%r4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%r1,%r2,%r3,%r4};\nret;\n}\n\
    .section .debug_str { L: .b8 1 }\n";

#[test]
fn broken_text_is_refused_and_never_panics() {
    let whole = EVERYTHING.replace("@!%p1 brx", "brx");
    assert_eq!(Module::parse(&whole).err(), None);
    let pieces: Vec<&str> = whole.split_inclusive([' ', ',', '.', ';', '\n', '{', '[', '<']).collect();
    let other = [
        "",
        ";",
        "}",
        "{",
        "{}",
        "[",
        "%r1",
        "%d0",
        "4294967296",
        "-1",
        "0f",
        ".b128 ",
        ".v8",
        "99999999999999999999",
        "_",
    ];
    let mut refused = 0;
    for round in super::harness::random(4000, 6) {
        let (at, with) = ((round % pieces.len() as u64) as usize, (round >> 20) as usize % other.len());
        let broken: String = pieces
            .iter()
            .enumerate()
            .map(|(index, piece)| if index == at { other[with] } else { *piece })
            .collect();
        refused += usize::from(Module::parse(&broken).is_err());
    }
    assert!(refused > 2000, "{refused}");
}
