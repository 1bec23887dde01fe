//! Running cases, in a process of their own for each modelled device: a driver is loaded once a process.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use preceptor::base::{Error, Result};
use preceptor::device::cuda::{self, Cuda, Options, Sources};
use preceptor::device::{self, Device};
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::case::{Case, Cost};
use crate::cases;
use crate::compare::Comparison;
use crate::stand_in::{Launch, Settings, StandIn};

/// One case on one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ran {
    /// The device's key, or the name of a real one.
    pub device: String,
    /// The kernel file.
    pub kernel: String,
    /// The case.
    pub case: String,
    /// Its outputs.
    pub comparisons: Vec<Comparison>,
    /// What it measures.
    pub costs: Vec<Cost>,
    /// What the stand-in saw.
    pub launches: Vec<Launch>,
    /// Why it did not come to an end.
    pub error: Option<String>,
}

impl Ran {
    /// Whether everything is as it must be.
    pub fn passes(&self) -> bool {
        self.error.is_none() && self.findings() == 0 && self.comparisons.iter().all(Comparison::passes)
    }

    /// The number of findings.
    pub fn findings(&self) -> usize {
        self.launches.iter().map(|launch| launch.findings.len()).sum()
    }

    /// Who found what is wrong: `error`, `result`, `rms`, or a check's name.
    pub fn caught_by(&self) -> BTreeSet<String> {
        let wrong = [
            ("error", self.error.is_some()),
            ("result", !self.comparisons.iter().all(Comparison::within_maximum)),
            ("rms", !self.comparisons.iter().all(Comparison::within_rms)),
        ];
        let wrong = wrong.into_iter().filter(|(_, wrong)| *wrong).map(|(name, _)| name.to_owned());
        let findings = self.launches.iter().flat_map(|launch| &launch.findings);
        wrong.chain(findings.map(|finding| finding.check.clone())).collect()
    }

    /// The launch that a cost is about.
    pub fn launch_of(&self, cost: &Cost) -> Option<&Launch> {
        let about = |launch: &&Launch| match &cost.entry {
            Some(entry) => launch.kernel == *entry,
            None => !launch.kernel.is_empty(),
        };
        self.launches.iter().rfind(about)
    }
}

/// Where cases run and what they compile.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The stand-in; without one, the machine's driver.
    pub stand_in: Option<PathBuf>,
    /// The compiler library; without one, the one that the loader finds.
    pub nvrtc: Option<PathBuf>,
    /// The kernels' text.
    pub sources: Sources,
    /// Where compiled kernels are kept.
    pub cache: Option<PathBuf>,
    /// Disturbs what may be disturbed.
    pub seed: Option<u64>,
}

impl Setup {
    /// Loads the stand-in as the modelled device `key`, where there is one.
    pub fn stand_in_as(&self, key: Option<&str>) -> Result<Option<StandIn>> {
        let load = |path: &Path| {
            let device = key.unwrap_or_default().to_owned();
            StandIn::load(path, &Settings { device, seed: self.seed })
        };
        self.stand_in.as_deref().map(load).transpose()
    }

    /// Opens the first GPU with these sources.
    pub fn open(&self) -> Result<Cuda> {
        let Self { nvrtc, sources, cache, .. } = self.clone();
        Cuda::open(&Options { index: 0, nvrtc, sources, cache })
    }

    /// The options of this program that give the same setup.
    pub fn arguments(&self) -> Vec<OsString> {
        let folder = match &self.sources {
            Sources::Folder(folder) => Some(folder.clone()),
            _ => None,
        };
        let paths = [
            ("--stand-in", &self.stand_in),
            ("--nvrtc", &self.nvrtc),
            ("--cache", &self.cache),
            ("--dir", &folder),
        ];
        let mut arguments = Vec::new();
        for (option, path) in paths {
            if let Some(path) = path {
                arguments.extend([option.into(), path.clone().into_os_string()]);
            }
        }
        if let Some(seed) = self.seed {
            arguments.extend(["--seed".into(), seed.to_string().into()]);
        }
        arguments
    }
}

/// Runs the cases of `kernels` in this process, on the modelled device `key` or on the machine's first GPU; all, or
/// those up to the first that is `caught_by` a certain check.
pub fn here(
    setup: &Setup,
    key: Option<&str>,
    kernels: &[String],
    caught_by: Option<&str>,
) -> Result<Vec<Ran>> {
    let stand_in = setup.stand_in_as(key)?;
    let cuda = setup.open()?;
    let device = key.map_or_else(|| cuda.gpu().name.clone(), str::to_owned);
    let bench = Bench { cuda, cpu: Device::open(&device::Settings::default())? };
    let mut all = Vec::new();
    let capability = bench.cuda.gpu().capability;
    let runs = |case: &Case| {
        kernels.iter().any(|name| name == case.kernel)
            && cuda::only(case.kernel).is_none_or(|only| only == capability)
    };
    for case in cases::all().into_iter().filter(runs) {
        // The next case shall not pay for this one's queue.
        let outcome = case.run(&bench).and_then(|outcome| bench.cuda.synchronize().map(|()| outcome));
        let launches = stand_in.as_ref().map(StandIn::launches).transpose()?.unwrap_or_default();
        let (outcome, error) = match outcome {
            Ok(outcome) => (outcome, None),
            Err(e) => (Default::default(), Some(e.to_string())),
        };
        // A driver error stays with its process: nothing that follows could be believed.
        let broken = error.is_some();
        let ran = Ran {
            device: device.clone(),
            kernel: case.kernel.to_owned(),
            case: case.name,
            comparisons: outcome.comparisons,
            costs: outcome.costs,
            launches,
            error,
        };
        let caught = caught_by.is_some_and(|check| ran.caught_by().contains(check));
        all.push(ran);
        if broken || caught {
            break;
        }
    }
    Ok(all)
}

/// As [`here`], by this program in a process of its own.
pub fn apart(setup: &Setup, key: &str, kernels: &[String], caught_by: Option<&str>) -> Result<Vec<Ran>> {
    let program =
        std::env::current_exe().map_err(|e| Error::environment(format!("cannot find myself: {e}")))?;
    let mut command = Command::new(program);
    command.arg("run").args(kernels).args(["--device", key]);
    command.args(caught_by.map(|check| format!("--until={check}"))).args(setup.arguments());
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| Error::environment(format!("cannot start myself: {e}")))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::environment(format!("the cases on {key} ended with {}", output.status)))
}
