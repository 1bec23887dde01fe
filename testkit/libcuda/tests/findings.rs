//! What a program does wrong, and the finding that says so.
#![allow(unsafe_code, reason = "launches are unsafe in cudarc; the misuse is on purpose")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaFunction, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg, result};

const NONE: [&str; 0] = [];
const ONE_WARP: LaunchConfig =
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };

/// c = a + b over 32 floats, by addresses.
fn add(stream: &Arc<CudaStream>, add: &CudaFunction, [c, a, b]: [u64; 3]) -> Result<(), DriverError> {
    // SAFETY: the arguments are those of the kernel's head.
    unsafe { stream.launch_builder(add).arg(&c).arg(&a).arg(&b).arg(&32i32).launch(ONE_WARP).map(drop) }
}

#[test]
fn a_missing_wait_between_streams() {
    let (_alone, context) = common::context();
    let function = common::module(&context).load_function("add").unwrap();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    for waits in [true, false] {
        let one = first.clone_htod(&[1.0f32; 32]).unwrap();
        let sum = first.alloc_zeros::<f32>(32).unwrap();
        context.synchronize().unwrap();
        let address = |slice| DevicePtr::device_ptr(slice, &first).0;
        add(&first, &function, [address(&sum), address(&one), address(&one)]).unwrap();
        if waits {
            second.join(&first).unwrap();
        }
        let seen = second.clone_dtoh(&sum).unwrap();
        // Without the wait the copy overtakes the kernel.
        assert_eq!(seen, [if waits { 2.0 } else { 0.0 }; 32]);
        context.synchronize().unwrap();
        assert_eq!(common::findings(), if waits { &NONE[..] } else { &["stream-race"] });
        drop((one, sum));
    }
}

#[test]
fn kernels_that_only_read_the_same_buffer_do_not_race() {
    let (_alone, context) = common::context();
    let function = common::module(&context).load_function("add").unwrap();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let one = first.clone_htod(&[1.0f32; 32]).unwrap();
    let sums = [first.alloc_zeros::<f32>(32).unwrap(), first.alloc_zeros::<f32>(32).unwrap()];
    context.synchronize().unwrap();
    for (stream, sum) in [&first, &second].into_iter().zip(&sums) {
        let address = |slice| DevicePtr::device_ptr(slice, stream).0;
        add(stream, &function, [address(sum), address(&one), address(&one)]).unwrap();
    }
    context.synchronize().unwrap();
    assert_eq!(common::findings(), NONE);
}

#[test]
fn an_asynchronous_allocation_used_in_another_stream() {
    let (_alone, context) = common::context();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    // SAFETY: freed below, behind its use.
    unsafe {
        let memory = result::malloc_async(first.cu_stream(), 64).unwrap();
        result::memset_d8_async(memory, 1, 64, second.cu_stream()).unwrap();
        context.synchronize().unwrap();
        result::free_async(memory, first.cu_stream()).unwrap();
    }
    context.synchronize().unwrap();
    assert_eq!(common::findings(), ["stream-race"]);
}

#[test]
fn page_locked_memory_changed_too_early() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    for early in [false, true] {
        // SAFETY: written before it is read; the raw copy skips cudarc's own wait, on purpose.
        unsafe {
            let host = result::malloc_host(4, 0).unwrap().cast::<[u8; 4]>();
            *host = [1; 4];
            let device = stream.alloc_zeros::<u8>(4).unwrap();
            let address = DevicePtr::device_ptr(&device, &stream).0;
            result::memcpy_htod_async(address, &*host, stream.cu_stream()).unwrap();
            if !early {
                stream.synchronize().unwrap();
            }
            *host = [2; 4];
            assert_eq!(stream.clone_dtoh(&device).unwrap(), [if early { 2 } else { 1 }; 4]);
            result::free_host(host.cast()).unwrap();
        }
        assert_eq!(common::findings(), if early { &["host-race"] } else { &NONE[..] });
    }
}

