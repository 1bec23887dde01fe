//! NCCL. A link named `libnccl.so` to this library is the same library to the loader.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::thread;

use super::pointers::{In, Out};
use crate::context;
use crate::nccl::{Call, DataType, Kind, Operator, Rank, UniqueId};
use crate::run::{lock, reach, wait};
use crate::streams::Clock;
use crate::work::Work;

/// `ncclResult_t`.
#[derive(Clone, Copy)]
struct Refusal(i32);

const UNHANDLED_CUDA_ERROR: Refusal = Refusal(1);
const SYSTEM_ERROR: Refusal = Refusal(2);
const INTERNAL_ERROR: Refusal = Refusal(3);
const INVALID_ARGUMENT: Refusal = Refusal(4);
const INVALID_USAGE: Refusal = Refusal(5);

type Answer<T = ()> = Result<T, Refusal>;

const TEXTS: [&CStr; 8] = [
    c"no error",
    c"a driver call failed",
    c"a call of the operating system failed",
    c"the stand-in itself failed",
    c"an argument is invalid",
    c"the call is not permitted here, or not modelled",
    c"another rank failed",
    c"the operation is under way",
];

/// `ncclUniqueId`, which NCCL passes by value.
#[repr(C)]
struct IdBytes([u8; 128]);

/// NCCL 2.27.
const VERSION: i32 = 22700;

/// What a group holds until it ends.
#[derive(Default)]
struct Group {
    calls: Vec<(usize, Call)>,
    joins: Vec<Arc<Rank>>,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static GROUP: RefCell<Group> = RefCell::default();
}

impl From<crate::status::Status> for Refusal {
    fn from(_: crate::status::Status) -> Self {
        UNHANDLED_CUDA_ERROR
    }
}

/// Runs a call; a panic must not leave through a C interface.
fn answer(name: &str, call: impl FnOnce() -> Answer) -> i32 {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(Ok(())) => 0,
        Ok(Err(refusal)) => refusal.0,
        Err(_) => {
            eprintln!("[libcuda] {name}: the stand-in itself failed");
            INTERNAL_ERROR.0
        }
    }
}

macro_rules! nccl_exports {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> i32 {
            answer(stringify!($name), || -> Answer { $body })
        }
    )*};
}

/// Queues a group's operations: all posts of a stream before its completions, so that a rank that sends and
/// receives does not wait for itself.
fn submit(calls: Vec<(usize, Call)>) -> Answer {
    let mut driver = lock();
    let mut resolved = Vec::with_capacity(calls.len());
    for (stream, call) in calls {
        let stream = driver.stream(stream)?;
        if driver.captures.id(stream).is_some() {
            eprintln!("[libcuda] {} while its stream captures is not modelled", call.name());
            return Err(INVALID_USAGE);
        }
        resolved.push((stream, Arc::new(call)));
    }
    for (stream, call) in &resolved {
        driver.submit(*stream, Work::Post(Arc::clone(call)))?;
    }
    let mut point = Clock::default();
    for (stream, call) in &resolved {
        if let Some(behind) = driver.submit(*stream, Work::Complete(Arc::clone(call)))? {
            point.join(&behind);
        }
    }
    let elsewhere = |rank: &Rank| driver.ranks.iter().filter(|(_, r)| r.id == rank.id).count() < rank.ranks;
    if resolved.iter().any(|(_, call)| elsewhere(&call.rank)) {
        // Another process cannot make this one's work run, so it runs by itself.
        thread::spawn(move || drop(reach(lock(), &point)));
    }
    Ok(())
}

/// Checks an operation and queues it, or keeps it for its group's end.
fn operate(
    rank: usize,
    kind: Option<Kind>,
    data_type: i32,
    count: usize,
    addresses: [u64; 2],
    stream: usize,
) -> Answer {
    let (kind, data_type) =
        (kind.ok_or(INVALID_ARGUMENT)?, DataType::new(data_type).ok_or(INVALID_ARGUMENT)?);
    let rank = Arc::clone(lock().ranks.get(rank).map_err(|_| INVALID_ARGUMENT)?);
    let peer = match kind {
        Kind::Send { to: peer } | Kind::Receive { from: peer } => peer,
        Kind::Broadcast { root: peer } | Kind::Reduce { root: peer, .. } => peer,
        Kind::AllReduce(_) | Kind::ReduceScatter(_) | Kind::AllGather => 0,
    };
    if peer >= rank.ranks {
        return Err(INVALID_ARGUMENT);
    }
    // The stream is named while its context is current: handles like null mean something else later.
    let stream = lock().stream(stream)?.0;
    let call = rank.call(kind, data_type, count, addresses);
    if DEPTH.get() == 0 {
        return submit(vec![(stream, call)]);
    }
    GROUP.with_borrow_mut(|group| group.calls.push((stream, call)));
    Ok(())
}

