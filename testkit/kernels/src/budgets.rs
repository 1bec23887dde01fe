//! `kernels/budgets.toml`: what each entry may cost at most, and what it promises.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use preceptor::base::{Error, Result, files};
use serde::Deserialize;

use crate::gate::Measured;
use crate::sass::Moves;

/// The instructions that a kernel on tensor cores lives by.
const PROMISES: [&str; 5] = ["HMMA", "LDSM", "LDGSTS", "HGMMA", "UTMALDG"];

/// File, then entry, then what it may cost.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<String, BTreeMap<String, Budget>>);

/// One entry's budget. Spills and stack are 0 always.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Registers of a thread, on the architecture that takes most.
    pub registers: u32,
    /// Bytes of static shared memory.
    pub shared: u32,
    /// Machine instructions that must occur on every architecture.
    #[serde(default)]
    pub sass: Vec<String>,
    /// What an element moves; then `per_element` is counted.
    pub element: Option<Moves>,
    /// Machine instructions of a thread per element on sm_80 and sm_90, at most.
    pub per_element: Option<f64>,
    /// Machine instructions of a warp per matrix product on sm_80 and sm_90, at most.
    pub per_mma: Option<f64>,
    /// Sectors over the ideal of a measured case, at most; without it [`SECTORS`].
    pub sectors: Option<f64>,
    /// Wavefronts over the least of a measured case, at most; without it [`WAVEFRONTS`].
    pub wavefronts: Option<f64>,
    /// Bytes of the sectors of global memory over the least of a measured case, each tensor once, at most; without
    /// it [`BYTES`].
    pub bytes: Option<f64>,
    /// Groups of asynchronous copies in flight while a measured case issues a product, at least on average.
    pub in_flight: Option<f64>,
}

/// What a measured case of an entry moves and overlaps, at worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Bytes over the least.
    pub bytes: f64,
    /// Groups of asynchronous copies in flight.
    pub in_flight: f64,
}

/// What coalesced access may cost over the ideal: a tail of a row fills no sector.
pub const SECTORS: f64 = 1.02;
/// What a launch may move over each tensor once: the same, and small tensors that are read again.
pub const BYTES: f64 = 1.05;
/// What access to shared memory may cost over the least.
pub const WAVEFRONTS: f64 = 1.05;

impl Budgets {
    /// Reads the table; one that is not there has no rows.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = files::read_text(path)?;
        toml::from_str(&text).map_err(|e| Error::input(e.to_string()).file(path))
    }

    /// The budget of an entry.
    pub fn of(&self, file: &str, entry: &str) -> Option<&Budget> {
        self.0.get(file)?.get(entry)
    }

    /// All rows of a file.
    pub fn entries(&self, file: &str) -> impl Iterator<Item = &str> {
        self.0.get(file).into_iter().flat_map(|rows| rows.keys().map(String::as_str))
    }

    /// The files that have rows.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Replaces the rows of `file` by what was measured. What a row promises is kept.
    pub fn replace(&mut self, file: &str, measured: &BTreeMap<String, Measured>) {
        let old = self.0.remove(file).unwrap_or_default();
        let row = |(entry, measured): (&String, &Measured)| {
            let old = old.get(entry);
            let element = old.and_then(|row| row.element);
            let promised = |kind: &&str| measured.listings.values().all(|listing| listing.has(kind));
            let sass = old.map_or_else(
                || PROMISES.iter().filter(|kind| promised(kind)).map(|kind| (*kind).to_owned()).collect(),
                |row| row.sass.clone(),
            );
            let budget = Budget {
                registers: measured.most(|r| r.registers),
                shared: measured.most(|r| r.shared),
                sass,
                element,
                per_element: measured.per_element(element).map(round_up),
                per_mma: measured.per_mma().map(round_up),
                sectors: old.and_then(|row| row.sectors),
                wavefronts: old.and_then(|row| row.wavefronts),
                bytes: old.and_then(|row| row.bytes),
                in_flight: old.and_then(|row| row.in_flight),
            };
            (entry.clone(), budget)
        };
        self.0.insert(file.to_owned(), measured.iter().map(row).collect());
    }

    /// Puts what an entry moved into its row, where the usual limit does not fit.
    pub fn replace_moved(&mut self, file: &str, entry: &str, moved: Moved) {
        let row = self.0.get_mut(file).and_then(|rows| rows.get_mut(entry));
        if let Some(row) = row {
            row.bytes = (moved.bytes > BYTES).then(|| round_up(moved.bytes));
            row.in_flight = (moved.in_flight > 0.0).then(|| (moved.in_flight * 100.0).floor() / 100.0);
        }
    }

    /// The table as text.
    pub fn to_text(&self) -> String {
        let mut out = String::from(HEAD);
        for (file, rows) in &self.0 {
            for (entry, row) in rows {
                row.write(&mut out, file, entry).expect("a String takes everything");
            }
        }
        out
    }
}

const HEAD: &str = "\
# What each kernel entry may cost on sm_80, 86, 89, 90, 100 and 120; spills and stack are 0. A change that costs more
# is a change to be argued for here. `cargo xtask kernels --write-budgets` fills in what is measured, with `bytes` (of
# sectors of global memory over each tensor once, where the usual limit does not fit) and `in_flight` (groups of
# asynchronous copies while products are issued, at least), and keeps `sass` (machine instructions that must occur),
# `element` (bytes that an element stores or loads), `sectors` and `wavefronts` (over the least, as `bytes`).
";

impl Budget {
    fn write(&self, out: &mut String, file: &str, entry: &str) -> std::fmt::Result {
        let file = if file.contains('/') { format!("{file:?}") } else { file.to_owned() };
        writeln!(out, "\n[{file}.{entry}]\nregisters = {}\nshared = {}", self.registers, self.shared)?;
        if !self.sass.is_empty() {
            writeln!(out, "sass = {:?}", self.sass)?;
        }
        match self.element {
            Some(Moves::Stores(bytes)) => writeln!(out, "element = {{ stores = {bytes} }}")?,
            Some(Moves::Loads(bytes)) => writeln!(out, "element = {{ loads = {bytes} }}")?,
            None => {}
        }
        let mut limit =
            |name, value: Option<f64>| value.map_or(Ok(()), |value| writeln!(out, "{name} = {value:.2}"));
        limit("per_element", self.per_element)?;
        limit("per_mma", self.per_mma)?;
        limit("sectors", self.sectors)?;
        limit("wavefronts", self.wavefronts)?;
        limit("bytes", self.bytes)?;
        limit("in_flight", self.in_flight)
    }
}

fn round_up(x: f64) -> f64 {
    (x * 100.0).ceil() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_what_its_text_says() {
        let budget = Budget {
            registers: 96,
            shared: 128,
            sass: vec!["HMMA".into()],
            element: Some(Moves::Stores(2)),
            per_element: Some(8.25),
            per_mma: None,
            sectors: None,
            wavefronts: None,
            bytes: Some(2.5),
            in_flight: Some(1.75),
        };
        let rows = BTreeMap::from([("f_bf16".to_owned(), budget)]);
        let table = Budgets(BTreeMap::from([("attention/forward".to_owned(), rows)]));
        let again: Budgets = toml::from_str(&table.to_text()).unwrap();
        assert_eq!(again.0, table.0);
    }
}
