//! docs/kernels.md: what our kernels cost beside the better peer's, by the same counters.
//!
//! `page.toml` says which peer an entry is held against, and has a sentence for each figure in which ours is
//! behind; a figure that is behind without a sentence is an error, and so is a sentence without one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use preceptor::base::{Error, Result};
use preceptor::device::cuda::only;
use serde::Deserialize;

use crate::budgets::Budgets;
use crate::gate::COUNTED;
use crate::report::{Checked, Figures};

const ROWS: &str = include_str!("../page.toml");
const PEERS: &str = include_str!("../../peers/better.toml");

/// How much more than the peer's counts as behind: the peers' figures have two or three digits.
const ROUNDING: f64 = 1.01;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The kernel file and the entry.
    file: String,
    entry: String,
    /// The peer, a table of better.toml; without one there is no peer with such a kernel.
    peer: Option<String>,
    /// A sentence by figure that is behind.
    #[serde(default)]
    behind: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    row: Vec<Row>,
}

/// A kernel of another library; each figure on sm_80 and sm_90.
#[derive(Deserialize)]
struct Peer {
    counted: String,
    assembled: String,
    #[serde(flatten)]
    figures: BTreeMap<String, toml::Value>,
    per: String,
    note: String,
}

impl Peer {
    fn figure(&self, name: &str, architecture: usize) -> Option<f64> {
        let value = self.figures.get(name)?.as_array()?.get(architecture)?;
        value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
    }
}

/// A figure: its name in both tables, what it is of ours, and how many digits it is worth.
struct Column {
    name: &'static str,
    of: fn(&Figures) -> f64,
    digits: usize,
}

const COLUMNS: [Column; 6] = [
    Column { name: "traffic", of: |f| f.traffic, digits: 2 },
    Column { name: "sectors", of: |f| f.sectors, digits: 2 },
    Column { name: "wavefronts", of: |f| f.wavefronts, digits: 2 },
    Column { name: "sass", of: |f| f.sass, digits: 2 },
    Column { name: "registers", of: |f| f.registers, digits: 0 },
    Column { name: "spilled", of: |f| f.spilled, digits: 0 },
];

/// A row's cells, each a pair of architectures.
fn cells(value: impl Fn(&Column, usize) -> Option<f64>) -> String {
    let cell = |column: &Column| {
        let digits = column.digits;
        [0, 1].map(|a| value(column, a).map_or("-".into(), |x| format!("{x:.digits$}"))).join(" / ")
    };
    COLUMNS.iter().map(cell).collect::<Vec<String>>().join(" | ")
}

/// The page.
pub fn page(checked: &[Checked], budgets: &Budgets) -> Result<String> {
    let broken = |what: String| Error::input(what).file(Path::new("testkit/kernels/page.toml"));
    let rows: Rows = toml::from_str(ROWS).map_err(|e| broken(e.to_string()))?;
    let peers: BTreeMap<String, Peer> =
        toml::from_str(PEERS).map_err(|e| broken(format!("better.toml: {e}")))?;
    let mut out = String::from(HEAD);
    let mut wrong = Vec::new();
    for row in &rows.row {
        let kernel = checked.iter().find(|kernel| kernel.file == row.file);
        let kernel = kernel.ok_or_else(|| broken(format!("`{}` is no kernel file", row.file)))?;
        let peer = match &row.peer {
            Some(name) => Some(peers.get(name).ok_or_else(|| broken(format!("no peer `{name}`")))?),
            None => None,
        };
        match section(row, kernel, peer, budgets) {
            Ok(section) => out.push_str(&section),
            Err(e) => wrong.push(e.to_string()),
        }
    }
    if wrong.is_empty() { Ok(out) } else { Err(broken(wrong.join("\n"))) }
}

fn section(row: &Row, kernel: &Checked, peer: Option<&Peer>, budgets: &Budgets) -> Result<String> {
    let mut out = String::new();
    let mut line = |text: String| out.write_str(&(text + "\n")).expect("a String takes everything");
    let ours = COUNTED.map(|capability| kernel.figures(&row.entry, budgets, capability));
    let needed = if only(&row.file).is_some() { 1 } else { COUNTED.len() };
    if ours.iter().flatten().count() != needed {
        return Err(Error::input(format!("`{}`: no measured case, or no loop that is counted", row.entry)));
    }
    let per = peer.map_or_else(
        || if kernel_on_tensor_cores(kernel, &row.entry) { "mma" } else { "element" },
        |p| &p.per,
    );
    line(format!("## {}\n", row.entry));
    line(format!("SASS is per {per}; each pair is sm_80 / sm_90.\n"));
    line("| | traffic | sectors | wavefronts | SASS | registers | spilled |".into());
    line("|---|---|---|---|---|---|---|".into());
    line(format!("| ours | {} |", cells(|column, at| ours[at].as_ref().map(column.of))));
    let Some(peer) = peer else {
        line("\nNo library of the set has this kernel.\n".into());
        return Ok(out);
    };
    let by = if peer.counted == peer.assembled {
        peer.counted.clone()
    } else {
        format!("{} (counters), {} (SASS, registers)", peer.counted, peer.assembled)
    };
    line(format!("| {by} | {} |\n", cells(|column, architecture| peer.figure(column.name, architecture))));
    line(format!("Of the peer: {}.\n", peer.note));
    let (mut behind, mut wrong) = (Vec::new(), Vec::new());
    for Column { name, of, .. } in COLUMNS {
        let worse = ours.iter().enumerate().any(|(architecture, ours)| {
            let both = ours.as_ref().zip(peer.figure(name, architecture));
            both.is_some_and(|(ours, theirs)| of(ours) > theirs * ROUNDING)
        });
        match (worse, row.behind.get(name)) {
            (true, Some(sentence)) => behind.push(format!("- Behind in {name}: {sentence}")),
            (false, None) => {}
            (true, None) => {
                wrong.push(format!("`{}` is behind in {name}, and no sentence says why", row.entry));
            }
            (false, Some(_)) => {
                wrong.push(format!("`{}` is not behind in {name}, but a sentence says why", row.entry));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Error::input(wrong.join("; ")).file(Path::new("testkit/kernels/page.toml")));
    }
    behind.into_iter().for_each(&mut line);
    line(String::new());
    Ok(out)
}

fn kernel_on_tensor_cores(kernel: &Checked, entry: &str) -> bool {
    kernel.measured.get(entry).is_some_and(|measured| measured.per_mma().is_some())
}

const HEAD: &str = "\
# Kernels beside their peers

Made by `cargo xtask kernels --page docs/kernels.md` without a GPU; times on one are in docs/benchmarks. Counters come from the
interpreter (`testkit/ptx`), machine instructions from NVIDIA's assembler and disassembler, the peers' figures from
their kernels taken through the same tools (`testkit/peers/better.toml`).

- traffic: bytes of the sectors asked for, over the least (each tensor once);
- sectors: over those that the lanes' bytes would fill; wavefronts: passes over the banks of shared memory, over the least;
- SASS: machine instructions per element, or per m16n8k16 product in the main loop; registers and spilled bytes per thread.

";
