//! Runs a few PTX instructions in a kernel with the usual registers.

#![allow(clippy::unwrap_used, reason = "the harness of tests fails as tests do")]

use ptx::memory::tensor_map::TensorMap;
use ptx::{Check, Finding, Launch, Memory, Module, Options, launch};

/// Bytes of the shared array `s` of every kernel here.
pub(crate) const SHARED: usize = 32768;

/// What to run.
#[derive(Clone)]
pub(crate) struct Job {
    /// Instructions; see [`Job::run`] for what is set up before them.
    pub(crate) body: String,
    /// Threads of the one block.
    pub(crate) threads: u32,
    /// What `%rd2` points to.
    pub(crate) input: Vec<u8>,
    /// Bytes that `%rd1` points to.
    pub(crate) output: usize,
    /// What `%rd3` points to, with the address of the input put in.
    pub(crate) map: Option<TensorMap>,
}

/// What came out.
pub(crate) struct Outcome {
    pub(crate) output: Vec<u8>,
    pub(crate) input: Vec<u8>,
    pub(crate) findings: Vec<Finding>,
}

impl Job {
    pub(crate) fn new(body: impl Into<String>) -> Self {
        Self { body: body.into(), threads: 32, input: vec![0; 4096], output: 4096, map: None }
    }

    pub(crate) fn threads(self, threads: u32) -> Self {
        Self { threads, ..self }
    }

    pub(crate) fn input(self, input: Vec<u8>) -> Self {
        Self { input, ..self }
    }

    pub(crate) fn output(self, output: usize) -> Self {
        Self { output, ..self }
    }

    pub(crate) fn map(self, map: TensorMap) -> Self {
        Self { map: Some(map), ..self }
    }

    /// Runs it. `%rd1`: output; `%rd2`: input; `%rd3`: the tensor map; `%r1`: thread; `%r2`: lane; `%p1`: the
    /// first thread; `s`: shared bytes; `%r10..`, `%rd10..`, `%f10..`, `%p2..` are free.
    pub(crate) fn run(&self) -> Outcome {
        let text = format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n\
             .visible .entry k(.param .u64 out, .param .u64 in, .param .align 64 .b8 map[128])\n{{\n\
             .reg .b32 %r<400>; .reg .b64 %rd<40>; .reg .f32 %f<40>; .reg .pred %p<10>; .reg .b16 %h<20>;\n\
             .shared .align 1024 .b8 s[{SHARED}];\n\
             ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [in];\n\
             mov.b64 %rd3, map; cvta.param.u64 %rd3, %rd3;\n\
             mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 31; setp.eq.u32 %p1, %r1, 0;\n\
             {}\nret;\n}}\n",
            self.body
        );
        let mut module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let memory = Memory::new();
        module.place(&memory).unwrap();
        let (out, input) = (memory.allocate(self.output, "out"), memory.allocate(self.input.len(), "in"));
        memory.write(input, &self.input).unwrap();
        let map = self.map.clone().map(|map| TensorMap { address: input, ..map });
        let mut parameters = [out.to_le_bytes(), input.to_le_bytes()].concat();
        parameters.resize(64, 0);
        parameters.extend(map.map_or([0; 128], |map| {
            map.check().unwrap();
            map.encode()
        }));
        let kernel = module.kernel("k").unwrap();
        assert_eq!(kernel.parameter_bytes as usize, parameters.len());
        let launched = Launch {
            kernel,
            grid: [1; 3],
            block: [self.threads, 1, 1],
            dynamic_shared: 0,
            parameters: &parameters,
        };
        let findings = launch(&module, &launched, &memory, &Options::default()).findings;
        let mut outcome =
            Outcome { output: vec![0; self.output], input: vec![0; self.input.len()], findings };
        memory.read(out, &mut outcome.output).unwrap();
        memory.read(input, &mut outcome.input).unwrap();
        outcome
    }

    /// Runs it and expects nothing to be found.
    pub(crate) fn clean(&self) -> Outcome {
        let outcome = self.run();
        assert!(outcome.findings.is_empty(), "{}", outcome.listed());
        outcome
    }

    /// Runs it and expects findings of one kind; one of them says `part`.
    pub(crate) fn finds(&self, check: Check, part: &str) -> Outcome {
        let outcome = self.run();
        let found = outcome.findings.iter().any(|f| f.check == check && f.message.contains(part));
        assert!(found, "no {check} with `{part}` in:\n{}", outcome.listed());
        assert!(
            outcome.findings.iter().all(|f| f.check == check),
            "more than {check}:\n{}",
            outcome.listed()
        );
        outcome
    }
}

impl Outcome {
    fn listed(&self) -> String {
        self.findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    /// The output as words.
    pub(crate) fn words(&self) -> Vec<u32> {
        self.output.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    }

    /// The output as floats.
    pub(crate) fn floats(&self) -> Vec<f32> {
        self.words().into_iter().map(f32::from_bits).collect()
    }
}

/// Words as bytes.
pub(crate) fn bytes(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// 16-bit values as bytes.
pub(crate) fn bytes16(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// Small integers that bf16 and f16 hold exactly, without a visible pattern.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as f32 - 8.0
    };
    (0..count).map(|_| next()).collect()
}

/// Copies `count` bytes, a multiple of 16 a thread, from the input to `s`, and synchronises the block for
/// both proxies. Uses `%r10..%r16`, `%rd10`, `%p2`.
pub(crate) fn stage(count: usize, threads: u32) -> String {
    format!(
        "shl.b32 %r10, %r1, 4; mov.u32 %r15, s;\n\
         COPY: setp.ge.u32 %p2, %r10, {count}; @%p2 bra COPIED;\n\
         cvt.u64.u32 %rd10, %r10; add.u64 %rd10, %rd10, %rd2;\n\
         ld.global.v4.b32 {{%r11, %r12, %r13, %r14}}, [%rd10]; add.u32 %r16, %r15, %r10;\n\
         st.shared.v4.b32 [%r16], {{%r11, %r12, %r13, %r14}}; add.u32 %r10, %r10, {}; bra COPY;\n\
         COPIED: fence.proxy.async.shared::cta; bar.sync 0;\n",
        16 * threads
    )
}

/// Stores registers `%r{first}..` of every thread as adjacent words of the output.
pub(crate) fn put(first: usize, count: usize) -> String {
    let mut text = format!("mul.wide.u32 %rd11, %r1, {}; add.u64 %rd11, %rd11, %rd1;\n", 4 * count);
    for index in 0..count {
        text += &format!("st.global.b32 [%rd11+{}], %r{};\n", 4 * index, first + index);
    }
    text
}
