//! `preceptor doctor`: devices, their measured peaks, and what is missing.

use std::fs;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Common, output};
use crate::base::Result;
use crate::device;

#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let device = common.open_device()?;
        let gflops = device.measured_peak() / 1e9;
        let memory = device::free_memory().map(|bytes| bytes as f64 / f64::from(1 << 30));
        let name = cpu_name().unwrap_or_else(|| "unknown".into());
        output::print(|out| {
            if common.json {
                let facts = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "cpu": { "name": name, "device": device.describe(), "peak_gflops": gflops },
                    "free_memory_gib": memory,
                    "cuda": null,
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
            writeln!(out, "cuda    not in this version: it computes on the CPU")?;
            writeln!(out, "Nothing is missing.")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
