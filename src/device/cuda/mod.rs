//! NVIDIA GPUs: which there are, their memory, and kernels compiled on the machine that runs them.
//!
//! Everything here is compiled on every machine; the driver and the compiler are found at run time. All
//! work of a [`Cuda`] runs on one stream, in order.

mod buffer;
mod launch;
mod library;
mod modules;
pub mod nvrtc;
mod probe;
pub mod signature;
mod sources;
mod tensor_map;
mod timing;
mod variant;

pub use buffer::{Element, Slice, View, ViewMut};
pub use launch::{Arg, Entry, Grid};
pub use library::preload;
pub use modules::{cache_folder, compile};
pub use nvrtc::{Nvrtc, compiler};
pub use probe::{Gpu, Gpus, gpus};
pub use sources::{Source, Sources, only};
pub use tensor_map::TensorMap;
pub use variant::Kernel;

use std::path::PathBuf;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError};

use crate::base::{Error, Result};
use modules::Modules;

/// How to open a GPU.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of several.
    pub index: usize,
    /// The compiler library; without a path, the one that the system's loader finds.
    pub nvrtc: Option<PathBuf>,
    /// The kernels' text.
    pub sources: Sources,
    /// The folder where compiled kernels are kept; without one they are compiled anew in each run.
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { index: 0, nvrtc: None, sources: Sources::Embedded, cache: cache_folder() }
    }
}

/// A GPU with one stream of work and its kernels.
#[derive(Debug)]
pub struct Cuda {
    gpu: Gpu,
    // Dropped in this order: modules before the stream, and that before the context.
    modules: Modules,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Cuda {
    /// Opens a GPU and the compiler.
    pub fn open(options: &Options) -> Result<Self> {
        let gpu = find(options.index)?.clone();
        let nvrtc = Nvrtc::open(options.nvrtc.as_deref())?;
        let target = nvrtc.target(gpu.capability)?;
        let context = CudaContext::new(options.index).map_err(|e| failed("open the device", e))?;
        // SAFETY: events order the use of memory between streams; here there is one stream.
        #[expect(unsafe_code, reason = "ordering becomes ours to keep")]
        unsafe {
            context.disable_event_tracking();
        }
        let stream = context.new_stream().map_err(|e| failed("make a stream", e))?;
        let (sources, cache) = (options.sources.clone(), options.cache.clone());
        let modules = Modules::new(Arc::clone(&context), nvrtc, target, sources, cache)?;
        Ok(Self { gpu, modules, stream, context })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Waits for all queued work; an error of a kernel shows here at the latest.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(|e| failed("wait for the device", e))
    }
}

fn find(index: usize) -> Result<&'static Gpu> {
    let devices = match gpus() {
        Gpus::NoDriver => {
            return Err(Error::environment("no CUDA driver was found").hint("use the CPU device"));
        }
        Gpus::Broken { error } => {
            return Err(Error::environment(format!("the CUDA driver does not start: {error}")));
        }
        Gpus::Driver { devices, .. } => devices,
    };
    devices.get(index).ok_or_else(|| {
        let what = format!("there is no GPU {index}, found {}", devices.len());
        Error::environment(what).key("device.index").hint("GPUs count from 0")
    })
}

/// The driver's refusal to do `what`.
fn failed(what: &str, e: DriverError) -> Error {
    let name =
        e.error_name().map_or_else(|_| format!("{:?}", e.0), |name| name.to_string_lossy().into_owned());
    Error::environment(format!("the CUDA driver cannot {what}: {name}"))
}
