//! Runs one kernel from a job file and prints what was found and counted, as JSON.
//!
//! ```text
//! ptxrun JOB.json
//! {"ptx": "k.ptx", "entry": "name", "grid": [4, 1, 1], "block": [128, 1, 1], "shared": 0,
//!  "buffers": {"x": {"bytes": 4096, "from": "x.bin", "to": "x.out"}},
//!  "args": [{"buffer": "x", "offset": 0}, {"i32": 5}, {"f32": 1.0}, {"bytes": "00ff"},
//!           {"tensor_map": {"buffer": "x", "element_bytes": 2, "shape": [64, 32], "strides": [128],
//!                           "box": [64, 16], "swizzle": 128}}],
//!  "seed": null, "threads": null}
//! ```
//!
//! A tensor map begins with its fastest dimension; strides are in bytes, from the second dimension on.
//! Paths are relative to the job file. Buffers without `from` hold bytes that nothing wrote. Exit status: 0
//! where nothing was found, 1 where something was, 2 for a job or a kernel that it does not understand.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ptx::memory::swizzle::Swizzle;
use ptx::memory::tensor_map::{Element, Fill};
use ptx::{Kernel, Launch, Memory, Module, Options, Report, TensorMap, launch};
use serde::{Deserialize, Serialize};

/// A job file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    ptx: PathBuf,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(default)]
    shared: u32,
    #[serde(default)]
    buffers: BTreeMap<String, Buffer>,
    args: Vec<Argument>,
    seed: Option<u64>,
    threads: Option<usize>,
}

/// Global memory: its size, the file it starts as, the file it is written to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Buffer {
    bytes: Option<usize>,
    from: Option<PathBuf>,
    to: Option<PathBuf>,
}

/// A kernel's argument: one of these, and `offset` only with `buffer`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Argument {
    buffer: Option<String>,
    offset: Option<u64>,
    i32: Option<i32>,
    u32: Option<u32>,
    i64: Option<i64>,
    u64: Option<u64>,
    f32: Option<f32>,
    f64: Option<f64>,
    bytes: Option<String>,
    tensor_map: Option<Map>,
}

/// A tensor map of a buffer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    buffer: String,
    element_bytes: u32,
    shape: Vec<u64>,
    strides: Vec<u64>,
    #[serde(rename = "box")]
    tile: Vec<u32>,
    #[serde(default)]
    swizzle: u32,
}

/// What is printed.
#[derive(Serialize)]
struct Outcome<'a> {
    kernel: &'a str,
    #[serde(flatten)]
    report: &'a Report,
    seconds: f64,
    lane_instructions_per_second: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match &arguments[..] {
        [job] => run(Path::new(job)),
        _ => Err("usage: ptxrun JOB.json".to_owned()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("ptxrun: {message}");
            ExitCode::from(2)
        }
    }
}

