//! Device memory, page-locked memory, copies, fills, pools.

use super::pointers::Out;
use crate::copies::Returns;
use crate::driver::Driver;
use crate::pinned::Origin;
use crate::run::{Guard, lock, wait};
use crate::status::{Outcome, Status};
use crate::streams::{Clock, StreamId};

/// The handle of the legacy stream, which synchronous calls use.
const LEGACY: usize = 0;

/// Waits for a point, if there is one.
fn wait_for(driver: Guard, point: Option<&Clock>) -> Outcome {
    point.map_or(Ok(()), |point| wait(driver, point).map(drop))
}

/// Locks, and finds the stream of a handle.
fn on(stream: usize) -> Outcome<(Guard, StreamId)> {
    let mut driver = lock();
    let stream = driver.stream(stream)?;
    Ok((driver, stream))
}

fn upload(to: u64, from: usize, bytes: usize, stream: usize, returns: Returns, call: &str) -> Outcome {
    let (mut driver, stream) = on(stream)?;
    let point = driver.upload(to, from, bytes, stream, returns, call)?;
    wait_for(driver, point.as_ref())
}

fn download(to: usize, from: u64, bytes: usize, stream: usize, returns: Returns, call: &str) -> Outcome {
    let (mut driver, stream) = on(stream)?;
    let point = driver.download(to, from, bytes, stream, returns, call)?;
    wait_for(driver, point.as_ref())
}

fn copy(to: u64, from: u64, bytes: usize, stream: usize, returns: Returns, call: &str) -> Outcome {
    let (mut driver, stream) = on(stream)?;
    driver.copy(to, from, bytes, stream, returns, call)
}

/// A copy between addresses of either side, told apart by the table of allocations.
fn copy_any(to: usize, from: usize, bytes: usize, stream: usize, returns: Returns, call: &str) -> Outcome {
    let is_device = |driver: &Driver, address: usize| driver.memory.holder(address as u64).is_some();
    let (to_device, from_device) = {
        let driver = lock();
        (is_device(&driver, to), is_device(&driver, from))
    };
    match (to_device, from_device) {
        (true, true) => copy(to as u64, from as u64, bytes, stream, returns, call),
        (true, false) => upload(to as u64, from, bytes, stream, returns, call),
        (false, true) => download(to, from as u64, bytes, stream, returns, call),
        (false, false) => Err(Status::ERROR_INVALID_VALUE),
    }
}

fn fill(to: u64, pattern: &[u8], count: usize, stream: usize, returns: Returns, call: &str) -> Outcome {
    let (mut driver, stream) = on(stream)?;
    driver.fill(to, pattern, count, stream, returns, call)
}

/// The program gives up page-locked memory; copies that still use it run first.
fn leave_host(address: usize, origin: Origin, call: &str) -> Outcome {
    if address == 0 {
        return Ok(());
    }
    let mut driver = lock();
    let point = driver.host_leave(address, origin, call)?;
    // A fault does not keep the memory.
    drop(wait(driver, &point));
    let mut driver = lock();
    match origin {
        Origin::Allocated => driver.host_release(address),
        Origin::Registered => driver.pinned.remove(address, origin).map(drop),
    }
}

