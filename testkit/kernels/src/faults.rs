//! Seeded faults: each breaks a kernel on purpose, and a check must say so.
//!
//! `faults/*.toml` lists them. A fault that nothing catches shows that the checks are blind there; a fault that
//! something else catches than its row says is a failure too, so the table stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use preceptor::base::{Error, Result, files};
use preceptor::device::cuda::{Nvrtc, Sources};
use serde::{Deserialize, Serialize};

use crate::budgets::Budgets;
use crate::report::Checked;
use crate::run::{self, Ran, Setup};
use crate::{gate, stand_in};

/// One fault.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What is wrong, in words.
    pub name: String,
    /// The kernel file whose cases must show it, without `.cu`.
    pub kernel: String,
    /// The header that is broken; without it, the kernel file.
    pub header: Option<String>,
    /// What stands there, once.
    pub find: String,
    /// What stands there then.
    pub replace: String,
    /// Who catches it: a check's name (`shared-race`, ...), `result` (wrong numbers), `rms` (numbers that are
    /// too often a little wrong), `counters` (bank conflicts, sectors, bytes, copies in flight), `gate` (it compiles, but not within its budget) or `error` (the driver refuses it).
    pub caught_by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    fault: Vec<Fault>,
}

/// The faults of the named kernel files, from all lists in a folder, in the order of the lists' names.
pub fn all(folder: &Path, kernels: &[String]) -> Result<Vec<Fault>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::input(e.to_string()).file(folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let list: List =
            toml::from_str(&files::read_text(&path)?).map_err(|e| Error::input(e.to_string()).file(&path))?;
        all.extend(list.fault.into_iter().filter(|fault| kernels.contains(&fault.kernel)));
    }
    Ok(all)
}

impl Fault {
    /// Who finds something, up to the first case or architecture on which the row's catcher does. The compile gate is
    /// asked only where it is said to: it takes longer than the cases.
    fn seed_and_run(&self, setup: &Setup, nvdisasm: &Path, budgets: &Budgets) -> Result<BTreeSet<String>> {
        let folder =
            tempfile::tempdir().map_err(|e| Error::environment(format!("no temporary folder: {e}")))?;
        self.seed(&setup.sources, folder.path())?;
        // what is compiled once for a fault is of no use later
        let sources = Sources::Folder(folder.path().into());
        let setup = Setup { sources, cache: None, ..setup.clone() };
        if self.caught_by == "gate" {
            let objects = self.gate_objects(&setup, nvdisasm, budgets)?;
            return Ok(objects.then(|| "gate".to_owned()).into_iter().collect());
        }
        let (device, kernels) = (stand_in::device_for(&self.kernel), std::slice::from_ref(&self.kernel));
        let ran = run::apart(&setup, device, kernels, Some(&self.caught_by))?;
        let mut by: BTreeSet<String> = ran.iter().flat_map(Ran::caught_by).collect();
        // budgets are for the largest case, and only a run that no other check stops comes to it
        let checked = Checked { file: self.kernel.clone(), ran, ..Checked::default() };
        if self.caught_by == "counters" && !checked.exceeded(budgets).is_empty() {
            by.insert(self.caught_by.clone());
        }
        Ok(by)
    }

    /// Whether the compile gate finds a budget exceeded, on the first architecture where it is.
    fn gate_objects(&self, setup: &Setup, nvdisasm: &Path, budgets: &Budgets) -> Result<bool> {
        let (nvrtc, source) = (Nvrtc::open(setup.nvrtc.as_deref())?, setup.sources.read(&self.kernel)?);
        for capability in gate::capabilities(&source) {
            let measured = gate::measure(&nvrtc, nvdisasm, &source, &[capability])?;
            if !gate::faults(&self.kernel, &measured, budgets).is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes all kernels and headers into a folder, one of them broken: a case may launch other kernels too.
    fn seed(&self, sources: &Sources, folder: &Path) -> Result<()> {
        let mut texts = BTreeMap::new();
        for name in Sources::names() {
            let source = sources.read(name)?;
            texts.extend(source.headers.into_iter().map(|(path, text)| (path.to_owned(), text)));
            texts.insert(source.path, source.text);
        }
        let broken = self.header.clone().unwrap_or_else(|| format!("{}.cu", self.kernel));
        let text = texts.get_mut(&broken);
        let text =
            text.ok_or_else(|| Error::input(format!("`{}`: there is no file `{broken}`", self.name)))?;
        *text = self.break_text(&broken, text)?.into();
        for (path, text) in texts {
            let to = folder.join(path);
            let within = to.parent().unwrap_or(folder);
            std::fs::create_dir_all(within).map_err(|e| Error::environment(e.to_string()).file(within))?;
            files::write_atomic(&to, text.as_bytes())?;
        }
        Ok(())
    }

    fn break_text(&self, path: &str, text: &str) -> Result<String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            times => Err(Error::input(format!(
                "fault `{}`: {path} holds its `find` {times} times, needed once: {:?}",
                self.name, self.find
            ))),
        }
    }
}

/// Seeds each fault and says who caught it, in the order of the list; as many at once as there are cores.
pub fn seed_all(
    list: &[Fault],
    setup: &Setup,
    nvdisasm: &Path,
    budgets: &Budgets,
) -> Result<Vec<BTreeSet<String>>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(fault) = list.get(index) else { return };
            let caught = fault.seed_and_run(setup, nvdisasm, budgets);
            done.lock().expect("no thread panics").insert(index, caught);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("no thread panics").into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checks seed few of them each time: a row whose place has moved would not be missed.
    #[test]
    fn every_fault_finds_its_place() {
        let kernels: Vec<String> = Sources::names().map(str::to_owned).collect();
        let faults = all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("faults"), &kernels).unwrap();
        assert!(!faults.is_empty());
        for fault in faults {
            let folder = tempfile::tempdir().unwrap();
            fault.seed(&Sources::Embedded, folder.path()).unwrap();
        }
    }
}
