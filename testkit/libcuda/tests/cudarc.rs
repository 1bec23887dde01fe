//! An ordinary cudarc program, unchanged but for the library that it loads first.
#![allow(unsafe_code, reason = "launches are unsafe in cudarc")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use cudarc::driver::sys::{
    CUdevice_attribute as Attribute, CUevent_flags, CUfunction_attribute, CUgraphInstantiate_flags, CUresult,
    CUstreamCaptureMode as Mode, CUstreamCaptureStatus,
};
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

const N: usize = 1000;

fn launch(threads: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (threads.div_ceil(256) as u32, 1, 1),
        block_dim: (256, 1, 1),
        shared_mem_bytes: 0,
    }
}

#[test]
fn a_whole_program() {
    let _alone = common::alone();
    assert_eq!(common::configure(r#"{"device": "A100", "threads": 1}"#), 0);
    let context = CudaContext::new(0).unwrap();
    assert!(context.name().unwrap().starts_with("NVIDIA A100"));
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    assert_eq!(context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).unwrap(), 108);
    let (free, total) = context.mem_get_info().unwrap();
    assert!(context.has_async_alloc() && free == total && total == context.total_mem().unwrap());

    let module = context.load_module(Ptx::from_src(common::PTX)).unwrap();
    let add = module.load_function("add").unwrap();
    assert!(matches!(module.load_function("sub"), Err(DriverError(CUresult::CUDA_ERROR_NOT_FOUND))));

    // Two streams: cudarc's own events order them.
    let (first, second) = (context.default_stream(), context.new_stream().unwrap());
    let a: Vec<f32> = (0..N).map(|i| i as f32).collect();
    let a_dev = first.clone_htod(&a).unwrap();
    let b_dev = second.clone_htod(&vec![0.5f32; N]).unwrap();
    let mut c_dev = first.alloc_zeros::<f32>(N).unwrap();
    // SAFETY: the arguments are those of the kernel's head.
    unsafe {
        let n = N as i32;
        second
            .launch_builder(&add)
            .arg(&mut c_dev)
            .arg(&a_dev)
            .arg(&b_dev)
            .arg(&n)
            .launch(launch(N))
            .unwrap();
    }
    let c = first.clone_dtoh(&c_dev).unwrap();
    assert!(c.iter().zip(&a).all(|(c, a)| *c == a + 0.5));

    // Events with times, asked about until they are complete.
    let start = first.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    first.memset_zeros(&mut c_dev).unwrap();
    let end = first.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).unwrap();
    assert!(!end.is_complete());
    while !end.is_complete() {}
    assert!(start.elapsed_ms(&end).unwrap() >= 0.0);

    // Page-locked memory, both ways.
    // SAFETY: it is written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<f32>(N) }.unwrap();
    pinned.as_mut_slice().unwrap().fill(2.0);
    second.memcpy_htod(&pinned, &mut c_dev).unwrap();
    second.memcpy_dtoh(&a_dev, &mut pinned).unwrap();
    assert_eq!(pinned.as_slice().unwrap(), a);
    assert_eq!(first.clone_dtoh(&c_dev).unwrap(), vec![2.0; N]);

    // More than 48 KiB of shared memory must be asked for.
    let reverse = module.load_function("reverse").unwrap();
    let bytes = 100 << 10;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: bytes };
    let mut x = first.clone_htod(&a[..256]).unwrap();
    let words = (bytes / 4) as i32;
    // SAFETY: as above.
    let refused = unsafe { first.launch_builder(&reverse).arg(&mut x).arg(&words).launch(config) };
    assert!(matches!(refused, Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE))));
    let shared = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert!(reverse.set_attribute(shared, 164 << 10).is_err());
    reverse.set_attribute(shared, bytes as i32).unwrap();
    assert_eq!(reverse.occupancy_max_active_blocks_per_multiprocessor(256, bytes as usize, None).unwrap(), 1);
    // SAFETY: as above.
    unsafe { first.launch_builder(&reverse).arg(&mut x).arg(&words).launch(config).unwrap() };
    assert!(first.clone_dtoh(&x).unwrap().iter().zip(a[..256].iter().rev()).all(|(x, a)| x == a));

    let checks = common::findings();
    assert_eq!(checks, ["launch", "launch"], "the two refusals above, nothing else");
}

