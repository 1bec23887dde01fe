//! `kernels check`: what `cargo xtask kernels` runs.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kernels::budgets::Budgets;
use kernels::report::Checked;
use kernels::run::{self, Ran, Setup};
use kernels::work::Shape;
use kernels::{conformance, faults, gate, gpu_check, page, stand_in, work};
use preceptor::base::{Error, Result, files};
use preceptor::device::cuda::nvrtc::Target;
use preceptor::device::cuda::{self, Nvrtc, Sources};

/// A time is the median of so many rounds, each the mean of so many launches.
const ROUNDS: usize = 9;
const TIMES: u64 = 10;

/// Compiles CUDA kernels, runs their cases and counts what they cost.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The compile gate, every case on every modelled device, and the counters; exit code 1 if anything is wrong
    Check(Check),
    /// The cases on one device, as JSON
    Run(Run),
    /// Breaks kernels in every way that is listed; exit code 1 if a fault is not caught as its row says
    Faults(Faults),
    /// One kernel for each modelled instruction form, on the device and in the interpreter
    Conformance(Conformance),
    /// Kernels at real shapes on the device's clock, a line of JSON each
    Bench(Bench),
    /// Compiles everything into the cache ahead of time, for a machine whose time is dear
    Compile(Compile),
    /// Conformance, cases, benches and compute-sanitizer: one folder of raw results
    GpuCheck(GpuCheck),
}

#[derive(Debug, Args)]
struct Bench {
    #[command(flatten)]
    common: Common,
    /// The modelled device
    #[arg(long)]
    device: Option<String>,
    /// Shapes that the stand-in can run; the times mean nothing
    #[arg(long)]
    small: bool,
    /// Tokens of the batch
    #[arg(long)]
    tokens: Option<usize>,
}

#[derive(Debug, Args)]
struct Compile {
    #[command(flatten)]
    common: Common,
    /// The compute capability, such as 90
    #[arg(long)]
    capability: u32,
}

#[derive(Debug, Args)]
struct GpuCheck {
    #[command(flatten)]
    common: Common,
    /// The modelled device
    #[arg(long)]
    device: Option<String>,
    /// The folder of raw results
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Faults {
    #[command(flatten)]
    common: Common,
    /// The disassembler
    #[arg(long)]
    nvdisasm: PathBuf,
    /// The committed budgets
    #[arg(long, default_value = "kernels/budgets.toml")]
    budgets: PathBuf,
    /// The folder that lists the faults
    #[arg(long, default_value = "testkit/kernels/faults")]
    lists: PathBuf,
    /// Of each kernel, only the first fault of each catcher: minutes instead of a quarter of an hour
    #[arg(long)]
    one_each: bool,
}

#[derive(Debug, Args)]
struct Conformance {
    #[command(flatten)]
    common: Common,
    /// The modelled device
    #[arg(long)]
    device: Option<String>,
    /// Write the device's raw outputs, one after the other, to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    common: Common,
    /// The disassembler; without it the compile gate is left out
    #[arg(long)]
    nvdisasm: Option<PathBuf>,
    /// The committed budgets
    #[arg(long, default_value = "kernels/budgets.toml")]
    budgets: PathBuf,
    /// Write what is measured into the budgets, instead of holding it against them
    #[arg(long, requires = "nvdisasm")]
    write_budgets: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write what the kernels cost beside their peers to this file
    #[arg(long, requires = "nvdisasm")]
    page: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// The modelled device
    #[arg(long)]
    device: Option<String>,
    /// Stop after the first case that this check (`result`, `shared-race`, ...) finds wrong
    #[arg(long)]
    until: Option<String>,
}

#[derive(Debug, Args)]
struct Common {
    /// Kernel files, such as `attention/forward`; all if none is named
    names: Vec<String>,
    /// A folder with the same names as kernels/, to judge a changed copy
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The stand-in driver; without it, the machine's
    #[arg(long)]
    stand_in: Option<PathBuf>,
    /// NVIDIA's compiler library; without it, the one that the loader finds
    #[arg(long)]
    nvrtc: Option<PathBuf>,
    /// Keep compiled kernels here
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Disturb approximate instructions and the order of blocks and streams
    #[arg(long)]
    seed: Option<u64>,
}

impl Common {
    fn kernels(&self) -> Result<Vec<String>> {
        let known: Vec<String> = Sources::names().map(str::to_owned).collect();
        if self.names.is_empty() {
            return Ok(known);
        }
        if let Some(name) = self.names.iter().find(|name| !known.contains(name)) {
            return Err(Error::input(format!("there is no kernel file `{name}`, needed one of {known:?}")));
        }
        Ok(self.names.clone())
    }