#[test]
fn page_locked_memory_read_too_early_and_freed_too_early() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    let device = stream.clone_htod(&[7u8; 4]).unwrap();
    // SAFETY: written before it is read; the raw copy skips cudarc's own wait, on purpose.
    unsafe {
        let host = result::malloc_host(4, 0).unwrap().cast::<[u8; 4]>();
        *host = [0; 4];
        result::memcpy_dtoh_async(&mut *host, DevicePtr::device_ptr(&device, &stream).0, stream.cu_stream())
            .unwrap();
        assert_eq!(*host, [0; 4], "the copy has not run");
        result::free_host(host.cast()).unwrap();
    }
    assert_eq!(common::findings(), ["pinned-free"]);
}

#[test]
fn pageable_memory_may_be_changed_at_once() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    let mut host = vec![1u8; 64];
    let device = stream.clone_htod(&host).unwrap();
    host.fill(2);
    assert_eq!(stream.clone_dtoh(&device).unwrap(), [1; 64]);
    assert_eq!(common::findings(), NONE);
}

#[test]
fn a_leak_a_double_free_and_a_use_after_free() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    let invalid = Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
    // SAFETY: on purpose.
    unsafe {
        let memory = result::malloc_sync(64).unwrap();
        result::free_sync(memory).unwrap();
        assert_eq!(result::free_sync(memory), invalid);
        assert_eq!(result::memset_d8_async(memory, 0, 64, stream.cu_stream()), invalid);
        assert_eq!(result::free_async(memory + 4096, stream.cu_stream()), invalid);
        assert_eq!(common::findings(), ["double-free", "use-after-free", "bad-free"]);

        // Asynchronously, the order of the calls decides.
        let memory = result::malloc_async(stream.cu_stream(), 64).unwrap();
        result::memset_d8_async(memory, 0, 64, stream.cu_stream()).unwrap();
        result::free_async(memory, stream.cu_stream()).unwrap();
        assert_eq!(result::memset_d8_async(memory, 0, 64, stream.cu_stream()), invalid);
        stream.synchronize().unwrap();
        assert_eq!(common::findings(), ["use-after-free"]);

        result::malloc_sync(64).unwrap();
    }
    drop((stream, context));
    assert_eq!(common::findings(), ["leak"]);
}

#[test]
fn a_kernel_that_uses_freed_memory() {
    let (_alone, context) = common::context();
    let module = common::module(&context);
    let poke = module.load_function("poke").unwrap();
    let stream = context.new_stream().unwrap();
    // SAFETY: on purpose.
    unsafe {
        let memory = result::malloc_sync(64).unwrap();
        result::free_sync(memory).unwrap();
        stream.launch_builder(&poke).arg(&memory).arg(&0u64).launch(ONE_WARP).unwrap();
    }
    assert_eq!(stream.synchronize(), Err(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)));
    assert_eq!(common::findings(), ["out-of-bounds", "use-after-free"]);
}

#[test]
fn a_misaligned_store_has_its_own_error() {
    let (_alone, context) = common::context();
    let poke = common::module(&context).load_function("poke").unwrap();
    let stream = context.new_stream().unwrap();
    let memory = stream.alloc_zeros::<u8>(64).unwrap();
    let config = LaunchConfig { block_dim: (1, 1, 1), ..ONE_WARP };
    // SAFETY: on purpose.
    unsafe { stream.launch_builder(&poke).arg(&memory).arg(&2u64).launch(config).unwrap() };
    assert_eq!(stream.synchronize(), Err(DriverError(CUresult::CUDA_ERROR_MISALIGNED_ADDRESS)));
    assert_eq!(common::findings(), ["misaligned"]);
}

