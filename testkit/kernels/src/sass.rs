//! Machine code, counted: what one warp issues in the loop where the work is.
//!
//! PTX is not what runs. The assembler unrolls, hoists and schedules, so instructions per element and per matrix
//! product are counted in the listing of the CUBIN. A loop is the code from a label to a branch back to it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use preceptor::base::{Error, Result};

/// The code of one entry.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The opcodes with their modifiers, such as `LDG.E.128`, in order, without the padding at the end.
    pub opcodes: Vec<String>,
    /// First and last instruction of each loop.
    pub loops: Vec<(usize, usize)>,
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
        let mut opcodes = Vec::new();
        let mut labels = HashMap::new();
        let mut branches = Vec::new();
        for line in code.lines().map(str::trim).take_while(|line| !line.starts_with("//---")) {
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, opcodes.len());
            } else if let Some((_, instruction)) =
                line.strip_prefix("/*").and_then(|rest| rest.split_once("*/"))
            {
                let instruction = instruction.trim_start();
                let instruction = match instruction.starts_with('@') {
                    true => instruction.split_once(' ').map_or("", |(_, rest)| rest.trim_start()),
                    false => instruction,
                };
                let opcode = instruction.split([' ', ';']).next().unwrap_or_default();
                if opcode.starts_with("BRA")
                    && let Some(target) =
                        instruction.split("`(").nth(1).and_then(|rest| rest.split(')').next())
                {
                    branches.push((opcodes.len(), target));
                }
                opcodes.push(opcode.to_owned());
            }
        }
        let back = branches.into_iter().filter_map(|(at, target)| Some((*labels.get(target)?, at)));
        // A branch to itself is the trap behind the last instruction; NOPs pad the section.
        let loops: Vec<_> = back.filter(|(first, last)| first < last).collect();
        let padded = |opcode: &String| opcode == "NOP" || opcode.starts_with("BRA");
        let end = opcodes.iter().rposition(|opcode| !padded(opcode)).map_or(0, |last| last + 1);
        opcodes.truncate(end.max(loops.iter().map(|(_, last)| last + 1).max().unwrap_or(0)));
        Self { opcodes, loops }
    }

    /// Whether an instruction of this kind (`HMMA`, `LDSM`, ...) occurs.
    pub fn has(&self, kind: &str) -> bool {
        self.opcodes.iter().any(|opcode| is(opcode, kind))
    }

    /// Instructions per matrix product in the innermost loop that has most of them.
    pub fn per_mma(&self) -> Option<f64> {
        self.per(|opcode| f64::from(u8::from(is(opcode, "HMMA"))))
    }

    /// Instructions of a thread per element, where `stores` (or loads) move `bytes` bytes an element; in the
    /// loop that moves most, or in all of the code.
    pub fn per_element(&self, moves: Moves) -> Option<f64> {
        let (kinds, bytes): (&[&str], _) = match moves {
            Moves::Stores(bytes) => (&["STG"], bytes),
            Moves::Loads(bytes) => (&["LDG"], bytes),
        };
        self.per(|opcode| {
            if kinds.iter().any(|kind| is(opcode, kind)) { width(opcode) / f64::from(bytes) } else { 0.0 }
        })
    }

    /// Instructions over the `worth` of them: of the innermost loop with the most worth, else of all.
    fn per(&self, worth: impl Fn(&str) -> f64) -> Option<f64> {
        let of =
            |first: usize, last: usize| -> f64 { self.opcodes[first..=last].iter().map(|o| worth(o)).sum() };
        let holds = |outer: (usize, usize), inner: (usize, usize)| {
            outer != inner && outer.0 <= inner.0 && inner.1 <= outer.1 && of(inner.0, inner.1) > 0.0
        };
        let innermost = self.loops.iter().filter(|&&l| !self.loops.iter().any(|&other| holds(l, other)));
        let best = innermost
            .map(|&(first, last)| (of(first, last), last + 1 - first))
            .filter(|(worth, _)| *worth > 0.0)
            .max_by(|(a, long), (b, short)| a.total_cmp(b).then(short.cmp(long)));
        let whole = || {
            let worth = of(0, self.opcodes.len().checked_sub(1)?);
            (worth > 0.0).then_some((worth, self.opcodes.len()))
        };
        best.or_else(whole).map(|(worth, instructions)| instructions as f64 / worth)
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

fn is(opcode: &str, kind: &str) -> bool {
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
        assert_eq!((f.opcodes.len(), &f.loops), (9, &vec![(2, 5), (1, 7)]));
        assert!(f.has("HMMA") && f.has("LDG") && !f.has("LDL"));
        assert_eq!(f.per_mma(), Some(2.0));
        // 7 instructions of the outer loop for 16 bytes, which are 8 bf16
        assert_eq!(f.per_element(Moves::Stores(2)), Some(7.0 / 8.0));
    }

    #[test]
    fn straight_code_counts_whole() {
        let code = Listing {
            opcodes: ["LDG.E", "FADD", "STG.E.U16", "EXIT"].map(String::from).into(),
            loops: vec![],
        };
        assert_eq!(code.per_element(Moves::Stores(2)), Some(4.0));
        assert_eq!(code.per_element(Moves::Loads(4)), Some(4.0));
        assert_eq!(code.per_mma(), None);
    }
}
