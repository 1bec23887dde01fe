//! The compile gate: machine code of every entry on every architecture, within the committed budgets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use preceptor::base::{Error, Result};
use preceptor::device::cuda::nvrtc::{Form, Nvrtc, Target};
use preceptor::device::cuda::{Source, signature};

use crate::budgets::Budgets;
use crate::resources::{self, Resources};
use crate::sass::{self, Listing, Moves};

/// The compute capabilities that kernels must compile for.
pub const CAPABILITIES: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// The two whose instructions are counted: what peers publish.
pub const COUNTED: [u32; 2] = [80, 90];

/// One entry on every architecture.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// By compute capability.
    pub resources: BTreeMap<u32, Resources>,
    /// By compute capability.
    pub listings: BTreeMap<u32, Listing>,
}

impl Measured {
    /// The most of a resource on any architecture.
    pub fn most(&self, of: impl Fn(&Resources) -> u32) -> u32 {
        self.resources.values().map(of).max().unwrap_or(0)
    }

    /// Machine instructions per matrix product, the worse of sm_80 and sm_90.
    pub fn per_mma(&self) -> Option<f64> {
        self.worst(Listing::per_mma)
    }

    /// Machine instructions per element, the worse of sm_80 and sm_90.
    pub fn per_element(&self, element: Option<Moves>) -> Option<f64> {
        element.and_then(|moves| self.worst(|listing| listing.per_element(moves)))
    }

    fn worst(&self, of: impl Fn(&Listing) -> Option<f64>) -> Option<f64> {
        COUNTED.iter().filter_map(|capability| of(self.listings.get(capability)?)).reduce(f64::max)
    }
}

/// The architectures that a file must compile for: all, or the only one that it is written for.
pub fn capabilities(source: &Source) -> Vec<u32> {
    source.only().map_or_else(|| CAPABILITIES.to_vec(), |only| vec![only])
}

/// Compiles `source` for these architectures; by entry.
pub fn measure(
    nvrtc: &Nvrtc,
    nvdisasm: &Path,
    source: &Source,
    capabilities: &[u32],
) -> Result<BTreeMap<String, Measured>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some(&capability) = capabilities.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = compile(nvrtc, nvdisasm, source, capability);
            done.lock().expect("no thread panics").push((capability, result));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().expect("no thread panics");
    done.sort_by_key(|(capability, _)| *capability);
    let mut entries: BTreeMap<String, Measured> = BTreeMap::new();
    for (capability, result) in done {
        for (entry, (resources, listing)) in result? {
            let measured = entries.entry(entry).or_default();
            measured.resources.insert(capability, resources);
            measured.listings.insert(capability, listing);
        }
    }
    let declared: BTreeSet<String> = signature::entries(&source.text).into_iter().collect();
    let compiled: BTreeSet<String> = entries.keys().cloned().collect();
    if declared != compiled {
        let what = format!("entries {compiled:?} were compiled, but the text declares {declared:?}");
        return Err(Error::input(what).file(&source.path));
    }
    Ok(entries)
}

fn compile(
    nvrtc: &Nvrtc,
    nvdisasm: &Path,
    source: &Source,
    capability: u32,
) -> Result<Vec<(String, (Resources, Listing))>> {
    let image =
        nvrtc.compile(source, Target::new(Form::Cubin, capability, source), &["--ptxas-options=-v"])?;
    let mut listings = sass::disassemble(nvdisasm, &image.bytes)?;
    let resources = resources::read(&image.log)?;
    let pair = |(entry, resources): (String, Resources)| {
        let listing = listings.remove(&entry).ok_or_else(|| {
            Error::environment(format!("the listing for sm_{capability} lacks `{entry}`")).file(&source.path)
        })?;
        Ok((entry, (resources, listing)))
    };
    resources.into_iter().map(pair).collect()
}

/// Where a file breaks its budgets.
pub fn faults(file: &str, measured: &BTreeMap<String, Measured>, budgets: &Budgets) -> Vec<String> {
    let mut faults = Vec::new();
    for (entry, measured) in measured {
        let Some(budget) = budgets.of(file, entry) else {
            faults.push(format!("{entry}: no row in budgets.toml"));
            continue;
        };
        for (capability, found) in &measured.resources {
            let limits = [
                ("registers", found.registers, budget.registers),
                ("bytes of shared memory", found.shared, budget.shared),
                ("bytes of spills", found.spills, 0),
                ("bytes of stack", found.stack, 0),
            ];
            for (what, found, limit) in limits.into_iter().filter(|(_, found, limit)| found > limit) {
                faults.push(format!("{entry}: sm_{capability}: {found} {what}, budget {limit}"));
            }
        }
        for (capability, listing) in &measured.listings {
            for kind in budget.sass.iter().filter(|kind| !listing.has(kind)) {
                faults.push(format!("{entry}: sm_{capability}: no {kind} in the machine code"));
            }
        }
        let limits = [
            ("element", measured.per_element(budget.element), budget.per_element),
            ("mma", measured.per_mma(), budget.per_mma),
        ];
        for (what, found, limit) in limits {
            if let (Some(found), Some(limit)) = (found, limit)
                && found > limit
            {
                faults
                    .push(format!("{entry}: {found:.2} machine instructions per {what}, budget {limit:.2}"));
            }
        }
    }
    let absent = budgets.entries(file).filter(|entry| !measured.contains_key(*entry));
    faults.extend(absent.map(|entry| format!("{entry}: a row in budgets.toml, but no such entry")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sass::Instruction;

    fn one(resources: Resources) -> BTreeMap<String, Measured> {
        let measured = Measured {
            resources: BTreeMap::from([(80, resources)]),
            listings: BTreeMap::from([(
                80,
                Listing(vec![Instruction { opcode: "HMMA.16816".into(), ..Instruction::default() }]),
            )]),
        };
        BTreeMap::from([("f".to_owned(), measured)])
    }

    #[test]
    fn every_limit_is_held() {
        let within = Resources { registers: 32, shared: 64, ..Resources::default() };
        let mut budgets = Budgets::default();
        assert_eq!(faults("x", &one(within), &budgets).len(), 1); // no row
        budgets.replace("x", &one(within));
        assert_eq!(budgets.of("x", "f").unwrap().sass, ["HMMA"]);
        assert_eq!(faults("x", &one(within), &budgets), [""; 0]);
        for worse in [
            Resources { registers: 33, ..within },
            Resources { shared: 65, ..within },
            Resources { spills: 4, ..within },
            Resources { stack: 8, ..within },
        ] {
            assert_eq!(faults("x", &one(worse), &budgets).len(), 1, "{worse:?}");
        }
        let mut without = one(within);
        without.get_mut("f").unwrap().listings.get_mut(&80).unwrap().0.clear();
        assert_eq!(faults("x", &without, &budgets).len(), 1);
        assert_eq!(faults("x", &BTreeMap::new(), &budgets).len(), 1); // a row too many
    }
}
