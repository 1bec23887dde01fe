//! The stand-in driver: what it offers beside CUDA.

use std::path::Path;

use libloading::Library;
use preceptor::base::{Error, Result};
use preceptor::device::cuda;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One kernel launch, as the stand-in saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Launch {
    /// The entry.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What was counted.
    #[serde(default)]
    pub counters: BTreeMap<String, serde_json::Value>,
}

/// A fault that a check found.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// The check's name, such as `shared-race`.
    pub check: String,
    /// The line in the `.cu` file; 0 if the PTX does not say.
    pub line: u32,
    /// What happened.
    pub message: String,
}

/// The modelled device and how the stand-in runs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Settings {
    /// `A100`, `RTX 4090`, `H100` or `RTX 5090`.
    pub device: String,
    /// With a seed, approximate instructions and the order of blocks are disturbed.
    pub seed: Option<u64>,
    /// Threads that interpret; without a number, one a core.
    pub threads: Option<usize>,
}

type Configure = unsafe extern "C" fn(*const u8, usize);
type Take = unsafe extern "C" fn(*mut usize) -> *mut u8;
type Free = unsafe extern "C" fn(*mut u8, usize);

/// The loaded stand-in.
#[derive(Debug)]
pub struct StandIn {
    configure: Configure,
    take: Take,
    free: Free,
    _library: Library,
}

impl StandIn {
    /// Loads the library at `path`, so that every CUDA call of this process reaches it.
    pub fn load(path: &Path) -> Result<Self> {
        cuda::preload(path)?;
        let fail = |e: libloading::Error| Error::input(format!("it is no stand-in driver: {e}")).file(path);
        // SAFETY: the library is loaded already; names and types are those that testkit/libcuda exports.
        #[expect(unsafe_code, reason = "a symbol's type is what we say it is")]
        unsafe {
            let library = Library::new(path).map_err(fail)?;
            Ok(Self {
                configure: *library.get(b"preceptor_testkit_configure\0").map_err(fail)?,
                take: *library.get(b"preceptor_testkit_take_report\0").map_err(fail)?,
                free: *library.get(b"preceptor_testkit_free_report\0").map_err(fail)?,
                _library: library,
            })
        }
    }

    /// Chooses the device; before the first CUDA call.
    pub fn configure(&self, settings: &Settings) {
        let text = serde_json::to_string(settings).expect("plain data");
        // SAFETY: the text lives through the call, which copies what it needs.
        #[expect(unsafe_code, reason = "a foreign function")]
        unsafe {
            (self.configure)(text.as_ptr(), text.len());
        }
    }

    /// The launches since the last call.
    pub fn launches(&self) -> Result<Vec<Launch>> {
        let mut length = 0;
        // SAFETY: the report is `length` bytes long and ours until it is given back.
        #[expect(unsafe_code, reason = "foreign memory")]
        let text = unsafe {
            let report = (self.take)(&mut length);
            let text = if report.is_null() {
                Vec::new()
            } else {
                std::slice::from_raw_parts(report, length).to_vec()
            };
            (self.free)(report, length);
            text
        };
        serde_json::from_slice(&text)
            .map_err(|e| Error::environment(format!("the stand-in's report is not understood: {e}")))
    }
}