/// Runs a job; true where nothing was found.
fn run(path: &Path) -> Result<bool, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let job: Job =
        serde_json::from_slice(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8(read(&folder.join(&job.ptx))?)
        .map_err(|error| format!("{}: {error}", job.ptx.display()))?;
    let mut module = Module::parse(&text)?;
    let memory = Memory::new();
    module.place(&memory)?;
    let kernel = module.kernel(&job.entry).ok_or_else(|| {
        let names: Vec<_> = module.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        format!("no entry `{}`; there are: {}", job.entry, names.join(", "))
    })?;

    let addresses = allocate(&job, folder, &memory)?;
    let parameters = parameters(&job, kernel, &addresses)?;
    let launched = Launch {
        kernel,
        grid: job.grid,
        block: job.block,
        dynamic_shared: job.shared,
        parameters: &parameters,
    };
    let options = Options { threads: job.threads.unwrap_or(0), seed: job.seed };
    let start = Instant::now();
    let report = launch(&module, &launched, &memory, &options);
    let seconds = start.elapsed().as_secs_f64();

    for (name, buffer) in &job.buffers {
        let Some(to) = &buffer.to else { continue };
        let (address, size) = addresses[name];
        let mut bytes = vec![0; size];
        memory.read(address, &mut bytes).map_err(|error| format!("buffer `{name}`: {error}"))?;
        let to = folder.join(to);
        std::fs::write(&to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    let outcome = Outcome {
        kernel: &kernel.name,
        report: &report,
        seconds,
        lane_instructions_per_second: report.counters.lane_instructions as f64 / seconds,
    };
    let json = serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| error.to_string())?;
    Ok(report.findings.is_empty())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Allocates the buffers; gives address and size of each.
fn allocate(job: &Job, folder: &Path, memory: &Memory) -> Result<BTreeMap<String, (u64, usize)>, String> {
    let mut addresses = BTreeMap::new();
    for (name, buffer) in &job.buffers {
        let values = buffer.from.as_ref().map(|from| read(&folder.join(from))).transpose()?;
        let size = match (buffer.bytes, &values) {
            (Some(bytes), Some(values)) if bytes != values.len() => {
                return Err(format!("buffer `{name}` has {bytes} bytes, its file {}", values.len()));
            }
            (Some(bytes), _) => bytes,
            (None, Some(values)) => values.len(),
            (None, None) => return Err(format!("buffer `{name}` needs `bytes` or `from`")),
        };
        let address = memory.allocate(size, name);
        if let Some(values) = values {
            memory.write(address, &values).map_err(|error| format!("buffer `{name}`: {error}"))?;
        }
        addresses.insert(name.clone(), (address, size));
    }
    Ok(addresses)
}

/// The arguments as the kernel's parameters lie in memory.
fn parameters(
    job: &Job,
    kernel: &Kernel,
    addresses: &BTreeMap<String, (u64, usize)>,
) -> Result<Vec<u8>, String> {
    if job.args.len() != kernel.parameters.len() {
        return Err(format!("{} arguments; the kernel has {}", job.args.len(), kernel.parameters.len()));
    }
    let mut bytes = vec![0; kernel.parameter_bytes as usize];
    for (index, (argument, parameter)) in job.args.iter().zip(&kernel.parameters).enumerate() {
        let value = argument.bytes(addresses).map_err(|error| format!("argument {index}: {error}"))?;
        let (start, size) = (parameter.offset as usize, parameter.bytes as usize);
        if value.len() != size {
            return Err(format!("argument {index} has {} bytes, `{}` {size}", value.len(), parameter.name));
        }
        bytes[start..start + size].copy_from_slice(&value);
    }
    Ok(bytes)
}

impl Argument {
    fn bytes(&self, addresses: &BTreeMap<String, (u64, usize)>) -> Result<Vec<u8>, String> {
        let address = |name: &String| {
            addresses.get(name).map(|&(address, _)| address).ok_or_else(|| format!("no buffer `{name}`"))
        };
        let pointer = |name| Ok((address(name)? + self.offset.unwrap_or(0)).to_le_bytes().to_vec());
        let forms: Vec<Result<Vec<u8>, String>> = [
            self.buffer.as_ref().map(pointer),
            self.i32.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.u32.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.i64.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.u64.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.f32.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.f64.map(|value| Ok(value.to_le_bytes().to_vec())),
            self.bytes.as_deref().map(from_hex),
            self.tensor_map.as_ref().map(|map| map.bytes(address(&map.buffer)?)),
        ]
        .into_iter()
        .flatten()
        .collect();
        match <[_; 1]>::try_from(forms) {
            Ok([form]) if self.offset.is_none() || self.buffer.is_some() => form,
            _ => Err("needs exactly one value, and `offset` only with `buffer`".to_owned()),
        }
    }
}

impl Map {
    fn bytes(&self, address: u64) -> Result<Vec<u8>, String> {
        let element = Element::from_bytes(self.element_bytes)
            .ok_or_else(|| format!("elements of {} bytes; there are 1, 2, 4, 8", self.element_bytes))?;
        let swizzle = Swizzle::from_bytes(self.swizzle)
            .ok_or_else(|| format!("a swizzle of {}; there are 0, 32, 64, 128", self.swizzle))?;
        let map = TensorMap {
            address,
            element,
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            element_strides: vec![1; self.shape.len()],
            tile: self.tile.clone(),
            swizzle,
            fill: Fill::Zero,
        };
        map.check()?;
        Ok(map.encode().to_vec())
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(format!("`{text}` is not hexadecimal bytes")),
    }
}
