//! cudarc's NCCL between ranks that are threads of one process, one thread, or processes.
#![allow(unsafe_code, reason = "foreign functions")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, sys::CUresult};
use cudarc::nccl::{Comm, Id, ReduceOp, group_end, group_start};
use libloading::Library;

/// Set for a test that runs again as a process of its own: its rank and the unique id.
const CHILD: &str = "NCCL_TEST_CHILD";

fn load() {
    static LIBRARIES: OnceLock<[Library; 2]> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        // SAFETY: their initialisation only registers a function for the process's end.
        let libraries =
            ["libcuda.so", "libnccl.so"].map(|name| unsafe { Library::new(folder.join(name)) }.unwrap());
        let text = br#"{"count": 2, "threads": 1, "patience_s": 20}"#;
        // SAFETY: the symbol has this type in testkit/libcuda.
        let status = unsafe {
            let configure = libraries[0]
                .get::<unsafe extern "C" fn(*const u8, usize) -> i32>(b"preceptor_testkit_configure");
            configure.unwrap()(text.as_ptr(), text.len())
        };
        assert_eq!(status, 0);
        libraries
    });
}

fn stream(ordinal: usize) -> Arc<CudaStream> {
    load();
    CudaContext::new(ordinal).unwrap().new_stream().unwrap()
}

/// One rank's part of a round through all operations that cudarc has.
fn work(comm: &Comm) {
    let stream = comm.stream();
    let (rank, other) = (comm.rank(), 1 - comm.rank() as i32);
    let mine = stream.clone_htod(&[rank as f32 + 1.0; 4]).unwrap();
    let mut sum = stream.alloc_zeros::<f32>(4).unwrap();
    comm.all_reduce(&mine, &mut sum, &ReduceOp::Sum).unwrap();
    let mut both = stream.alloc_zeros::<f32>(8).unwrap();
    comm.all_gather(&mine, &mut both).unwrap();
    let mut half = stream.alloc_zeros::<f32>(2).unwrap();
    comm.reduce_scatter(&both.slice(2..6), &mut half, &ReduceOp::Max).unwrap();
    let mut sent = stream.alloc_zeros::<f32>(4).unwrap();
    group_start().unwrap();
    comm.send(&mine, other).unwrap();
    comm.recv(&mut sent, other).unwrap();
    group_end().unwrap();
    let mut told = stream.alloc_zeros::<f32>(4).unwrap();
    comm.broadcast(Some(&mine).filter(|_| rank == 1), &mut told, 1).unwrap();

    assert_eq!(stream.clone_dtoh(&sum).unwrap(), [3.0; 4]);
    assert_eq!(stream.clone_dtoh(&both).unwrap(), [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    assert_eq!(stream.clone_dtoh(&half).unwrap(), [1.0 + rank as f32; 2]);
    assert_eq!(stream.clone_dtoh(&sent).unwrap(), [other as f32 + 1.0; 4]);
    assert_eq!(stream.clone_dtoh(&told).unwrap(), [2.0; 4]);
}

/// Tests that make a rank fail or count findings do not share their time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn ranks_are_threads() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    load();
    let id = Id::new().unwrap();
    let rank = |rank| move || work(&Comm::from_rank(stream(rank), rank, 2, id).unwrap());
    let threads = [0, 1].map(|number| std::thread::spawn(rank(number)));
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn one_thread_holds_all_ranks() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let streams = vec![stream(0), stream(1)];
    let comms = Comm::from_devices(streams).unwrap();
    let mut buffers: Vec<_> =
        comms.iter().map(|comm| comm.stream().clone_htod(&[comm.rank() as f32; 3]).unwrap()).collect();
    group_start().unwrap();
    for (comm, buffer) in comms.iter().zip(&mut buffers) {
        comm.context().bind_to_thread().unwrap();
        comm.all_reduce_in_place(buffer, &ReduceOp::Avg).unwrap();
    }
    group_end().unwrap();
    for (comm, buffer) in comms.iter().zip(&buffers) {
        assert_eq!(comm.stream().clone_dtoh(buffer).unwrap(), [0.5; 3]);
    }
}

#[test]
fn ranks_are_processes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    load();
    if let Ok(hex) = std::env::var(CHILD) {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap() as _;
        let id = Id::uninit(std::array::from_fn(byte));
        return work(&Comm::from_rank(stream(1), 1, 2, id).unwrap());
    }
    let id = Id::new().unwrap();
    let hex: String = id.internal().iter().map(|&byte| format!("{:02x}", byte as u8)).collect();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let mut child = child.args(["--exact", "ranks_are_processes"]).env(CHILD, hex).spawn().unwrap();
    work(&Comm::from_rank(stream(0), 0, 2, id).unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
fn ranks_that_disagree_are_an_error() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    load();
    // Contexts of their own: the error sticks to them.
    let contexts = [0, 1].map(|ordinal| CudaContext::new_non_primary(ordinal, 0).unwrap());
    let comms = Comm::from_devices(contexts.iter().map(|c| c.new_stream().unwrap()).collect()).unwrap();
    for (comm, count) in comms.iter().zip([3, 4]) {
        comm.context().bind_to_thread().unwrap();
        let mut buffer = comm.stream().alloc_zeros::<f32>(count).unwrap();
        comm.all_reduce_in_place(&mut buffer, &ReduceOp::Sum).unwrap();
    }
    let error = comms[0].stream().synchronize().unwrap_err();
    assert_eq!(error, DriverError(CUresult::CUDA_ERROR_LAUNCH_FAILED));
}