#[test]
fn launches_over_a_limit() {
    let (_alone, context) = common::context();
    let module = common::module(&context);
    let narrow = module.load_function("narrow").unwrap();
    let stream = context.new_stream().unwrap();
    let shapes = [
        ((1, 1, 1), 64, 0, None),
        ((1, 1, 1), 65, 0, Some(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)),
        ((1, 1, 1), 1025, 0, Some(CUresult::CUDA_ERROR_INVALID_VALUE)),
        ((0, 1, 1), 64, 0, Some(CUresult::CUDA_ERROR_INVALID_VALUE)),
        ((1, 65536, 1), 64, 0, Some(CUresult::CUDA_ERROR_INVALID_VALUE)),
        ((1, 1, 1), 64, 49153, Some(CUresult::CUDA_ERROR_INVALID_VALUE)),
    ];
    for (grid_dim, threads, shared_mem_bytes, expected) in shapes {
        let config = LaunchConfig { grid_dim, block_dim: (threads, 1, 1), shared_mem_bytes };
        // SAFETY: the kernel has no parameters.
        let got = unsafe { stream.launch_builder(&narrow).launch(config) };
        assert_eq!(got.err().map(|DriverError(code)| code), expected);
    }
    stream.synchronize().unwrap();
    assert_eq!(common::findings(), ["launch"; 5]);
}

extern "C" fn note(argument: *mut std::ffi::c_void) {
    let mut count = 0;
    // SAFETY: the argument is the test's array, which outlives the wait; the call must fail, so it writes
    // nothing.
    unsafe {
        let refused = sys::cuDeviceGetCount(&mut count);
        *argument.cast::<CUresult>() = refused;
    }
}

#[test]
fn a_host_function_runs_late_and_may_not_call_the_driver() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    let mut seen = CUresult::CUDA_SUCCESS;
    // SAFETY: `seen` outlives the wait below.
    unsafe {
        sys::cuLaunchHostFunc(stream.cu_stream(), Some(note), (&raw mut seen).cast()).result().unwrap();
    };
    assert_eq!(seen, CUresult::CUDA_SUCCESS);
    stream.synchronize().unwrap();
    assert_eq!(seen, CUresult::CUDA_ERROR_NOT_PERMITTED);
}

#[test]
fn a_race_inside_a_graph() {
    let (_alone, context) = common::context();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut memory = first.alloc_zeros::<u8>(64).unwrap();
    context.synchronize().unwrap();
    first.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    second.join(&first).unwrap();
    first.memset_zeros(&mut memory).unwrap();
    second.memset_zeros(&mut memory).unwrap();
    first.join(&second).unwrap();
    let graph = first.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(common::findings(), NONE);
    graph.launch().unwrap();
    first.synchronize().unwrap();
    assert_eq!(common::findings(), ["stream-race"]);
}

#[test]
fn memory_of_a_graph_serves_every_launch() {
    let (_alone, context) = common::context();
    let stream = context.new_stream().unwrap();
    let mut out = stream.alloc_zeros::<u8>(4).unwrap();
    context.synchronize().unwrap();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
    {
        let mut inside = stream.alloc_zeros::<u8>(4).unwrap();
        stream.memcpy_dtod(&inside, &mut out).unwrap();
        stream.memset_zeros(&mut inside).unwrap();
    }
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    for _ in 0..2 {
        stream.memcpy_htod(&[1u8; 4], &mut out).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&out).unwrap(), [0; 4]);
    }
    drop((graph, out, stream, context));
    assert_eq!(common::findings(), NONE);
}

/// Set for a test that runs again as a process of its own.
const CHILD: &str = "LIBCUDA_TEST_CHILD";

#[test]
fn a_leak_is_told_when_the_process_ends() {
    if std::env::var_os(CHILD).is_some() {
        let (_alone, context) = common::context();
        // SAFETY: never freed, on purpose.
        unsafe { result::malloc_sync(1234).unwrap() };
        return std::mem::forget(context);
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "a_leak_is_told_when_the_process_ends";
    let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("leak: allocation 1 (1234 bytes, cuMemAlloc)"),
        "{text}"
    );
}