    fn setup(&self) -> Setup {
        Setup {
            stand_in: self.stand_in.clone(),
            nvrtc: self.nvrtc.clone(),
            sources: self.dir.clone().map_or(Sources::Embedded, Sources::Folder),
            cache: self.cache.clone(),
            seed: self.seed,
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Action::Check(check) => check.run(),
        Action::Run(run) => run.run(),
        Action::Faults(faults) => faults.run(),
        Action::Conformance(conformance) => conformance.run(),
        Action::Bench(bench) => bench.run(),
        Action::Compile(compile) => compile.run(),
        Action::GpuCheck(check) => gpu_check::run(&check.common.setup(), check.device.as_deref(), &check.out),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            if let Some(hint) = e.advice() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(e.kind().exit_code())
        }
    }
}

impl Run {
    fn run(&self) -> Result<bool> {
        let ran = run::here(
            &self.common.setup(),
            self.device.as_deref(),
            &self.common.kernels()?,
            self.until.as_deref(),
        )?;
        println!("{}", serde_json::to_string(&ran).expect("plain data"));
        Ok(ran.iter().all(Ran::passes))
    }
}

impl Check {
    fn run(&self) -> Result<bool> {
        let (names, setup) = (self.common.kernels()?, self.common.setup());
        let mut budgets = Budgets::read(&self.budgets)?;
        let mut checked: Vec<Checked> =
            names.iter().map(|file| Checked { file: file.clone(), ..Checked::default() }).collect();
        if let Some(nvdisasm) = &self.nvdisasm {
            let nvrtc = Nvrtc::open(setup.nvrtc.as_deref())?;
            for kernel in &mut checked {
                let source = setup.sources.read(&kernel.file)?;
                match gate::measure(&nvrtc, nvdisasm, &source, &gate::capabilities(&source)) {
                    Ok(measured) => kernel.measured = measured,
                    Err(e) => kernel.faults.push(e.to_string()),
                }
                if self.write_budgets && kernel.faults.is_empty() {
                    budgets.replace(&kernel.file, &kernel.measured);
                }
                kernel.faults.extend(gate::faults(&kernel.file, &kernel.measured, &budgets));
            }
            let known: Vec<&str> = Sources::names().collect();
            if let Some(file) = budgets.files().find(|file| !known.contains(file)) {
                let what = format!("rows for `{file}`, which is no kernel file");
                return Err(Error::input(what).file(&self.budgets));
            }
        }
        // A kernel that does not compile has nothing to run.
        let runs: Vec<String> = checked.iter().filter(|k| !k.broken()).map(|k| k.file.clone()).collect();
        for ran in cases(&setup, &runs)? {
            let of = checked.iter_mut().find(|kernel| kernel.file == ran.kernel);
            of.expect("only cases of these kernels run").ran.push(ran);
        }
        if self.write_budgets {
            for kernel in &checked {
                kernel.moved().into_iter().for_each(|(entry, moved)| {
                    budgets.replace_moved(&kernel.file, entry, moved);
                });
            }
            files::write_atomic(&self.budgets, budgets.to_text().as_bytes())?;
        }
        for kernel in &mut checked {
            let exceeded = kernel.exceeded(&budgets);
            kernel.faults.extend(exceeded);
        }
        if setup.stand_in.is_some() {
            checked.iter_mut().for_each(Checked::miss_cases);
        }
        let passes = checked.iter().all(Checked::passes);
        if let Some(path) = &self.page {
            files::write_atomic(path, page::page(&checked, &budgets)?.as_bytes())?;
        }
        if self.json {
            let all: Vec<_> = checked.iter().map(|kernel| kernel.json(&budgets)).collect();
            println!("{}", serde_json::to_string_pretty(&all).expect("plain data"));
        } else {
            checked.iter().flat_map(|kernel| kernel.lines(&budgets)).for_each(|line| println!("{line}"));
        }
        Ok(passes)
    }
}

impl Faults {
    fn run(&self) -> Result<bool> {
        let (setup, budgets) = (self.common.setup(), Budgets::read(&self.budgets)?);
        let mut list = faults::all(&self.lists, &self.common.kernels()?)?;
        if self.one_each {
            let mut seen = BTreeSet::new();
            list.retain(|fault| seen.insert((fault.kernel.clone(), fault.caught_by.clone())));
        }
        let seen = faults::seed_all(&list, &setup, &self.nvdisasm, &budgets)?;
        let mut caught = 0;
        for (fault, by) in list.iter().zip(seen) {
            let as_said = by.contains(&fault.caught_by);
            caught += usize::from(as_said);
            let by: Vec<String> = by.into_iter().collect();
            let mark = if as_said { "" } else { "  NOT CAUGHT AS SAID" };
            println!("{:<18} {:<64} {} [{}]{mark}", fault.kernel, fault.name, fault.caught_by, by.join(", "));
        }
        println!("{caught} of {} faults caught as their rows say", list.len());
        Ok(caught == list.len() && !list.is_empty())
    }
}

impl Compile {
    fn run(&self) -> Result<bool> {
        let setup = self.common.setup();
        let nvrtc = Nvrtc::open(setup.nvrtc.as_deref())?;
        let (form, capability) = nvrtc.target(self.capability)?;
        let kept = |sources: &Sources, file: &str| -> Result<()> {
            let source = sources.read(file)?;
            if source.only().is_some_and(|only| only != capability) {
                return Ok(());
            }
            let target = Target::new(form, capability, &source);
            cuda::compile(&nvrtc, &source, target, setup.cache.as_deref()).map(drop)
        };
        self.common.kernels()?.iter().try_for_each(|file| kept(&setup.sources, file))?;
        conformance::FILES.iter().try_for_each(|file| kept(&conformance::SOURCES, file))?;
        Ok(true)
    }
}

impl Bench {
    fn run(&self) -> Result<bool> {
        let setup = self.common.setup();
        let stand_in = setup.stand_in_as(self.device.as_deref())?;
        let cuda = setup.open()?;
        let shape = if self.small { work::SMALL } else { work::LARGE };
        let shape = Shape { n: self.tokens.unwrap_or(shape.n), ..shape };
        let kernels = self.common.kernels()?;
        for prepare in work::works(&cuda, shape) {
            if !kernels.iter().any(|file| file == prepare.file) {
                continue;
            }
            let mut work = prepare.work(&cuda)?;
            work.time_ms(&cuda, 1)?;
            let (rounds, times) = if self.small { (1, 1) } else { (ROUNDS, TIMES) };
            let round = |_| Ok(work.time_ms(&cuda, times)? / times as f64);
            let mut all = (0..rounds).map(round).collect::<Result<Vec<f64>>>()?;
            all.sort_by(f64::total_cmp);
            let ms = all[all.len() / 2];
            let line = serde_json::json!({
                "device": cuda.gpu().name, "stand_in": stand_in.is_some(), "work": work.name, "ms": ms,
                "least_ms": all[0], "most_ms": all[all.len() - 1],
                "gb_per_s": work.bytes as f64 / ms / 1e6, "tflop_per_s": work.flops as f64 / ms / 1e9,
            });
            println!("{line}");
        }
        Ok(true)
    }
}

impl Conformance {
    fn run(&self) -> Result<bool> {
        let setup = self.common.setup();
        let (forms, outcomes) = conformance::run(&setup, self.device.as_deref())?;
        let mut wrong = 0;
        if let Some(path) = &self.out {
            let raw: Vec<u8> = outcomes.iter().flat_map(|outcome| &outcome.found).copied().collect();
            files::write_atomic(path, &raw)?;
        }
        for (form, outcome) in forms.iter().zip(&outcomes) {
            wrong += usize::from(outcome.wrong > 0);
            let verdict = if outcome.wrong > 0 { "DIFFERS" } else { "agrees" };
            let (values, worst) = (outcome.wrong, outcome.worst);
            println!(
                "{verdict} {:<12} {:<28} {values} values, {worst:.3} of what is allowed",
                form.file, form.name
            );
        }
        println!("{} forms, {wrong} differ", forms.len());
        Ok(wrong == 0)
    }
}

/// The cases on every modelled device, or on the machine's own.
fn cases(setup: &Setup, kernels: &[String]) -> Result<Vec<Ran>> {
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    if setup.stand_in.is_none() {
        return run::here(setup, None, kernels, None);
    }
    let mut all = Vec::new();
    for device in stand_in::DEVICES {
        all.extend(run::apart(setup, device, kernels, None)?);
    }
    Ok(all)
}
