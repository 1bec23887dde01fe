//! What is told of a kernel: one line an entry, and everything as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::budgets::{BYTES, Budgets, Moved, SECTORS, WAVEFRONTS};
use crate::compare::Comparison;
use crate::gate::{COUNTED, Measured};
use crate::run::Ran;
use crate::stand_in::Counters;

/// One kernel file.
#[derive(Debug, Default)]
pub struct Checked {
    /// Its name.
    pub file: String,
    /// The compile gate, by entry; empty where the gate was not asked for.
    pub measured: BTreeMap<String, Measured>,
    /// What the gate holds against it.
    pub faults: Vec<String>,
    /// Its cases.
    pub ran: Vec<Ran>,
}

/// What peers publish of a kernel, or what was counted of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Bytes of the sectors that are asked for, over the least.
    pub traffic: f64,
    /// Sectors over the ideal.
    pub sectors: f64,
    /// Passes over the banks of shared memory over the least.
    pub wavefronts: f64,
    /// Machine instructions per element or per matrix product.
    pub sass: f64,
    /// Registers of a thread.
    pub registers: f64,
    /// Bytes that a thread spills.
    pub spilled: f64,
}

impl Checked {
    /// Holds it against the file if an entry was compiled that no case launches.
    pub fn miss_cases(&mut self) {
        let launched = |entry: &String| {
            self.ran.iter().flat_map(|ran| &ran.launches).any(|launch| launch.kernel == *entry)
        };
        let missing = self.measured.keys().filter(|entry| !launched(entry));
        self.faults.extend(missing.map(|entry| format!("{entry}: no case launches it")));
    }

    /// Whether nothing is wrong.
    pub fn passes(&self) -> bool {
        self.faults.is_empty() && self.ran.iter().all(Ran::passes)
    }

    /// Whether it does not even compile.
    pub fn broken(&self) -> bool {
        self.measured.is_empty() && !self.faults.is_empty()
    }

    /// The lines for people: one an entry, then what is wrong.
    pub fn lines(&self, budgets: &Budgets) -> Vec<String> {
        let launches = self.ran.iter().flat_map(|ran| &ran.launches);
        let ran = launches.map(|launch| &launch.kernel).filter(|entry| !entry.is_empty());
        let entries: BTreeSet<&String> = self.measured.keys().chain(ran).collect();
        let mut lines: Vec<String> = entries.iter().map(|entry| self.line(entry, budgets)).collect();
        // A real driver does not tell which entries ran.
        if self.ran.iter().any(|ran| ran.launches.is_empty()) {
            lines.push(format!("{:<32} {}", self.file, summary(self.ran.iter())));
        }
        lines.extend(self.faults.iter().map(|fault| format!("  FAULT {fault}")));
        lines.extend(self.ran.iter().flat_map(faults_of));
        lines
    }

    fn line(&self, entry: &str, budgets: &Budgets) -> String {
        let mut parts = Vec::new();
        if let Some(measured) = self.measured.get(entry) {
            parts.push(format!("{} regs", measured.most(|r| r.registers)));
            parts.push(format!("{} spills", measured.most(|r| r.spills)));
            let element = budgets.of(&self.file, entry).and_then(|budget| budget.element);
            parts.extend(measured.per_element(element).map(|n| format!("{n:.2} SASS/el")));
            parts.extend(measured.per_mma().map(|n| format!("{n:.2} SASS/mma")));
        }
        let launches = |ran: &&Ran| ran.launches.iter().any(|launch| launch.kernel == entry);
        if self.ran.iter().all(|ran| !ran.launches.is_empty()) {
            parts.push(summary(self.ran.iter().filter(launches)));
        }
        // The largest shape, on the first device: what a kernel costs is not what its edges cost.
        let largest = self.costs(entry).reduce(|a, b| if b.elements > a.elements { b } else { a });
        parts.extend(largest.map(|cost| cost.words()));
        format!("{entry:<32} {}", parts.join(", "))
    }

