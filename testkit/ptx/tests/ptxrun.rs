//! The `ptxrun` command: jobs that run, that find something, and that it does not understand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// y[i] = a * x[i] + y[i] for i < n.
const KERNEL: &str = "
.version 8.7
.target sm_80
.address_size 64
.file 1 \"axpy.cu\"
.visible .entry axpy(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    .loc 1 3 1
    ld.param.u64 %rd1, [y];
    ld.param.u64 %rd2, [x];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    mul.wide.u32 %rd4, %r5, 4;
    add.s64 %rd5, %rd3, %rd4;
    add.s64 %rd6, %rd2, %rd4;
    .loc 1 5 9
    ld.global.nc.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd5];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd5], %f4;
DONE:
    ret;
}
";

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ptxrun-{name}"));
        std::fs::create_dir_all(&path).expect("a writable target folder");
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).expect("a writable folder");
    }

    fn run(&self, job: &str) -> Output {
        self.write("job.json", job);
        Command::new(env!("CARGO_BIN_EXE_ptxrun"))
            .arg(self.0.join("job.json"))
            .output()
            .expect("ptxrun was built")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // a folder that stays behind is overwritten by the next run
        let _: std::io::Result<()> = std::fs::remove_dir_all(&self.0);
    }
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

fn job(n: u32) -> String {
    format!(
        r#"{{"ptx": "k.ptx", "entry": "axpy", "grid": [4, 1, 1], "block": [32, 1, 1], "shared": 0,
            "buffers": {{"x": {{"from": "x.bin"}}, "y": {{"bytes": 400, "from": "y.bin", "to": "y.out"}}}},
            "args": [{{"buffer": "y", "offset": 0}}, {{"buffer": "x"}}, {{"f32": 2.5}}, {{"u32": {n}}}],
            "seed": null, "threads": 2}}"#
    )
}

fn prepare(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("k.ptx", KERNEL);
    folder.write("x.bin", floats((0..100).map(|i| i as f32)));
    folder.write("y.bin", floats((0..100).map(|_| 1.0)));
    folder
}

#[test]
fn a_job_writes_its_buffers_and_counts() {
    let folder = prepare("clean");
    let output = folder.run(&job(100));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["kernel"], "axpy");
    assert_eq!(report["findings"], serde_json::json!([]));
    // 100 threads of 17 instructions, 28 that leave after 11
    assert_eq!(report["counters"]["mnemonics"]["fma.rn.f32"], 100);
    assert_eq!(report["counters"]["buffers"]["x"]["loads"]["bytes"], 400);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["lane_instructions_per_second"].as_f64().unwrap() > 0.0);
    let expected = floats((0..100).map(|i| 2.5 * i as f32 + 1.0));
    assert_eq!(std::fs::read(folder.0.join("y.out")).unwrap(), expected);
}

#[test]
fn a_finding_is_status_1_and_names_the_line() {
    let output = prepare("outside").run(&job(101));
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(finding["check"], "out-of-bounds");
    assert_eq!((finding["file"].as_str(), finding["line"].as_u64()), (Some("axpy.cu"), Some(5)));
    assert_eq!(finding["lanes"], 1 << 4);
}

#[test]
fn what_it_does_not_understand_is_status_2_by_name() {
    let folder = prepare("refused");
    let refused = |job: &str, reason: &str| {
        let output = folder.run(job);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(reason), "`{message}` does not say `{reason}`");
    };
    refused(&job(100).replace("\"seed\"", "\"sede\""), "unknown field `sede`");
    refused(&job(100).replace("\"f32\"", "\"f23\""), "unknown field `f23`");
    refused(&job(100).replace("axpy", "axpby"), "no entry `axpby`; there are: axpy");
    refused(&job(100).replace("{\"buffer\": \"x\"}", "{\"buffer\": \"z\"}"), "argument 1: no buffer `z`");
    refused(
        &job(100).replace("{\"buffer\": \"x\"}", "{\"u32\": 1, \"i32\": 1}"),
        "argument 1: needs exactly one value",
    );
    refused(&job(100).replace("{\"u32\": 100}", "{\"u64\": 100}"), "argument 3 has 8 bytes, `n` 4");
    refused(&job(100).replace(", {\"u32\": 100}", ""), "3 arguments; the kernel has 4");
    refused(&job(100).replace("\"bytes\": 400", "\"bytes\": 404"), "buffer `y` has 404 bytes, its file 400");
    refused(&job(100).replace("x.bin", "missing.bin"), "missing.bin");
    folder.write("k.ptx", KERNEL.replace("fma.rn.f32 %f4", "fma.rn.bogus.f32 %f4"));
    refused(
        &job(100),
        "unsupported instruction `fma.rn.bogus.f32` (PTX line 30, kernel axpy): modifier `.bogus`",
    );
    let usage = Command::new(env!("CARGO_BIN_EXE_ptxrun")).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
