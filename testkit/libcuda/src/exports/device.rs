//! `cuInit`, versions, error names, devices.

use std::ffi::c_char;

use super::pointers::{Out, put_text};
use crate::run::lock;
use crate::status::Status;

/// CUDA 13.0.
const VERSION: i32 = 13000;

/// The attribute that a configuration may take away.
const MEMORY_POOLS: i32 = 115;

super::exports! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        lock().initialised = true;
        Ok(())
    }

    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(VERSION)
    }

    fn cuGetErrorName(error: i32, name: Out<*const c_char>) {
        let known = Status(error).name();
        name.set(known.map_or(std::ptr::null(), std::ffi::CStr::as_ptr))?;
        known.map(drop).ok_or(Status::ERROR_INVALID_VALUE)
    }

    fn cuGetErrorString(error: i32, text: Out<*const c_char>) {
        let known = Status(error).text();
        text.set(known.map_or(std::ptr::null(), std::ffi::CStr::as_ptr))?;
        known.map(drop).ok_or(Status::ERROR_INVALID_VALUE)
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        let driver = lock();
        driver.device(0)?;
        count.set(driver.config.count as i32)
    }

    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        lock().device(ordinal)?;
        device.set(ordinal)
    }

    fn cuDeviceGetName(buffer: *mut u8, room: i32, device: i32) {
        put_text(buffer, room.max(0) as usize, lock().device(device)?.name);
        Ok(())
    }

    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) {
        lock().device(device)?;
        let mut bytes = *b"preceptor-cpu-00";
        bytes[15] += device as u8;
        uuid.set(bytes)
    }

    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) {
        match cuDeviceGetUuid(uuid, device) {
            0 => Ok(()),
            code => Err(Status(code)),
        }
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        bytes.set(lock().device(device)?.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(value: Out<i32>, number: i32, device: i32) {
        let driver = lock();
        let modelled = driver.device(device)?.attribute(number, device)?;
        let without = number == MEMORY_POOLS && !driver.config.memory_pools;
        value.set(if without { 0 } else { modelled })
    }

    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        let driver = lock();
        driver.device(device)?;
        driver.device(peer)?;
        can.set(i32::from(device != peer))
    }

    fn cuDeviceGetPCIBusId(buffer: *mut u8, room: i32, device: i32) {
        lock().device(device)?;
        put_text(buffer, room.max(0) as usize, &format!("0000:{:02x}:00.0", device + 1));
        Ok(())
    }
}