    /// The measurements of an entry, on every device.
    fn costs(&self, entry: &str) -> impl Iterator<Item = Measurement<'_>> {
        self.ran.iter().flat_map(move |ran| {
            let of = move |cost| {
                let launch = ran.launch_of(cost).filter(|launch| launch.kernel == entry)?;
                Some(Measurement {
                    ran,
                    counters: &launch.counters,
                    elements: cost.elements,
                    bytes: cost.bytes,
                })
            };
            ran.costs.iter().filter_map(of)
        })
    }

    /// What an entry costs on one architecture that is counted.
    pub fn figures(&self, entry: &str, budgets: &Budgets, capability: u32) -> Option<Figures> {
        let measured = self.measured.get(entry)?;
        let (listing, resources) =
            (measured.listings.get(&capability)?, measured.resources.get(&capability)?);
        let element = budgets.of(&self.file, entry).and_then(|budget| budget.element);
        let device = if capability < 90 { "a100" } else { "h100" };
        let costs = self.costs(entry).filter(|cost| cost.ran.device == device);
        let [sectors, traffic, wavefronts] = costs.max_by_key(|cost| cost.elements)?.ratios();
        Some(Figures {
            traffic,
            sectors,
            wavefronts,
            sass: listing.per_mma().or_else(|| listing.per_element(element?))?,
            registers: f64::from(resources.registers),
            spilled: f64::from(resources.spills),
        })
    }

    /// The largest measured case of an entry on each device: edges cost what they cost.
    fn largest(&self, entry: &str) -> BTreeMap<&str, Measurement<'_>> {
        let mut largest: BTreeMap<&str, Measurement<'_>> = BTreeMap::new();
        for cost in self.costs(entry) {
            let known = largest.get(cost.ran.device.as_str());
            if known.is_none_or(|known| known.elements < cost.elements) {
                largest.insert(&cost.ran.device, cost);
            }
        }
        largest
    }

    fn launched(&self) -> BTreeSet<&String> {
        self.ran.iter().flat_map(|ran| &ran.launches).map(|launch| &launch.kernel).collect()
    }

    /// What each entry that is measured moves and overlaps, on the device where it is worst.
    pub fn moved(&self) -> Vec<(&str, Moved)> {
        let worst = |entry: &&String| {
            let all = self
                .largest(entry)
                .into_values()
                .map(|cost| Moved { bytes: cost.ratios()[1], in_flight: cost.counters.in_flight });
            all.reduce(|a, b| Moved { bytes: a.bytes.max(b.bytes), in_flight: a.in_flight.min(b.in_flight) })
        };
        self.launched().into_iter().filter_map(|entry| Some((entry.as_str(), worst(&entry)?))).collect()
    }

    /// Where the largest measured case of an entry moves more than it may, or overlaps less.
    pub fn exceeded(&self, budgets: &Budgets) -> Vec<String> {
        let mut faults = Vec::new();
        for entry in self.launched() {
            let budget = budgets.of(&self.file, entry).cloned().unwrap_or_default();
            for cost in self.largest(entry).values() {
                let [sectors, bytes, wavefronts] = cost.ratios();
                let Ran { case, device, .. } = cost.ran;
                let limits = [
                    ("sectors", sectors, budget.sectors.unwrap_or(SECTORS)),
                    ("bytes", bytes, budget.bytes.unwrap_or(BYTES)),
                    ("wavefronts", wavefronts, budget.wavefronts.unwrap_or(WAVEFRONTS)),
                ];
                for (what, found, limit) in limits.into_iter().filter(|(_, found, limit)| found > limit) {
                    faults.push(format!(
                        "{entry}: {case} on {device}: {found:.3} times the least {what}, budget {limit}"
                    ));
                }
                if let Some(least) = budget.in_flight.filter(|&least| cost.counters.in_flight < least) {
                    let found = cost.counters.in_flight;
                    faults.push(format!(
                        "{entry}: {case} on {device}: {found:.3} groups of copies in flight, budget at least {least}"
                    ));
                }
            }
        }
        faults
    }

    /// Everything.
    pub fn json(&self, budgets: &Budgets) -> Value {
        let entry = |(entry, measured): (&String, &Measured)| {
            let element = budgets.of(&self.file, entry).and_then(|budget| budget.element);
            let counted = COUNTED.iter().filter_map(|capability| {
                let listing = measured.listings.get(capability)?;
                let per_element = element.and_then(|moves| listing.per_element(moves));
                let counts = json!({ "per_element": per_element, "per_mma": listing.per_mma() });
                Some((format!("sm_{capability}"), counts))
            });
            let value = json!({
                "resources": measured.resources,
                "sass": counted.collect::<serde_json::Map<_, _>>(),
                "costs": self.costs(entry).map(|cost| cost.json()).collect::<Vec<_>>(),
            });
            (entry.clone(), value)
        };
        json!({
            "file": self.file,
            "passes": self.passes(),
            "faults": self.faults,
            "entries": self.measured.iter().map(entry).collect::<serde_json::Map<_, _>>(),
            "cases": self.ran,
        })
    }
}

