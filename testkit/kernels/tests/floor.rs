//! The CUDA floor on the stand-in driver. `PRECEPTOR_NVRTC` and `PRECEPTOR_STAND_IN` name the two libraries;
//! `cargo xtask test` sets them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs};

use half::bf16;
use kernels::stand_in::{Settings, StandIn};
use preceptor::base::Result;
use preceptor::device::cuda::{Arg, Cuda, Entry, Grid, Options, Slice, Sources};

/// One kernel with every kind of parameter, and one with much shared memory.
const KERNELS: &str = r#"
#include "prelude.cuh"
extern "C" __global__ void __launch_bounds__(32) scale(
    float* y, const float* x, const bf16* w, int n, unsigned flag, float factor, long long offset)
{
    const int i = blockIdx.x * 32 + threadIdx.x;
    if (i < n) y[i] = x[i] * factor * (w ? to_f32(w[i]) : 1.0f) + offset + flag;
}
extern "C" __global__ void __launch_bounds__(32) spread(float* y, int n)
{
    extern __shared__ float held[];
    held[n - 1 - threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = held[n - 1 - threadIdx.x];
}
"#;

const SCALE: Entry = Entry::new(FILE, "scale");
const SPREAD: Entry = Entry::new(FILE, "spread");
/// The name of a kernel file that the test's folder replaces.
const FILE: &str = "rmsnorm";

/// The two libraries, if they are named; the stand-in is loaded by then.
fn libraries() -> Option<&'static Path> {
    static LOADED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let load = || {
        let (nvrtc, stand_in) = (env::var_os("PRECEPTOR_NVRTC")?, env::var_os("PRECEPTOR_STAND_IN")?);
        let settings = Settings { device: "a100".into(), seed: None };
        let stand_in = StandIn::load(Path::new(&stand_in), &settings).expect("the stand-in loads");
        std::mem::forget(stand_in);
        Some(PathBuf::from(nvrtc))
    };
    let found = LOADED.get_or_init(load).as_deref();
    #[expect(clippy::print_stdout, reason = "a skip is said, and counted by `cargo xtask test`")]
    if found.is_none() {
        println!("skipped: PRECEPTOR_NVRTC and PRECEPTOR_STAND_IN are not set");
    }
    found
}

/// A device whose file [`FILE`] is `text`, and the folder that holds it with the cache.
fn open(text: &str) -> Option<(Result<Cuda>, tempfile::TempDir)> {
    let nvrtc = libraries()?.to_owned();
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join(format!("{FILE}.cu")), text).expect("a writable folder");
    let cuda = Cuda::open(&Options {
        index: 0,
        nvrtc: Some(nvrtc),
        sources: Sources::Folder(home.path().into()),
        cache: Some(home.path().join("cache")),
    });
    Some((cuda, home))
}

fn scale(cuda: &Cuda, y: &mut Slice<f32>, x: &Slice<f32>, w: Option<&Slice<bf16>>) -> Result<()> {
    let n = y.len();
    let w = Arg::optional(w.map(Slice::view));
    let arguments = [y.into(), x.into(), w, Arg::int(n), 1u32.into(), 2.0f32.into(), 10i64.into()];
    cuda.launch(SCALE, Grid::line(n.div_ceil(32), 32), &arguments)
}

#[test]
fn memory_goes_there_and_back() {
    let Some((cuda, _home)) = open(KERNELS) else { return };
    let cuda = cuda.unwrap();
    let values: Vec<i64> = (0..1000).collect();
    assert_eq!(cuda.download(&cuda.upload(&values).unwrap()).unwrap(), values);
    assert_eq!(cuda.download(&cuda.zeros::<u8>(7).unwrap()).unwrap(), [0; 7]);
    assert_eq!(cuda.download(&cuda.upload::<f32>(&[]).unwrap()).unwrap(), [0.0; 0]);
    assert_eq!(cuda.download(&cuda.zeros::<f32>(0).unwrap()).unwrap(), [0.0; 0]);
}

