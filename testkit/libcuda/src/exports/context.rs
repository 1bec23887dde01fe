//! Contexts.

use super::pointers::Out;
use crate::context;
use crate::run::{lock, wait};
use crate::status::{Outcome, Status};

/// Runs what a context still has to do, then ends it. A fault is no obstacle.
fn destroy(handle: usize) -> Outcome {
    let driver = lock();
    let point = driver.streams.context_tail(handle);
    drop(wait(driver, &point));
    lock().context_destroy(handle)
}

fn create(context: Out<usize>, flags: u32, device: i32) -> Outcome {
    let mut driver = lock();
    let handle = driver.context_create(device, false)?;
    driver.contexts.get_mut(handle)?.flags = flags;
    context::push(handle);
    context.set(handle)
}

/// Sizes that `cuCtxGetLimit` gives: stack, printf buffer, heap, and depths of launches from the device.
const LIMITS: [usize; 7] = [1024, 1 << 20, 8 << 20, 2, 2048, 128, 0];

super::exports! {
    fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: i32) {
        context.set(lock().primary_retain(device)?)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        let last = lock().contexts.release_primary(device)?;
        last.map_or(Ok(()), destroy)
    }

    fn cuDevicePrimaryCtxReset_v2(device: i32) {
        let primary = lock().contexts.primary(device);
        primary.map_or(Ok(()), destroy)
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let driver = lock();
        driver.device(device)?;
        flags.set(0)?;
        active.set(i32::from(driver.contexts.primary(device).is_some()))
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, _flags: u32) {
        lock().device(device).map(drop)
    }

    fn cuCtxCreate_v2(context: Out<usize>, flags: u32, device: i32) {
        create(context, flags, device)
    }

    fn cuCtxCreate_v3(context: Out<usize>, _affinity: usize, _count: i32, flags: u32, device: i32) {
        create(context, flags, device)
    }

    fn cuCtxCreate_v4(context: Out<usize>, parameters: usize, flags: u32, device: i32) {
        if parameters != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED); // contexts shared with graphics
        }
        create(context, flags, device)
    }

    fn cuCtxDestroy_v2(context: usize) {
        if lock().contexts.is_primary(context) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        lock().contexts.get(context)?;
        destroy(context)
    }

    fn cuCtxSetCurrent(context: usize) {
        if context != 0 {
            lock().contexts.get(context)?;
        }
        context::set_current((context != 0).then_some(context));
        Ok(())
    }

    fn cuCtxGetCurrent(context: Out<usize>) {
        if !lock().initialised {
            return Err(Status::ERROR_NOT_INITIALIZED);
        }
        context.set(context::current().unwrap_or(0))
    }

    fn cuCtxPushCurrent_v2(context: usize) {
        lock().contexts.get(context)?;
        context::push(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: Out<usize>) {
        let popped = context::pop()?;
        context.set_optional(popped);
        Ok(())
    }

    fn cuCtxGetDevice(device: Out<i32>) {
        device.set(lock().contexts.current()?.1.ordinal)
    }

    fn cuCtxGetApiVersion(context: usize, version: Out<u32>) {
        lock().contexts.get(context)?;
        version.set(4)
    }

    fn cuCtxSynchronize() {
        let mut driver = lock();
        let (_, point) = driver.context_point()?;
        wait(driver, &point).map(drop)
    }

    fn cuCtxGetFlags(flags: Out<u32>) {
        flags.set(lock().contexts.current()?.1.flags)
    }

    fn cuCtxSetFlags(flags: u32) {
        let mut driver = lock();
        let context = driver.contexts.healthy()?;
        driver.contexts.get_mut(context)?.flags = flags;
        Ok(())
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        lock().contexts.healthy()?;
        value.set(*LIMITS.get(limit as usize).ok_or(Status::ERROR_UNSUPPORTED_LIMIT)?)
    }

    fn cuCtxSetLimit(limit: u32, _value: usize) {
        lock().contexts.healthy()?;
        if LIMITS.len() <= limit as usize { Err(Status::ERROR_UNSUPPORTED_LIMIT) } else { Ok(()) }
    }

    fn cuCtxGetCacheConfig(config: Out<u32>) {
        lock().contexts.healthy()?;
        config.set(0)
    }

    fn cuCtxSetCacheConfig(_config: u32) {
        lock().contexts.healthy().map(drop)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        lock().contexts.healthy()?;
        least.set_optional(0);
        greatest.set_optional(-5);
        Ok(())
    }

    fn cuCtxEnablePeerAccess(context: usize, _flags: u32) {
        lock().contexts.get(context).map(drop)
    }

    fn cuCtxDisablePeerAccess(context: usize) {
        lock().contexts.get(context).map(drop)
    }
}