/// A launch beside the least that it has to do.
struct Measurement<'a> {
    ran: &'a Ran,
    counters: &'a Counters,
    elements: u64,
    bytes: u64,
}

impl Measurement<'_> {
    fn per_unit(&self) -> (f64, &'static str) {
        if self.counters.mma > 0.0 {
            (self.counters.warp_instructions as f64 / self.counters.mma, "PTX/mma")
        } else {
            (self.counters.lane_instructions as f64 / self.elements.max(1) as f64, "PTX/el")
        }
    }

    /// Sectors over the ideal, bytes of sectors over the least, wavefronts over the least.
    fn ratios(&self) -> [f64; 3] {
        let (global, shared) = (self.counters.global.total(), self.counters.shared);
        let over = |a: u64, b: u64| if b == 0 { 1.0 } else { a as f64 / b as f64 };
        [
            over(global.sectors, global.ideal_sectors),
            over(32 * global.sectors, self.bytes),
            over(shared.wavefronts, shared.least),
        ]
    }

    fn words(&self) -> String {
        let ((number, unit), [sectors, bytes, wavefronts]) = (self.per_unit(), self.ratios());
        let in_flight = self.counters.in_flight;
        let ahead =
            if in_flight > 0.0 { format!(", {in_flight:.2} groups in flight") } else { String::new() };
        format!(
            "{number:.2} {unit}, sectors x{sectors:.2}, bytes x{bytes:.2}, wavefronts x{wavefronts:.2}{ahead}"
        )
    }

    fn json(&self) -> Value {
        let ((number, unit), [sectors, bytes, wavefronts]) = (self.per_unit(), self.ratios());
        json!({
            "case": self.ran.case, "device": self.ran.device, unit: number, "sectors_over_ideal": sectors,
            "bytes_over_least": bytes, "wavefronts_over_least": wavefronts, "least_bytes": self.bytes,
            "groups_in_flight": self.counters.in_flight,
        })
    }
}

/// `21 cases, worst 0.50 of limit, 0 findings`
fn summary<'a>(ran: impl Iterator<Item = &'a Ran> + Clone) -> String {
    let all = ran.clone().count();
    let failed = ran.clone().filter(|ran| !ran.passes()).count();
    let worst = ran.clone().flat_map(|ran| &ran.comparisons).map(Comparison::ratio).fold(0.0, f64::max);
    let findings: usize = ran.map(Ran::findings).sum();
    let failed = if failed > 0 { format!(" ({failed} FAILED)") } else { String::new() };
    format!("{all} cases{failed}, worst {worst:.2} of limit, {findings} findings")
}

/// A line for each thing that is wrong with a case.
fn faults_of(ran: &Ran) -> Vec<String> {
    let place = format!("{}: {} on {}", ran.kernel, ran.case, ran.device);
    let mut lines: Vec<String> = ran.error.iter().map(|e| format!("  FAULT {place}: {e}")).collect();
    for c in ran.comparisons.iter().filter(|c| !c.passes()) {
        let Comparison { what, error, non_finite, rms, .. } = c;
        let (limit, rms_limit) = (c.limit(), c.rms_limit());
        lines.push(format!(
            "  FAULT {place}: {what}: error {error:.3e}, limit {limit:.3e}, root mean square {rms:.3e}, limit {rms_limit:.3e}, {non_finite} not finite"
        ));
    }
    for finding in ran.launches.iter().flat_map(|launch| &launch.findings) {
        let crate::stand_in::Finding { check, file, line, message, .. } = finding;
        lines.push(format!("  FAULT {place}: {check} at {file}:{line}: {message}"));
    }
    lines
}