#[test]
fn a_graph_is_captured_and_replayed() {
    let (_alone, context) = common::context();
    let module = common::module(&context);
    let add = module.load_function("add").unwrap();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut x = first.clone_htod(&[1.0f32; 8]).unwrap();
    let mut y = first.alloc_zeros::<f32>(8).unwrap();
    let step = first.clone_htod(&[1.0f32; 8]).unwrap();
    first.synchronize().unwrap();

    assert!(context.default_stream().begin_capture(Mode::CU_STREAM_CAPTURE_MODE_GLOBAL).is_err());
    first.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
    let n = 8;
    // x += 1 in the first stream, then y += x in a second one that is forked off and joined back
    // SAFETY: the arguments are those of the kernel's head.
    unsafe {
        let x_in = x.as_view().slice(..);
        let pointer = cudarc::driver::DevicePtr::device_ptr(&x_in, &first).0;
        first.launch_builder(&add).arg(&mut x).arg(&pointer).arg(&step).arg(&n).launch(launch(8)).unwrap();
        second.join(&first).unwrap();
        let pointer = cudarc::driver::DevicePtr::device_ptr(&y, &second).0;
        second.launch_builder(&add).arg(&mut y).arg(&pointer).arg(&x).arg(&n).launch(launch(8)).unwrap();
    }
    assert_eq!(second.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    first.join(&second).unwrap();
    let graph = first.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(first.clone_dtoh(&x).unwrap(), [1.0; 8], "capture executes nothing");

    graph.upload().unwrap();
    for _ in 0..3 {
        graph.launch().unwrap();
    }
    assert_eq!(first.clone_dtoh(&x).unwrap(), [4.0; 8]);
    assert_eq!(first.clone_dtoh(&y).unwrap(), [9.0; 8]); // 2 + 3 + 4

    // A wait of the host is illegal while the stream captures, and spoils the capture.
    first.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let error = first.synchronize().unwrap_err();
    assert_eq!(error, DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
    let error = first.end_capture(CUgraphInstantiate_flags(0)).err().unwrap();
    assert_eq!(error, DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    assert_eq!(common::findings(), [""; 0]);
}

#[test]
fn an_out_of_bounds_kernel_ends_its_context() {
    let (_alone, context) = common::context();
    let module = common::module(&context);
    let poke = module.load_function("poke").unwrap();
    let stream = context.default_stream();
    let mut x = stream.alloc_zeros::<f32>(4).unwrap();
    let offset = 16u64;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: on purpose, one float behind the end.
    unsafe { stream.launch_builder(&poke).arg(&mut x).arg(&offset).launch(config).unwrap() };
    let illegal = DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    // The launch is asynchronous: the wait fails, and every later call.
    assert_eq!(stream.synchronize().unwrap_err(), illegal);
    assert_eq!(stream.alloc_zeros::<f32>(4).unwrap_err(), illegal);
    assert_eq!(context.synchronize().unwrap_err(), illegal);
    let report = common::take_report();
    assert_eq!(report[0]["kernel"], "poke");
    assert_eq!(report[0]["findings"][0]["check"], "out-of-bounds");
    assert_eq!(report[0]["block"], serde_json::json!([1, 1, 1]));
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let (_alone, context) = common::context();
    let load = |text: &str| context.load_module(Ptx::from_src(text)).err().unwrap();
    assert_eq!(load("\x7fELF"), DriverError(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
    let unknown = common::PTX.replace("bar.sync 0;", "frobnicate.sync 0;");
    assert_eq!(load(&unknown), DriverError(CUresult::CUDA_ERROR_INVALID_PTX));
    let newer = common::PTX.replace("sm_80", "sm_90a");
    assert_eq!(load(&newer), DriverError(CUresult::CUDA_ERROR_INVALID_PTX));
}

/// A `CUtensorMap`, with the alignment that the driver asks for.
#[repr(C, align(64))]
struct Map([u8; 128]);

#[test]
fn a_tensor_map_is_encoded_after_its_limits_were_checked() {
    use cudarc::driver::sys;
    let _alone = common::alone();
    let mut map = Map([0; 128]);
    let mut encode = |rows: u64, stride: u64| {
        let (shape, strides, tile, steps) = ([64, rows], [stride], [64, 8], [1, 1]);
        // SAFETY: all arrays have as many entries as the two dimensions ask for.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                (&raw mut map).cast(),
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                (1u64 << 40) as *mut std::ffi::c_void,
                shape.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        }
    };
    assert_eq!(common::configure(r#"{"device": "A100"}"#), 0);
    assert_eq!(encode(100, 128), CUresult::CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(common::configure(r#"{"device": "H100"}"#), 0);
    assert_eq!(encode(100, 120), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(encode(0, 128), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(encode(100, 128), CUresult::CUDA_SUCCESS);
    assert_eq!(common::configure("{}"), 0);
    let map = ptx::TensorMap::decode(&map.0).unwrap();
    let form = (map.shape, map.strides, map.tile, map.swizzle.bytes());
    assert_eq!(form, (vec![64, 100], vec![128], vec![64, 8], 128));
}

#[test]
fn without_memory_pools_allocation_is_synchronous() {
    let _alone = common::alone();
    assert_eq!(common::configure(r#"{"memory_pools": false}"#), 0);
    let context = CudaContext::new(0).unwrap();
    assert!(!context.has_async_alloc());
    let stream = context.new_stream().unwrap();
    let x = stream.clone_htod(&[1u8; 4]).unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap(), [1; 4]);
    drop((x, stream, context));
    assert_eq!(common::findings(), [""; 0]);
    assert_eq!(common::configure("{}"), 0);
}
