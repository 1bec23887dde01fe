//! Machine code, counted: what one warp issues where the work is.
//!
//! PTX is not what runs. The assembler unrolls, hoists and schedules, so instructions per element are counted in the
//! listing of the CUBIN, in the region that does most of them: a loop (the code from a label to a branch back to it,
//! without loops inside), or the straight code from the start to the first exit. Instructions per matrix product are
//! those of a turn of the loop that multiplies most: `path.rs`.
//! A block that is skipped by a branch and calls a subroutine is the slow path of a division or a root, for
//! operands out of the ordinary; it does not count.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use preceptor::base::{Error, Result};

use crate::path::Ways;

/// The code of one entry, without the padding at the end.
#[derive(Clone, Debug, Default)]
pub struct Listing(pub(crate) Vec<Instruction>);

/// One machine instruction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instruction {
    /// The opcode with its modifiers, such as `LDG.E.128`.
    pub(crate) opcode: String,
    /// Whether a predicate decides if it runs.
    pub(crate) predicated: bool,
    /// The instruction that a branch goes to.
    pub(crate) target: Option<usize>,
}

/// The listing of each entry of a CUBIN, by the disassembler at `nvdisasm`.
pub fn disassemble(nvdisasm: &Path, cubin: &[u8]) -> Result<BTreeMap<String, Listing>> {
    let fail = |e: std::io::Error| Error::environment(format!("cannot run it: {e}")).file(nvdisasm);
    let mut file = tempfile::NamedTempFile::new().map_err(fail)?;
    file.write_all(cubin).map_err(fail)?;
    let output = Command::new(nvdisasm).arg("-c").arg(file.path()).output().map_err(fail)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::environment(format!("it failed: {words}")).file(nvdisasm));
    }
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// The entries of a listing as `nvdisasm -c` prints it.
fn read(text: &str) -> BTreeMap<String, Listing> {
    let mut entries = BTreeMap::new();
    for section in text.split("\n.text.").skip(1) {
        if let Some((name, code)) = section.split_once(":\n") {
            entries.insert(name.to_owned(), Listing::read(code));
        }
    }
    entries
}

impl Listing {
    fn read(code: &str) -> Self {
        let mut code_of: Vec<Instruction> = Vec::new();
        let mut labels = HashMap::new();
        let mut branches = Vec::new();
        for line in code.lines().map(str::trim).take_while(|line| !line.starts_with("//---")) {
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, code_of.len());
            } else if let Some((_, text)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
                let text = text.trim_start();
                let predicated = text.starts_with('@');
                let text = if predicated {
                    text.split_once(' ').map_or("", |(_, rest)| rest.trim_start())
                } else {
                    text
                };
                let opcode = text.split([' ', ';']).next().unwrap_or_default().to_owned();
                let label = text.split("`(").nth(1).and_then(|rest| rest.split(')').next());
                // A call of a label of the entry's own never returns: it is a jump of another name.
                let jumps =
                    |label: &&str| is(&opcode, "BRA") || (is(&opcode, "CALL") && label.starts_with(".L"));
                branches.extend(label.filter(jumps).map(|label| (code_of.len(), label)));
                code_of.push(Instruction { opcode, predicated, target: None });
            }
        }
        for (at, label) in branches {
            code_of[at].target = labels.get(label).copied();
        }
        // A branch to itself is the trap behind the last instruction; NOPs pad the section.
        let padding = |(at, i): (usize, &Instruction)| i.opcode == "NOP" || i.target == Some(at);
        let end = code_of.iter().enumerate().rposition(|pair| !padding(pair)).map_or(0, |last| last + 1);
        code_of.truncate(end);
        Self(code_of)
    }

    /// Whether an instruction of this kind (`HMMA`, `LDSM`, ...) occurs.
    pub fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|i| is(&i.opcode, kind))
    }

    /// Instructions of a warp per matrix product.
    pub fn per_mma(&self) -> Option<f64> {
        let (instructions, products) = Ways::new(&self.0).busiest()?;
        Some(instructions as f64 / products as f64)
    }

    /// Instructions of a thread per element.
    pub fn per_element(&self, moves: Moves) -> Option<f64> {
        let (kind, bytes) = match moves {
            Moves::Stores(bytes) => ("STG", bytes),
            Moves::Loads(bytes) => ("LDG", bytes),
        };
        self.per(|opcode| if is(opcode, kind) { width(opcode) / f64::from(bytes) } else { 0.0 })
    }

    /// Instructions over their `worth`, in the region with the most worth.
    fn per(&self, worth: impl Fn(&str) -> f64) -> Option<f64> {
        let of = |region: &Vec<usize>| region.iter().map(|&at| worth(&self.0[at].opcode)).sum::<f64>();
        let regions = self.regions().into_iter().map(|region| (of(&region), region.len()));
        let best = regions.filter(|(worth, _)| *worth > 0.0).reduce(|a, b| if b.0 > a.0 { b } else { a });
        best.map(|(worth, instructions)| instructions as f64 / worth)
    }

    /// The instructions of each loop, without those of loops inside, then of the straight code.
    fn regions(&self) -> Vec<Vec<usize>> {
        // Branches back to one place are one loop: the earlier ones are its `continue`s. A branch back across an
        // exit returns from a slow path that stands behind the code.
        let exits = |i: &Instruction| !i.predicated && is(&i.opcode, "EXIT");
        let mut loops: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, to) in self.branches().filter(|&(at, to)| to < at && !self.0[to..at].iter().any(exits)) {
            let last = loops.entry(to).or_default();
            *last = at.max(*last);
        }
        let loops: Vec<(usize, usize)> = loops.into_iter().collect();
        let skipped: Vec<(usize, usize)> =
            self.branches().filter(|&(at, to)| at < to && self.is_slow_path(at, to)).collect();
        let inside = |&(first, last): &(usize, usize), at: usize| first <= at && at <= last;
        let slow = |at: usize| skipped.iter().any(|(skip, to)| skip < &at && at < *to);
        let region = |outer: (usize, usize)| {
            let inner = |l: &&(usize, usize)| **l != outer && inside(&outer, l.0) && inside(&outer, l.1);
            let inner: Vec<_> = loops.iter().filter(inner).collect();
            (outer.0..=outer.1).filter(|&at| !slow(at) && !inner.iter().any(|l| inside(l, at))).collect()
        };
        let exit = self.0.iter().position(exits);
        loops.iter().copied().chain(exit.map(|exit| (0, exit))).map(region).collect()
    }

    fn branches(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().enumerate().filter_map(|(at, i)| Some((at, i.target?)))
    }

    /// Whether the branch at `at` to `to` skips a call and nothing that moves data or multiplies matrices.
    fn is_slow_path(&self, at: usize, to: usize) -> bool {
        let block = &self.0[at + 1..to.min(self.0.len())];
        let works =
            |i: &Instruction| ["LD", "ST", "HMMA", "HGMMA"].iter().any(|kind| i.opcode.starts_with(kind));
        block.iter().any(|i| is(&i.opcode, "CALL")) && !block.iter().any(works)
    }
}