super::exports! {
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) {
        address.set(lock().allocate(bytes, "cuMemAlloc")?)
    }

    fn cuMemAllocPitch_v2(address: Out<u64>, pitch: Out<usize>, width: usize, height: usize, _element: u32) {
        let row = width.next_multiple_of(512);
        let bytes = row.checked_mul(height).ok_or(Status::ERROR_INVALID_VALUE)?;
        address.set(lock().allocate(bytes, "cuMemAllocPitch")?)?;
        pitch.set(row)
    }

    fn cuMemFree_v2(address: u64) {
        if address == 0 {
            return Ok(());
        }
        let mut driver = lock();
        driver.captures.refuse_unsafe_call()?;
        let (_, point) = driver.context_point()?;
        driver.leave(address, "cuMemFree")?;
        let waited = wait(driver, &point).map(drop);
        lock().memory.release(address);
        waited
    }

    fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: usize) {
        let (mut driver, stream) = on(stream)?;
        address.set(driver.allocate_async(bytes, stream, "cuMemAllocAsync")?)
    }

    fn cuMemAllocFromPoolAsync(address: Out<u64>, bytes: usize, _pool: usize, stream: usize) {
        let (mut driver, stream) = on(stream)?;
        address.set(driver.allocate_async(bytes, stream, "cuMemAllocFromPoolAsync")?)
    }

    fn cuMemFreeAsync(address: u64, stream: usize) {
        let (mut driver, stream) = on(stream)?;
        driver.free_async(address, stream, "cuMemFreeAsync")
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let (_, free_bytes, total_bytes) = lock().memory_info()?;
        free.set(free_bytes as usize)?;
        total.set(total_bytes as usize)
    }

    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) {
        let driver = lock();
        let found = driver.memory.find(address, 0).map_err(|_| Status::ERROR_NOT_FOUND)?;
        start.set_optional(found.start);
        bytes.set_optional(found.bytes);
        Ok(())
    }

    fn cuMemcpyHtoD_v2(to: u64, from: usize, bytes: usize) {
        upload(to, from, bytes, LEGACY, Returns::Done, "cuMemcpyHtoD")
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: usize, bytes: usize, stream: usize) {
        upload(to, from, bytes, stream, Returns::Early, "cuMemcpyHtoDAsync")
    }

    fn cuMemcpyDtoH_v2(to: usize, from: u64, bytes: usize) {
        download(to, from, bytes, LEGACY, Returns::Done, "cuMemcpyDtoH")
    }

    fn cuMemcpyDtoHAsync_v2(to: usize, from: u64, bytes: usize, stream: usize) {
        download(to, from, bytes, stream, Returns::Early, "cuMemcpyDtoHAsync")
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes, LEGACY, Returns::Done, "cuMemcpyDtoD")
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) {
        copy(to, from, bytes, stream, Returns::Early, "cuMemcpyDtoDAsync")
    }

    fn cuMemcpyPeer(to: u64, _to_context: usize, from: u64, _from_context: usize, bytes: usize) {
        copy(to, from, bytes, LEGACY, Returns::Done, "cuMemcpyPeer")
    }

    fn cuMemcpyPeerAsync(
        to: u64, _to_context: usize, from: u64, _from_context: usize, bytes: usize, stream: usize,
    ) {
        copy(to, from, bytes, stream, Returns::Early, "cuMemcpyPeerAsync")
    }

    fn cuMemcpy(to: usize, from: usize, bytes: usize) {
        copy_any(to, from, bytes, LEGACY, Returns::Done, "cuMemcpy")
    }

    fn cuMemcpyAsync(to: usize, from: usize, bytes: usize, stream: usize) {
        copy_any(to, from, bytes, stream, Returns::Early, "cuMemcpyAsync")
    }

    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) {
        fill(to, &[value], count, LEGACY, Returns::Done, "cuMemsetD8")
    }

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: usize) {
        fill(to, &[value], count, stream, Returns::Early, "cuMemsetD8Async")
    }

    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) {
        fill(to, &value.to_le_bytes(), count, LEGACY, Returns::Done, "cuMemsetD16")
    }

    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: usize) {
        fill(to, &value.to_le_bytes(), count, stream, Returns::Early, "cuMemsetD16Async")
    }

    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) {
        fill(to, &value.to_le_bytes(), count, LEGACY, Returns::Done, "cuMemsetD32")
    }

    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: usize) {
        fill(to, &value.to_le_bytes(), count, stream, Returns::Early, "cuMemsetD32Async")
    }

    fn cuMemHostAlloc(address: Out<usize>, bytes: usize, _flags: u32) {
        address.set(lock().host_allocate(bytes)?)
    }

    fn cuMemAllocHost_v2(address: Out<usize>, bytes: usize) {
        address.set(lock().host_allocate(bytes)?)
    }

    fn cuMemFreeHost(address: usize) {
        leave_host(address, Origin::Allocated, "cuMemFreeHost")
    }

    fn cuMemHostRegister_v2(address: usize, bytes: usize, _flags: u32) {
        lock().host_register(address, bytes)
    }

    fn cuMemHostUnregister(address: usize) {
        leave_host(address, Origin::Registered, "cuMemHostUnregister")
    }

    fn cuDeviceGetDefaultMemPool(pool: Out<usize>, device: i32) {
        lock().device(device)?;
        pool.set(POOL)
    }

    fn cuDeviceGetMemPool(pool: Out<usize>, device: i32) {
        lock().device(device)?;
        pool.set(POOL)
    }

    fn cuDeviceSetMemPool(device: i32, _pool: usize) {
        lock().device(device).map(drop)
    }

    fn cuMemPoolTrimTo(_pool: usize, _keep: usize) {
        Ok(())
    }

    fn cuMemPoolGetAttribute(_pool: usize, number: u32, value: Out<u64>) {
        let driver = lock();
        let used = driver.memory.used(|_| true);
        match number {
            // Reuse rules are 32-bit values: all permitted.
            1..=3 => Out::<u32>::set(value.cast(), 1),
            4 => value.set(0),
            5..=8 => value.set(used),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAttribute(_pool: usize, number: u32, _value: usize) {
        if (1..=8).contains(&number) { Ok(()) } else { Err(Status::ERROR_INVALID_VALUE) }
    }
}

/// The one pool of every device: memory goes back to it, and no limit of it is modelled.
const POOL: usize = 0x8000_0000;
