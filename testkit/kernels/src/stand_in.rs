//! The stand-in driver: what it offers beside CUDA.

use std::path::Path;
use std::slice;

use libloading::Library;
use preceptor::base::{Error, Result};
use preceptor::device::cuda;
use serde::{Deserialize, Serialize};

/// The devices that cases run on: one for each of the compiler's code generators.
pub const DEVICES: [&str; 3] = ["a100", "h100", "rtx5090"];

/// The device that runs a kernel's faults: the first that its file is written for.
pub fn device_for(kernel: &str) -> &'static str {
    match cuda::only(kernel) {
        None => DEVICES[0],
        Some(90) => "h100",
        Some(other) => panic!("no modelled device of compute capability {other}"),
    }
}

/// The modelled device and how the stand-in runs.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// One of [`DEVICES`], or `rtx4090`.
    pub device: String,
    /// With a seed, approximate instructions and the order of blocks and streams are disturbed.
    pub seed: Option<u64>,
}

/// One kernel launch; or, without a kernel, a finding outside of kernels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// The entry.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What was counted.
    pub counters: Counters,
}

/// A fault that a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// The check's name, such as `shared-race`.
    pub check: String,
    /// The source file.
    pub file: String,
    /// Its line; 0 if the PTX does not say.
    pub line: u32,
    /// The PTX instruction.
    pub instruction: String,
    /// The block.
    pub block: [u32; 3],
    /// The warp in the block.
    pub warp: u32,
    /// The lanes, as bits.
    pub lanes: u32,
    /// What was found and what was needed.
    pub message: String,
}

/// What a launch asked of the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// PTX instructions executed by warps.
    pub warp_instructions: u64,
    /// PTX instructions executed by lanes.
    pub lane_instructions: u64,
    /// Products of 16 x 8 x 16, or as many of another shape.
    pub mma: f64,
    /// Groups of asynchronous copies in flight in a warp while it issues a product, on average.
    pub in_flight: f64,
    /// Phases of barriers.
    pub barriers: u64,
    /// Requests to global memory.
    pub global: Traffic,
    /// Requests to shared memory.
    pub shared: Wavefronts,
}

/// Requests to global memory by kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Traffic {
    pub loads: Requests,
    pub stores: Requests,
    pub atomics: Requests,
    pub bulk: Requests,
}

/// Warp-wide requests to global memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Their number.
    pub requests: u64,
    /// Sectors of 32 bytes that they touch.
    pub sectors: u64,
    /// Sectors that the lanes' bytes would fill.
    pub ideal_sectors: u64,
    /// Bytes that the lanes ask for.
    pub bytes: u64,
}

/// Warp-wide requests to shared memory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wavefronts {
    /// Their number.
    pub requests: u64,
    /// Passes over the banks that they take.
    pub wavefronts: u64,
    /// The fewest that their bytes need.
    pub least: u64,
}

impl Traffic {
    /// All requests.
    pub fn total(&self) -> Requests {
        [self.loads, self.stores, self.atomics, self.bulk].into_iter().fold(Requests::default(), |a, b| {
            Requests {
                requests: a.requests + b.requests,
                sectors: a.sectors + b.sectors,
                ideal_sectors: a.ideal_sectors + b.ideal_sectors,
                bytes: a.bytes + b.bytes,
            }
        })
    }
}

type Configure = unsafe extern "C" fn(*const u8, usize) -> i32;
type Take = unsafe extern "C" fn(*mut usize) -> *mut u8;
type Free = unsafe extern "C" fn(*mut u8, usize);

/// The loaded stand-in.
#[derive(Debug)]
pub struct StandIn {
    take: Take,
    free: Free,
    _library: Library,
}

impl StandIn {
    /// Loads the library at `path`, so that every CUDA call of this process reaches it; once a process, and
    /// before the first CUDA call.
    #[expect(unsafe_code, reason = "foreign functions are what we say they are")]
    pub fn load(path: &Path, settings: &Settings) -> Result<Self> {
        cuda::preload(path)?;
        let fail = |e: libloading::Error| Error::input(format!("it is no stand-in driver: {e}")).file(path);
        let text = serde_json::to_string(settings).expect("plain data");
        // SAFETY: the library is loaded already; names and types are those that testkit/libcuda exports. The
        // text lives through the call, which copies what it needs.
        let (loaded, status) = unsafe {
            let library = Library::new(path).map_err(fail)?;
            let configure = *library.get::<Configure>(b"preceptor_testkit_configure\0").map_err(fail)?;
            let take = *library.get(b"preceptor_testkit_take_report\0").map_err(fail)?;
            let free = *library.get(b"preceptor_testkit_free_report\0").map_err(fail)?;
            (Self { take, free, _library: library }, configure(text.as_ptr(), text.len()))
        };
        if status != 0 {
            return Err(Error::input(format!("it refuses the settings {text}")).file(path));
        }
        Ok(loaded)
    }

    /// The launches, and what else was found, since the last call.
    pub fn launches(&self) -> Result<Vec<Launch>> {
        let mut length = 0;
        // SAFETY: the report is `length` bytes long and ours until it is given back.
        #[expect(unsafe_code, reason = "foreign memory")]
        let text = unsafe {
            let report = (self.take)(&mut length);
            assert!(!report.is_null(), "the stand-in gives a report always");
            let text = slice::from_raw_parts(report, length).to_vec();
            (self.free)(report, length);
            text
        };
        serde_json::from_slice(&text)
            .map_err(|e| Error::environment(format!("the stand-in's report is not understood: {e}")))
    }
}