/// What an element of an element-wise kernel moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moves {
    /// Bytes written.
    Stores(u32),
    /// Bytes read, where little is written.
    Loads(u32),
}

pub(crate) fn is(opcode: &str, kind: &str) -> bool {
    opcode.split('.').next() == Some(kind)
}

/// Bytes that a load or a store moves.
fn width(opcode: &str) -> f64 {
    let bits = opcode.split('.').find_map(|part| match part {
        "U8" | "S8" => Some(8),
        "U16" | "S16" => Some(16),
        "64" => Some(64),
        "128" => Some(128),
        "256" => Some(256),
        _ => None,
    });
    f64::from(bits.unwrap_or(32)) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
	.target	sm_80
//--------------------- .text.f    --------------------------
	.section	.text.f
f:
.text.f:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
.L_x_1:
        /*0020*/                   HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
        /*0030*/                   HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
        /*0040*/                   IADD3 R0, R0, 0x1, RZ ;
        /*0050*/              @!P1 BRA `(.L_x_1) ;
        /*0060*/                   STG.E.128 [R2.64], R4 ;
        /*0070*/               @P0 BRA `(.L_x_0) ;
        /*0080*/                   EXIT ;
.L_x_9:
        /*0090*/                   BRA `(.L_x_9);
        /*00a0*/                   NOP;
.L_x_10:
//--------------------- .nv.shared.f --------------------------
        /*0000*/ .byte 0x00
";

    #[test]
    fn loops_are_branches_back() {
        let f = &read(TEXT)["f"];
        let regions: Vec<usize> = f.regions().iter().map(Vec::len).collect();
        assert_eq!((f.0.len(), regions), (9, vec![3, 4, 2]));
        assert!(f.has("HMMA") && f.has("LDG") && !f.has("LDL"));
        assert_eq!(f.per_mma(), Some(2.0));
        // the outer loop's own 3 instructions for 16 bytes, which are 8 bf16
        assert_eq!(f.per_element(Moves::Stores(2)), Some(3.0 / 8.0));
    }

    #[test]
    fn the_region_that_moves_most_counts_and_slow_paths_do_not() {
        let code = "
        /*0000*/               @P0 BRA `(.L_tail) ;
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
        /*0020*/              @!P1 BRA `(.L_fast) ;
        /*0030*/                   MOV R1, R2 ;
        /*0040*/                   CALL.REL.NOINC `(.L_division) ;
.L_fast:
        /*0050*/                   STG.E.128 [R2.64], R4 ;
        /*0060*/                   EXIT ;
.L_tail:
        /*0070*/                   LDG.E.U16 R4, [R2.64] ;
        /*0080*/                   STG.E.U16 [R2.64], R4 ;
        /*0090*/               @P0 BRA `(.L_tail) ;
        /*00a0*/                   EXIT ;
";
        let code = Listing::read(code);
        assert_eq!(code.per_element(Moves::Stores(2)), Some(5.0 / 8.0));
        assert_eq!(code.per_element(Moves::Loads(4)), Some(5.0 / 4.0));
        assert_eq!(code.per_mma(), None);
    }
}
