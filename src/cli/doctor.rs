//! `preceptor doctor`: devices, their measured peaks, and what is missing.

use std::fs;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Common, output};
use crate::base::Result;
use crate::device::{self, Gpu, Gpus};

#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let device = common.open_device()?;
        let gflops = device.measured_peak() / 1e9;
        let memory = device::free_memory().map(|bytes| bytes as f64 / f64::from(1 << 30));
        let nvrtc = device::compiler();
        let name = cpu_name().unwrap_or_else(|| "unknown".into());
        output::print(|out| {
            if common.json {
                let facts = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "cpu": { "name": name, "device": device.describe(), "peak_gflops": gflops },
                    "free_memory_gib": memory,
                    "cuda": { "driver": device::gpus(), "nvrtc": nvrtc },
                });
                return writeln!(out, "{facts}");
            }
            writeln!(out, "preceptor {}", env!("CARGO_PKG_VERSION"))?;
            writeln!(out, "cpu     {name}")?;
            writeln!(
                out,
                "        {}, {gflops:.0} GFLOP/s measured on f32 matrix products",
                device.describe()
            )?;
            if let Some(memory) = memory {
                writeln!(out, "memory  {memory:.1} GiB free")?;
            }
            writeln!(out, "cuda    {}", gpus(device::gpus()))?;
            match nvrtc {
                Some((major, minor)) => writeln!(out, "        NVRTC {major}.{minor}")?,
                None => writeln!(out, "        NVRTC, which compiles kernels, was not found")?,
            }
            writeln!(out, "        kernels only: training computes on the CPU in this version")?;
            writeln!(out, "Nothing is missing.")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The driver and its devices, in a line.
fn gpus(found: &Gpus) -> String {
    let (cuda, devices) = match found {
        Gpus::NoDriver => return "no driver".into(),
        Gpus::Broken { error } => return format!("the driver does not start: {error}"),
        Gpus::Driver { cuda, devices } => (cuda, devices),
    };
    let device = |gpu: &Gpu| {
        let (major, minor) = (gpu.capability / 10, gpu.capability % 10);
        let memory = gpu.memory_bytes as f64 / f64::from(1 << 30);
        format!("{}, compute capability {major}.{minor}, {memory:.1} GiB; ", gpu.name)
    };
    let devices = if devices.is_empty() {
        "no device; ".into()
    } else {
        devices.iter().map(device).collect::<String>()
    };
    format!("{devices}driver for CUDA {}.{}", cuda / 1000, cuda % 1000 / 10)
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_probe_finds_is_a_line() {
        let gpu = Gpu { name: "A".into(), capability: 120, memory_bytes: 3 << 29, multiprocessors: 1 };
        assert_eq!(gpus(&Gpus::NoDriver), "no driver");
        assert_eq!(gpus(&Gpus::Driver { cuda: 12_080, devices: vec![] }), "no device; driver for CUDA 12.8");
        let line = "A, compute capability 12.0, 1.5 GiB; driver for CUDA 13.0";
        assert_eq!(gpus(&Gpus::Driver { cuda: 13_000, devices: vec![gpu] }), line);
    }
}