fn assemble(rank: &Rank) -> Answer {
    let patience = lock().config.patience;
    if rank.assembled(patience) {
        return Ok(());
    }
    eprintln!("[libcuda] rank {} of {}: the other ranks did not come", rank.rank, rank.ranks);
    Err(SYSTEM_ERROR)
}

/// One rank joins its communicator; it waits for the others, in a group at the group's end.
fn join(out: Out<usize>, id: UniqueId, ranks: usize, rank: usize) -> Answer {
    let device = lock().contexts.current()?.1.ordinal;
    let made = Rank::connect(id, ranks, rank, device).map_err(|error| {
        eprintln!("[libcuda] rank {rank} of {ranks}: {error}");
        SYSTEM_ERROR
    })?;
    out.set(lock().ranks.insert(Arc::clone(&made)))?;
    if DEPTH.get() == 0 {
        return assemble(&made);
    }
    GROUP.with_borrow_mut(|group| group.joins.push(made));
    Ok(())
}

fn join_encoded(out: Out<usize>, ranks: i32, id: &[u8; 128], rank: i32) -> Answer {
    let id = UniqueId::decode(id).ok_or(INVALID_ARGUMENT)?;
    let (ranks, rank) = (usize::try_from(ranks).ok(), usize::try_from(rank).ok());
    match (ranks, rank) {
        (Some(ranks), Some(rank)) if rank < ranks => join(out, id, ranks, rank),
        _ => Err(INVALID_ARGUMENT),
    }
}

fn create_id() -> Answer<UniqueId> {
    let patience = lock().config.patience;
    UniqueId::create(patience).map_err(|_| SYSTEM_ERROR)
}

/// Lets a rank's queued operations run.
fn drain(rank: &Arc<Rank>) {
    let driver = lock();
    let mut point = Clock::default();
    for (clock, work) in driver.streams.pending() {
        if matches!(work, Work::Post(call) | Work::Complete(call) if Arc::ptr_eq(&call.rank, rank)) {
            point.join(clock);
        }
    }
    // A fault is told by the calls on the stream.
    drop(wait(driver, &point));
}

fn find(rank: usize) -> Answer<Arc<Rank>> {
    lock().ranks.get(rank).map(Arc::clone).map_err(|_| INVALID_ARGUMENT)
}

fn remove(rank: usize) -> Answer<Arc<Rank>> {
    lock().ranks.remove(rank).map_err(|_| INVALID_ARGUMENT)
}

fn not_modelled(name: &str) -> Answer {
    eprintln!("[libcuda] {name} is not modelled by the stand-in");
    Err(INVALID_USAGE)
}

fn peer(number: i32) -> Answer<usize> {
    usize::try_from(number).map_err(|_| INVALID_ARGUMENT)
}

