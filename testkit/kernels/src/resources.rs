//! What the assembler says of each entry: registers, stack, spills, shared memory, barriers.

use std::collections::BTreeMap;

use preceptor::base::{Error, Result};
use serde::Serialize;

/// One entry's use of a multiprocessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread.
    pub stack: u32,
    /// Bytes a thread stores to and loads from local memory because registers ran out, once each place.
    pub spills: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Hardware barriers.
    pub barriers: u32,
}

/// The entries in a compiler's log, made with `--ptxas-options=-v`.
///
/// ```text
/// ptxas info    : Compiling entry function 'NAME' for 'sm_90'
/// ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 96 registers, used 1 barriers, 128 bytes smem
/// ```
pub fn read(log: &str) -> Result<BTreeMap<String, Resources>> {
    let mut found: BTreeMap<String, Resources> = BTreeMap::new();
    let mut entry: Option<&mut Resources> = None;
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or(rest);
            entry = Some(found.entry(name.to_owned()).or_default());
        } else if let Some(entry) = entry.as_deref_mut()
            && let Some((_, facts)) = line.split_once(": Used ").or_else(|| line.split_once(" .     "))
        {
            for fact in facts.split(',') {
                note(entry, fact.trim()).ok_or_else(|| {
                    Error::input(format!("not understood in the assembler's log: `{line}`"))
                })?;
            }
        }
    }
    Ok(found)
}

/// Adds `96 registers`, `used 1 barriers`, `128 bytes smem` and the like.
fn note(entry: &mut Resources, fact: &str) -> Option<()> {
    let (number, what) = fact.trim_start_matches("used ").split_once(' ')?;
    let number: u32 = number.parse().ok()?;
    match what {
        "registers" => entry.registers = number,
        "barriers" => entry.barriers = number,
        "bytes smem" => entry.shared = number,
        "bytes stack frame" => entry.stack = number,
        "bytes spill stores" | "bytes spill loads" => entry.spills += number,
        _ => {} // constant banks, textures: nothing that is budgeted
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_a_log_is_read() {
        let log = "\
ptxas info    : 24 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 48 registers, used 0 barriers, 16 bytes cumulative stack size, 388 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Function properties for b
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 24.476 ms
";
        let a = Resources { registers: 48, stack: 16, spills: 12, ..Resources::default() };
        let b = Resources { registers: 128, shared: 128, barriers: 1, ..Resources::default() };
        let expected = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        assert_eq!(read(log).unwrap(), expected);
    }
}
