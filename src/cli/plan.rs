//! `preceptor plan`: memory and FLOPs of a run, before it runs. Its folder is not touched.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::source::RunArgs;
use super::{Common, output};
use crate::base::Result;
use crate::device::Device;
use crate::train::forecast::{self, Forecast, Item};

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    run: RunArgs,
}

impl Plan {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let locate = |e| self.run.locate(e);
        let config = self.run.load(common)?;
        let device = Device::open(&config.device).map_err(locate)?;
        let (text, decisive) = (config.to_toml(), config.decisive());
        let forecast = forecast::forecast(&config.job(&text, &decisive)).map_err(locate)?;
        let peak = device.measured_peak();
        output::print(|out| {
            if common.json {
                let mut json = serde_json::to_value(&forecast)?;
                json["device"] = json!(device.describe());
                json["peak_flops"] = json!(peak);
                return writeln!(out, "{json:#}");
            }
            report(out, &forecast, &device.describe(), peak)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn report(out: &mut dyn Write, plan: &Forecast, device: &str, peak: f64) -> io::Result<()> {
    let Forecast { updates, examples, tokens, trained_tokens, computed_tokens, flops, .. } = plan;
    writeln!(out, "{device}; {:.0} GFLOP/s measured\n", peak / 1e9)?;
    writeln!(out, "{updates} updates, {examples} examples")?;
    writeln!(out, "{tokens} tokens, of which {trained_tokens} carry loss; {computed_tokens} are computed")?;
    let (total, each) = (flops / 1e12, flops / 1e9 / *updates as f64);
    writeln!(
        out,
        "{total:.3} TFLOP, {each:.1} GFLOP an update; {} at the measured peak\n",
        time(flops / peak)
    )?;

    let mut row = |name: &str, count: usize, bytes: usize| {
        let count = if count > 1 { format!("{count} x") } else { String::new() };
        writeln!(out, "  {name:<28}{count:>6}{:>12.1} MiB", bytes as f64 / f64::from(1 << 20))
    };
    let sum = |items: &[Item]| items.iter().map(|item| item.bytes).sum::<usize>();
    for item in &plan.fixed {
        row(item.name, item.count, item.bytes)?;
    }
    for item in &plan.kept {
        row(item.name, item.count, item.bytes)?;
    }
    row("working space", 1, plan.working_bytes)?;
    row("arena at its fullest", 1, plan.arena_bytes)?;
    let outside: Vec<Item> = plan.fixed.iter().filter(|item| !item.in_arena).cloned().collect();
    row("all of it", 1, plan.arena_bytes + sum(&outside))?;
    let largest = plan.largest;
    writeln!(out, "\nfullest with {} tokens, {} of them before a loss", largest.tokens, largest.loss_rows)
}

fn time(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.1} s"),
        ..7200.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