nccl_exports! {
    fn ncclGetVersion(version: Out<i32>) {
        Ok(version.set(VERSION)?)
    }

    fn ncclGetUniqueId(id: Out<[u8; 128]>) {
        Ok(id.set(create_id()?.encode())?)
    }

    fn ncclCommInitRank(rank: Out<usize>, ranks: i32, id: IdBytes, number: i32) {
        join_encoded(rank, ranks, &id.0, number)
    }

    fn ncclCommInitRankConfig(rank: Out<usize>, ranks: i32, id: IdBytes, number: i32, _config: usize) {
        join_encoded(rank, ranks, &id.0, number)
    }

    fn ncclCommInitAll(out: Out<usize>, count: i32, devices: In<i32>) {
        let ranks = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(INVALID_ARGUMENT)?;
        let devices = match devices.slice(ranks) {
            Ok(devices) => devices,
            Err(_) => (0..count).collect(),
        };
        let id = create_id()?;
        let mut handles = Vec::with_capacity(ranks);
        let mut made = Vec::with_capacity(ranks);
        for (number, device) in devices.into_iter().enumerate() {
            lock().device(device)?;
            let rank = Rank::connect(id, ranks, number, device).map_err(|_| SYSTEM_ERROR)?;
            handles.push(lock().ranks.insert(Arc::clone(&rank)));
            made.push(rank);
        }
        for rank in &made {
            assemble(rank)?;
        }
        Ok(out.set_all(&handles)?)
    }

    fn ncclCommFinalize(rank: usize) {
        drain(&find(rank)?);
        Ok(())
    }

    fn ncclCommDestroy(rank: usize) {
        let rank = remove(rank)?;
        drain(&rank);
        rank.leave();
        Ok(())
    }

    fn ncclCommAbort(rank: usize) {
        remove(rank)?.leave();
        Ok(())
    }

    fn ncclCommCount(rank: usize, count: Out<i32>) {
        Ok(count.set(find(rank)?.ranks as i32)?)
    }

    fn ncclCommUserRank(rank: usize, number: Out<i32>) {
        Ok(number.set(find(rank)?.rank as i32)?)
    }

    fn ncclCommCuDevice(rank: usize, device: Out<i32>) {
        Ok(device.set(find(rank)?.device)?)
    }

    fn ncclCommGetAsyncError(rank: usize, error: Out<i32>) {
        find(rank)?;
        let fault = context::current().and_then(|c| lock().contexts.get(c).ok().and_then(|c| c.fault));
        Ok(error.set(if fault.is_some() { UNHANDLED_CUDA_ERROR.0 } else { 0 })?)
    }

    fn ncclCommSplit(_rank: usize, _color: i32, _key: i32, _out: usize, _config: usize) {
        not_modelled("ncclCommSplit")
    }

    fn ncclRedOpCreatePreMulSum(_operator: usize, _scalar: usize, _data_type: i32, _residence: i32, _rank: usize) {
        not_modelled("ncclRedOpCreatePreMulSum")
    }

    fn ncclRedOpDestroy(_operator: i32, _rank: usize) {
        not_modelled("ncclRedOpDestroy")
    }

    fn ncclGroupStart() {
        DEPTH.set(DEPTH.get() + 1);
        Ok(())
    }

    fn ncclGroupEnd() {
        DEPTH.set(DEPTH.get().checked_sub(1).ok_or(INVALID_USAGE)?);
        if DEPTH.get() > 0 {
            return Ok(());
        }
        let Group { calls, joins } = GROUP.take();
        for rank in &joins {
            assemble(rank)?;
        }
        submit(calls)
    }

    fn ncclAllReduce(
        send: u64, receive: u64, count: usize, data_type: i32, operator: i32, rank: usize, stream: usize,
    ) {
        operate(rank, Operator::new(operator).map(Kind::AllReduce), data_type, count, [send, receive], stream)
    }

    fn ncclReduceScatter(
        send: u64, receive: u64, count: usize, data_type: i32, operator: i32, rank: usize, stream: usize,
    ) {
        operate(rank, Operator::new(operator).map(Kind::ReduceScatter), data_type, count, [send, receive], stream)
    }

    fn ncclAllGather(send: u64, receive: u64, count: usize, data_type: i32, rank: usize, stream: usize) {
        operate(rank, Some(Kind::AllGather), data_type, count, [send, receive], stream)
    }

    fn ncclBroadcast(
        send: u64, receive: u64, count: usize, data_type: i32, root: i32, rank: usize, stream: usize,
    ) {
        let kind = Kind::Broadcast { root: peer(root)? };
        operate(rank, Some(kind), data_type, count, [send, receive], stream)
    }

    fn ncclBcast(buffer: u64, count: usize, data_type: i32, root: i32, rank: usize, stream: usize) {
        let kind = Kind::Broadcast { root: peer(root)? };
        operate(rank, Some(kind), data_type, count, [buffer, buffer], stream)
    }

    fn ncclReduce(
        send: u64, receive: u64, count: usize, data_type: i32, operator: i32, root: i32, rank: usize, stream: usize,
    ) {
        let root = peer(root)?;
        let kind = Operator::new(operator).map(|operator| Kind::Reduce { operator, root });
        operate(rank, kind, data_type, count, [send, receive], stream)
    }

    fn ncclSend(send: u64, count: usize, data_type: i32, to: i32, rank: usize, stream: usize) {
        operate(rank, Some(Kind::Send { to: peer(to)? }), data_type, count, [send, 0], stream)
    }

    fn ncclRecv(receive: u64, count: usize, data_type: i32, from: i32, rank: usize, stream: usize) {
        operate(rank, Some(Kind::Receive { from: peer(from)? }), data_type, count, [0, receive], stream)
    }
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(result: i32) -> *const c_char {
    let text = usize::try_from(result).ok().and_then(|index| TEXTS.get(index));
    text.map_or(c"unknown result", |text| text).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_rank: usize) -> *const c_char {
    c"what went wrong was said on stderr".as_ptr()
}
