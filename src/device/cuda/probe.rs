//! Which NVIDIA GPUs there are: a value, never a panic.

use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};
use serde::Serialize;

/// What the machine has of NVIDIA.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Gpus {
    /// No driver library can be loaded.
    NoDriver,
    /// There is a driver, but it does not start.
    Broken {
        /// The driver's words.
        error: String,
    },
    /// A driver, with the devices that it shows, perhaps none.
    Driver {
        /// The newest CUDA that it supports, as 1000 major + 10 minor.
        cuda: u32,
        /// The devices, in the driver's order.
        devices: Vec<Gpu>,
    },
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// The maker's name.
    pub name: String,
    /// Compute capability as 10 major + minor: 80, 90, 120.
    pub capability: u32,
    /// Bytes of device memory.
    pub memory_bytes: usize,
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
}

/// The machine's GPUs, looked for once.
pub fn gpus() -> &'static Gpus {
    static FOUND: OnceLock<Gpus> = OnceLock::new();
    FOUND.get_or_init(|| {
        // SAFETY: it opens and closes the driver library; loading a driver runs the driver's own code only.
        #[expect(unsafe_code, reason = "opens a foreign library")]
        let present = unsafe { sys::is_culib_present() };
        if !present {
            return Gpus::NoDriver;
        }
        look().unwrap_or_else(|e| Gpus::Broken { error: e.to_string() })
    })
}

fn look() -> Result<Gpus, DriverError> {
    let cuda = version()?;
    match result::init() {
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => {
            return Ok(Gpus::Driver { cuda, devices: Vec::new() });
        }
        started => started?,
    }
    let count = CudaContext::device_count()?;
    Ok(Gpus::Driver { cuda, devices: (0..count).map(gpu).collect::<Result<_, _>>()? })
}

#[expect(unsafe_code, reason = "an out-parameter")]
fn version() -> Result<u32, DriverError> {
    let mut version = 0;
    // SAFETY: it writes one int to the address of one.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok(version.unsigned_abs())
}

#[expect(unsafe_code, reason = "the device handle is a plain number")]
fn gpu(ordinal: i32) -> Result<Gpu, DriverError> {
    let device = result::device::get(ordinal)?;
    let attribute = |which| {
        // SAFETY: `device` is what the driver gave for this ordinal.
        unsafe { result::device::get_attribute(device, which) }.map(i32::unsigned_abs)
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(Gpu {
        name: result::device::get_name(device)?,
        capability: 10 * major + minor,
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
    })
}
