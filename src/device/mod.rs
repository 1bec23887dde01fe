//! Where numbers live and run: memory, threads, the CPU's GEMM, the GPU's kernels.
//!
//! Model, loss, optimizer and trainer are written once against [`Device`] and [`Buffer`]; only `ops` looks
//! inside. The CPU computes in f32.

pub mod buffer;
pub mod cpu;
pub mod cuda;
pub mod settings;
pub mod trace;
pub mod weight;

pub use buffer::{Buffer, Part, PartMut};
pub use cpu::Cpu;
pub use cuda::{Gpu, Gpus, compiler, gpus};
pub use settings::Settings;
pub use trace::{Cost, Peaks, Span, Trace};
pub use weight::Weight;

use std::fs;

use crate::base::{Error, Result};

/// A place that computes.
#[derive(Debug)]
pub enum Device {
    /// The host's cores.
    Cpu(Cpu),
}

impl Device {
    /// Opens the device that the settings name.
    pub fn open(settings: &Settings) -> Result<Self> {
        match settings.kind {
            settings::Kind::Auto | settings::Kind::Cpu => Ok(Self::Cpu(Cpu::new(settings.threads)?)),
            settings::Kind::Cuda => {
                Err(Error::environment("cuda was asked for, but this version computes on the CPU only")
                    .key("device.kind")
                    .hint("use `cpu` or `auto`"))
            }
        }
    }

    /// A CPU that counts memory and computes nothing: a run on it is a plan of the run. Its buffers hold what memory
    /// held, and losses are zero.
    pub fn blank() -> Result<Self> {
        Ok(Self::Cpu(Cpu::blank()?))
    }

    /// Runs a stretch of work that calls many ops. Inside it the calling thread is one of the device's own, so that
    /// no op puts it to sleep and wakes another.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let Self::Cpu(cpu) = self;
        cpu.run(work)
    }

    /// A buffer of `rows` x `cols` f32 whose content is unspecified (NaN in debug builds).
    pub fn buffer(&self, rows: usize, cols: usize) -> Buffer {
        let Self::Cpu(cpu) = self;
        Buffer::new(cpu.memory(), rows, cols)
    }

    /// A buffer of zeros.
    pub fn zeros(&self, rows: usize, cols: usize) -> Buffer {
        let mut buffer = self.buffer(rows, cols);
        self.clear(&mut buffer);
        buffer
    }

    /// Sets all of a buffer to zero.
    pub fn clear(&self, buffer: &mut Buffer) {
        let Self::Cpu(cpu) = self;
        const PIECE: usize = 1 << 14;
        cpu.for_rows(buffer.values_mut(), PIECE, |_, piece| piece.fill(0.0));
    }

    /// A buffer with a copy of `values` (row-major, `rows` x `cols`).
    pub fn upload(&self, values: &[f32], rows: usize, cols: usize) -> Buffer {
        let mut buffer = self.buffer(rows, cols);
        buffer.values_mut().copy_from_slice(values);
        buffer
    }

    /// The device's name and size, for logs.
    pub fn describe(&self) -> String {
        let Self::Cpu(cpu) = self;
        format!("cpu, {} threads", cpu.threads())
    }

    /// FLOPs per second of a large matrix product, measured now.
    pub fn measured_peak(&self) -> f64 {
        let Self::Cpu(cpu) = self;
        cpu.measured_peak()
    }

    /// As [`Self::measured_peak`], but anew at each call, and short enough to stand between two updates.
    pub fn measure_pace(&self) -> f64 {
        let Self::Cpu(cpu) = self;
        cpu.measure_pace()
    }

    /// Bytes per second from and to memory, measured anew: about a second, and three times the last-level cache of
    /// memory.
    pub fn measure_bandwidth(&self) -> f64 {
        let Self::Cpu(cpu) = self;
        cpu.measure_bandwidth()
    }

    /// The calls of ops, recorded between its start and its stop.
    pub fn trace(&self) -> &Trace {
        let Self::Cpu(cpu) = self;
        cpu.trace()
    }

    /// For the head of an op: it runs until the value is dropped, and its equation needs `cost`.
    pub fn span(&self, name: &'static str, cost: impl FnOnce() -> Cost) -> Option<trace::Running<'_>> {
        self.trace().span(name, cost)
    }

    /// Bytes of buffers that are in use.
    pub fn used_bytes(&self) -> usize {
        let Self::Cpu(cpu) = self;
        cpu.memory().used_bytes()
    }

    /// The most bytes of activations that were ever in use at once.
    pub fn peak_bytes(&self) -> usize {
        let Self::Cpu(cpu) = self;
        cpu.memory().peak_bytes()
    }
}

/// The most bytes of memory that this process ever held, where the system says so.
pub fn peak_memory() -> Option<usize> {
    kib_of("/proc/self/status", "VmHWM:")
}

/// Bytes of memory that the system could still give, where it says so.
pub fn free_memory() -> Option<usize> {
    kib_of("/proc/meminfo", "MemAvailable:")
}

/// The bytes of a line `name N kB`.
fn kib_of(file: &str, name: &str) -> Option<usize> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|kib| kib * 1024)
}