#[test]
fn a_kernel_gets_what_it_declares() {
    let Some((cuda, home)) = open(KERNELS) else { return };
    let cuda = cuda.unwrap();
    let x: Vec<f32> = (0..100u8).map(f32::from).collect();
    let w = vec![bf16::from_f32(0.5); 100];
    let (mut y, x_, w) = (cuda.buffer(100).unwrap(), cuda.upload(&x).unwrap(), cuda.upload(&w).unwrap());
    scale(&cuda, &mut y, &x_, Some(&w)).unwrap();
    assert_eq!(cuda.download(&y).unwrap(), x.iter().map(|x| x + 11.0).collect::<Vec<_>>());
    scale(&cuda, &mut y, &x_, None).unwrap();
    assert_eq!(cuda.download(&y).unwrap(), x.iter().map(|x| 2.0 * x + 11.0).collect::<Vec<_>>());

    // A part of a slice, to a part of another; nothing else is touched.
    let arguments = [
        Arg::from(y.part_mut(32..64)),
        x_.part(1..33).into(),
        Arg::null(),
        Arg::int(32),
        0u32.into(),
        1.0f32.into(),
        0i64.into(),
    ];
    cuda.launch(SCALE, Grid::line(0, 32), &arguments).unwrap(); // no blocks, no launch
    cuda.launch(SCALE, Grid::line(1, 32), &arguments).unwrap();
    let found = cuda.download(&y).unwrap();
    assert_eq!((found[31], &found[32..64], found[64]), (73.0, &x[1..33], 139.0));

    // Compiled once, kept, and found again by another device handle.
    let cached = || -> Vec<_> {
        let files = fs::read_dir(home.path().join("cache")).unwrap();
        files.map(|f| f.unwrap()).map(|f| (f.path(), f.metadata().unwrap().modified().unwrap())).collect()
    };
    let before = cached();
    assert_eq!(before.len(), 2, "the machine code that the stand-in refuses, and PTX");
    let again = Cuda::open(&Options {
        index: 0,
        nvrtc: libraries().map(Path::to_owned),
        sources: Sources::Folder(home.path().into()),
        cache: Some(home.path().join("cache")),
    });
    let again = again.unwrap();
    let (mut y, x) = (again.buffer(3).unwrap(), again.zeros(3).unwrap());
    scale(&again, &mut y, &x, None).unwrap();
    assert_eq!(again.download(&y).unwrap(), [11.0; 3]);
    assert_eq!(cached(), before);
}

#[test]
fn more_shared_memory_than_usual_is_asked_for_and_too_much_refused() {
    let Some((cuda, _home)) = open(KERNELS) else { return };
    let cuda = cuda.unwrap();
    let mut y = cuda.buffer::<f32>(32).unwrap();
    for bytes in [128, 100 << 10, 64 << 10] {
        let arguments = [(&mut y).into(), Arg::int(bytes / 4)];
        cuda.launch(SPREAD, Grid::line(1, 32).shared(bytes), &arguments).unwrap();
        assert_eq!(cuda.download(&y).unwrap(), (0..32u8).map(f32::from).collect::<Vec<_>>());
    }
    let bytes = 200 << 10; // an A100 has 163 KiB
    let refused =
        cuda.launch(SPREAD, Grid::line(1, 32).shared(bytes), &[(&mut y).into(), Arg::int(bytes / 4)]);
    assert!(refused.unwrap_err().to_string().contains("launch `spread`"));
}

#[test]
#[should_panic(
    expected = "argument 1 is Is(Pointer { to: Bf16, writable: false }), needed Pointer { to: F32"
)]
fn an_argument_of_another_type_is_a_bug() {
    let Some((cuda, _home)) = open(KERNELS) else {
        panic!("argument 1 is Is(Pointer {{ to: Bf16, writable: false }}), needed Pointer {{ to: F32");
    };
    let cuda = cuda.unwrap();
    let (mut y, x) = (cuda.buffer::<f32>(1).unwrap(), cuda.zeros::<bf16>(1).unwrap());
    let arguments =
        [(&mut y).into(), (&x).into(), Arg::null(), Arg::int(1), 1u32.into(), 2.0f32.into(), 10i64.into()];
    let _ = cuda.launch(SCALE, Grid::line(1, 32), &arguments);
}

#[test]
#[should_panic(expected = "writable: false }), needed Pointer { to: F32, writable: true }")]
fn an_input_is_no_output() {
    let Some((cuda, _home)) = open(KERNELS) else {
        panic!("writable: false }}), needed Pointer {{ to: F32, writable: true }}");
    };
    let cuda = cuda.unwrap();
    let x = cuda.zeros::<f32>(32).unwrap();
    let _ = cuda.launch(SPREAD, Grid::line(1, 32), &[(&x).into(), Arg::int(32)]);
}

#[test]
fn a_kernel_that_does_not_compile_names_its_file_and_line() {
    let Some((cuda, _home)) =
        open("#include \"prelude.cuh\"\nextern \"C\" __global__ void scale(int n)\n{ n = m; }\n")
    else {
        return;
    };
    let error = cuda.unwrap().launch(SCALE, Grid::line(1, 32), &[Arg::int(1)]).unwrap_err().to_string();
    assert!(error.starts_with("rmsnorm.cu: it does not compile for compute_80"), "{error}");
    assert!(error.contains("rmsnorm.cu(3): error: identifier \"m\" is undefined"), "{error}");
}

#[test]
fn an_entry_that_is_not_there_is_an_error() {
    let Some((cuda, _home)) = open(KERNELS) else { return };
    let error = cuda.unwrap().launch(Entry::new(FILE, "absent"), Grid::line(1, 32), &[]).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
