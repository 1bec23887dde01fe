//! `preceptor bench`: how fast a run's own updates are, and what the machine would allow. Its folder is not touched.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum, value_parser};

use super::source::RunArgs;
use super::{Common, output};
use crate::base::{Error, Result, files};
use crate::device::Device;
use crate::train::bench::{self, Comparison, Kind, Measure, Saved, Unit, quartiles};

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(flatten)]
    run: RunArgs,
    /// Updates to time, the run's first ones
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = value_parser!(u64).range(1..=1 << 20))]
    updates: u64,
    /// Updates before them that do not count
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = value_parser!(u64).range(..=1 << 20))]
    warmup: u64,
    /// Time answers instead of updates: to the questions of data.eval, else of data.train
    #[arg(long, value_enum, value_name = "HOW")]
    scoring: Option<Scoring>,
    /// Questions that stand for an update (with --scoring)
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    questions: usize,
    /// Write what was measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write when which op ran to this file, for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Compare with what --out wrote in an older run of the same work
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scoring {
    /// The most probable letter after the prompt
    Letter,
    /// The option whose text is the most probable answer
    OptionText,
}

impl Bench {
    pub(super) fn run(&self, common: &Common) -> Result<ExitCode> {
        let locate = |e| self.run.locate(e);
        let config = self.run.load(common)?;
        for path in [&self.out, &self.trace].into_iter().flatten() {
            files::check_writable(path)?;
        }
        let old = self.against.as_deref().map(read).transpose()?;

        let (text, decisive) = (config.to_toml(), config.decisive());
        let device = Device::open(&config.device).map_err(locate)?;
        let job = config.job(&text, &decisive);
        let bench = bench::Bench::open(&job, &device, self.measure()).map_err(locate)?;
        if let (Some(old), Some(path)) = (&old, &self.against) {
            old.check_work(bench.work()).map_err(|e| e.file(path))?;
        }
        let (saved, timeline) = bench.run().map_err(locate)?;

        let comparison = old.map(|old| saved.against(&old));
        let mut json = serde_json::to_value(&saved).expect("measures can be written as JSON");
        if let Some(path) = &self.out {
            files::write_atomic(path, format!("{json:#}\n").as_bytes())?;
        }
        if let Some(path) = &self.trace {
            files::write_atomic_with(path, |out| timeline.write(out))?;
        }
        output::print(|out| {
            if common.json {
                if let Some(comparison) = &comparison {
                    json["against"] = serde_json::to_value(comparison)?;
                }
                return writeln!(out, "{json:#}");
            }
            report(out, &saved)?;
            comparison.as_ref().map_or(Ok(()), |comparison| report_comparison(out, comparison))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn measure(&self) -> Measure {
        let kind = match self.scoring {
            None => Kind::Train,
            Some(Scoring::Letter) => Kind::Letter,
            Some(Scoring::OptionText) => Kind::OptionText,
        };
        let Self { updates, warmup, questions, .. } = *self;
        Measure { kind, updates, warmup, questions }
    }
}

/// What an older bench wrote.
fn read(path: &Path) -> Result<Saved> {
    serde_json::from_str(&files::read_text(path)?).map_err(|e| {
        Error::input(format!("not what `bench --out` writes: {e}"))
            .file(path)
            .hint("name a file that `preceptor bench --out` wrote, of this version")
    })
}

fn report(out: &mut dyn Write, saved: &Saved) -> io::Result<()> {
    let (units, seconds) = (saved.counted(), saved.seconds());
    let ([low, peak, high], bandwidth) = (saved.peaks().map(|peak| peak / 1e9), saved.peak_bandwidth / 1e9);
    writeln!(
        out,
        "{}; {peak:.0} GFLOP/s between units, quartiles {low:.0} to {high:.0}; {bandwidth:.1} GB/s",
        saved.device
    )?;
    let what = if saved.kind == Kind::Train { "updates" } else { "blocks of questions" };
    writeln!(out, "{} {what} in {seconds:.2} s, after {} that do not count\n", units.len(), saved.warmup)?;

    writeln!(out, "{:<22}{:>10}   quartiles", "", "median")?;
    let mut row = |name: &str, of: &dyn Fn(&Unit) -> Option<f64>| {
        let Some(values) = units.iter().map(of).collect::<Option<Vec<_>>>() else { return Ok(()) };
        let [low, median, high] = quartiles(&values).map(number);
        writeln!(out, "{name:<22}{median:>10}   {low} to {high}")
    };
    if saved.kind == Kind::Train {
        row("real tokens/s", &|u| Some(u.tokens?.real as f64 / u.seconds))?;
        row("trained tokens/s", &|u| Some(u.tokens?.trained as f64 / u.seconds))?;
        row("computed tokens/s", &|u| Some(u.tokens?.computed as f64 / u.seconds))?;
        row("ms an update", &|u| Some(u.seconds * 1e3))?;
        row("MFU, %", &|u| Some(100.0 * u.flops? / u.seconds / saved.peaks()[1]))?;
    } else {
        row("questions/s", &|u| Some(u.examples as f64 / u.seconds))?;
        row("ms a block", &|u| Some(u.seconds * 1e3))?;
    }

    let (mut ops, ops_seconds): (Vec<_>, f64) =
        (saved.ops.iter().collect(), saved.ops.iter().map(|op| op.seconds).sum());
    ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    writeln!(
        out,
        "\n{:<26}{:>8}{:>11}{:>9}{:>12}{:>10}{:>11}{:>12}",
        "op", "calls", "time, ms", "share, %", "GFLOP", "GB", "floor, ms", "time/floor"
    )?;
    let mut line = |name: &str, calls: &str, time: f64, work: Option<[f64; 3]>| {
        let share = 100.0 * time / seconds;
        write!(out, "{name:<26}{calls:>8}{:>11.1}{share:>9.1}", time * 1e3)?;
        if let Some([flops, bytes, floor]) = work {
            let (gflop, gb, ms) = (flops / 1e9, bytes / 1e9, floor * 1e3);
            write!(out, "{gflop:>12.2}{gb:>10.3}{ms:>11.1}{:>12.2}", time / floor)?;
        }
        writeln!(out)
    };
    for op in &ops {
        line(&op.name, &op.calls.to_string(), op.seconds, Some([op.flops, op.bytes, op.floor]))?;
    }
    line("outside of ops", "", seconds - ops_seconds, None)?;
    let sum = |of: fn(&bench::Op) -> f64| ops.iter().map(|op| of(op)).sum::<f64>();
    line("total", "", seconds, Some([sum(|op| op.flops), sum(|op| op.bytes), sum(|op| op.floor)]))?;

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    write!(out, "\npeak memory: {:.1} MiB of activations", mib(saved.memory_bytes))?;
    if let Some(bytes) = saved.process_bytes {
        write!(out, ", {:.1} MiB of the process", mib(bytes))?;
    }
    writeln!(out)
}

fn report_comparison(out: &mut dyn Write, comparison: &Comparison) -> io::Result<()> {
    let Comparison { total, quartiles: [low, median, high], ops, memory } = comparison;
    writeln!(out, "\nold / new: {total:.3} of the total time, {memory:.3} of the activations")?;
    writeln!(out, "           {median:.3} of an update's time, quartiles {low:.3} to {high:.3}")?;
    for (name, ratio) in ops {
        let ratio = ratio.map_or_else(|| "new".to_owned(), |ratio| format!("{ratio:.3}"));
        writeln!(out, "{name:<26}{ratio:>8}")?;
    }
    Ok(())
}

/// Four significant digits, or all before the point.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 1000.0 {
        0
    } else if value.abs() >= 100.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}
