//! Seeded faults: each breaks a kernel on purpose, and a check must say so.
//!
//! `faults/*.toml` lists them. A fault that nothing catches shows that the checks are blind there; a fault that
//! something else catches than its row says is a failure too, so the table stays true.

use std::collections::BTreeSet;
use std::path::Path;

use preceptor::base::{Error, Result, files};
use preceptor::device::cuda::Sources;
use serde::{Deserialize, Serialize};

use crate::report::Checked;

/// All faults, by the file that lists them.
const FAULTS: &[(&str, &str)] = &[
    ("adamw.toml", include_str!("../faults/adamw.toml")),
    ("attention.toml", include_str!("../faults/attention.toml")),
    ("gemm.toml", include_str!("../faults/gemm.toml")),
    ("lora.toml", include_str!("../faults/lora.toml")),
    ("rmsnorm.toml", include_str!("../faults/rmsnorm.toml")),
    ("swiglu.toml", include_str!("../faults/swiglu.toml")),
];

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
    /// Who catches it: a check's name (`shared-race`, ...), `result` (wrong numbers), `counters` (bank conflicts,
    /// sectors), `gate` (it does not compile, or not within its budget) or `error` (the driver refuses it).
    pub caught_by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    fault: Vec<Fault>,
}

/// All faults of the named kernel files.
pub fn all(kernels: &[String]) -> Result<Vec<Fault>> {
    let mut all = Vec::new();
    for (path, text) in FAULTS {
        let list: List =
            toml::from_str(text).map_err(|e| Error::input(e.to_string()).file(Path::new(path)))?;
        all.extend(list.fault.into_iter().filter(|fault| kernels.contains(&fault.kernel)));
    }
    Ok(all)
}

impl Fault {
    /// Writes the kernel and its headers, broken, into a folder.
    pub fn seed(&self, sources: &Sources, folder: &Path) -> Result<()> {
        let source = sources.read(&self.kernel)?;
        let headers = source.headers.iter().map(|(path, text)| ((*path).to_owned(), text));
        let kernel = (source.path.clone(), &source.text);
        let broken = self.header.clone().unwrap_or_else(|| source.path.clone());
        let mut seen = false;
        for (path, text) in headers.chain([kernel]) {
            let text = if path == broken {
                seen = true;
                self.break_text(&path, text)?
            } else {
                text.to_string()
            };
            files::write_atomic(&folder.join(path), text.as_bytes())?;
        }
        if seen {
            Ok(())
        } else {
            Err(Error::input(format!("`{}`: there is no header `{broken}`", self.name)))
        }
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

/// Who caught what is wrong with a kernel.
pub fn catchers(checked: &Checked, exceeded: bool) -> BTreeSet<String> {
    let mut by = BTreeSet::new();
    by.extend((!checked.faults.is_empty()).then(|| "gate".to_owned()));
    by.extend(exceeded.then(|| "counters".to_owned()));
    for ran in &checked.ran {
        by.extend(ran.error.is_some().then(|| "error".to_owned()));
        by.extend(ran.comparisons.iter().any(|c| !c.passes()).then(|| "result".to_owned()));
        let findings = ran.launches.iter().flat_map(|launch| &launch.findings);
        by.extend(findings.map(|finding| finding.check.clone()));
    }
    by
}
