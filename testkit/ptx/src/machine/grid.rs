//! A launch: blocks on threads, what they found and counted in the order of blocks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::block::Block;
use crate::check::{Check, Finding, Findings, Found, NOWHERE};
use crate::count::{Counters, Summary};
use crate::isa::At;
use crate::memory::global::Memory;
use crate::memory::view::View;
use crate::parse::module::{Kernel, Module};

/// What to run.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks, x y z.
    pub grid: [u32; 3],
    /// Threads of a block, x y z.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond the kernel's own.
    pub dynamic_shared: u32,
    /// The kernel's parameters, laid out as its parameter list says.
    pub parameters: &'a [u8],
}

impl Launch<'_> {
    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    fn blocks(&self) -> u64 {
        self.grid.iter().map(|&n| u64::from(n)).product()
    }

    /// How many host threads run its blocks.
    fn host_threads(&self, options: &Options) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match options.threads {
            _ if self.kernel.ordered() => 1,
            0 => cores(),
            threads => threads,
        };
        threads.min(self.blocks() as usize)
    }

    /// Why it cannot start at all.
    fn refusal(&self) -> Option<String> {
        let (threads, needed) = (self.threads(), self.kernel.parameter_bytes as usize);
        if threads == 0 || self.blocks() == 0 {
            return Some(format!("a grid of {:?} blocks of {:?} threads is empty", self.grid, self.block));
        }
        if threads > 1024 || self.kernel.max_threads.is_some_and(|max| threads > max) {
            let limit = self.kernel.max_threads.unwrap_or(1024).min(1024);
            return Some(format!("a block of {threads} threads; the kernel allows {limit}"));
        }
        (self.parameters.len() < needed)
            .then(|| format!("{} bytes of parameters; the kernel has {needed}", self.parameters.len()))
    }
}

/// How to run it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Host threads; 0 = one a core.
    pub threads: usize,
    /// Perturbs approximate instructions within their documented error and shuffles the order of blocks.
    pub seed: Option<u64>,
}

/// What a launch gave.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What is wrong, in the order of the kernel's instructions.
    pub findings: Vec<Finding>,
    /// What was counted.
    pub counters: Summary,
}

/// Runs a kernel to its end.
pub fn launch(module: &Module, launch: &Launch<'_>, memory: &Memory, options: &Options) -> Report {
    let kernel = launch.kernel;
    let threads = launch.host_threads(options);
    let view = View::new(memory, kernel.ordered(), threads == 1);
    let mut findings = Findings::default();
    let mut counters = Counters::new(kernel.code.len(), view.len());
    if let Some(message) = launch.refusal() {
        findings.add(Check::Launch, NOWHERE, || Found {
            block: [0; 3],
            warp: 0,
            lanes: 0,
            message,
            times: 1,
        });
    } else {
        run_blocks(launch, &view, options, threads, &mut findings, &mut counters);
        if !kernel.ordered() {
            let at = |pc: u32| {
                let instruction = &kernel.code[pc as usize];
                At { pc, place: instruction.place, mnemonic: instruction.mnemonic }
            };
            view.touches.conflicts(view.allocations(), launch.grid, &mut findings, at);
        }
    }
    let instructions = kernel.code.iter().map(|i| (i.class, kernel.mnemonics[i.mnemonic as usize].as_str()));
    Report {
        findings: findings.into_list(&kernel.name, &kernel.mnemonics, &module.files),
        counters: Summary::new(&counters, instructions, view.labels()),
    }
}

fn run_blocks(
    launch: &Launch<'_>,
    view: &View,
    options: &Options,
    threads: usize,
    findings: &mut Findings,
    counters: &mut Counters,
) {
    let blocks = launch.blocks();
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        let mut sum = Counters::new(launch.kernel.code.len(), view.len());
        loop {
            let turn = next.fetch_add(1, Relaxed);
            if turn >= blocks {
                return sum;
            }
            let number = options.seed.map_or(turn, |seed| shuffled(turn, blocks, seed));
            let mut block = Block::new(launch, view, number, options.seed, sum);
            block.run();
            sum = block.counters;
            if !block.findings.is_empty() {
                found.lock().expect("no thread panics").push((number, block.findings));
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        counters.merge(&work());
        for other in others {
            counters.merge(&other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    let mut found = found.into_inner().expect("no thread panics");
    found.sort_by_key(|(number, _)| *number);
    for (_, block) in found {
        findings.merge(block);
    }
}

impl Kernel {
    /// Whether blocks must run one after the other, in order, for the result not to depend on threads: the
    /// kernel has atomic updates of global memory whose results depend on their order.
    pub fn ordered(&self) -> bool {
        let order_matters = |name: &str| {
            let sums_floats = name
                .split('.')
                .any(|part| matches!(part, "f16" | "bf16" | "f16x2" | "bf16x2" | "f32" | "f64"));
            !name.contains(".shared")
                && (name.starts_with("atom") || (name.starts_with("red.") && sums_floats))
        };
        self.mnemonics.iter().any(|name| order_matters(name))
    }
}

/// Block `turn` of another order: turn times an odd-looking step modulo the number of blocks.
fn shuffled(turn: u64, blocks: u64, seed: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (1..=blocks).map(|offset| (seed % blocks + offset) % blocks).find(|&s| gcd(s, blocks) == 1);
    ((u128::from(turn) * u128::from(step.unwrap_or(1)) + u128::from(seed % blocks)) % u128::from(blocks))
        as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_order_has_every_block_once() {
        for blocks in [1, 2, 7, 12, 100] {
            for seed in [0, 1, 5, 1 << 40] {
                let mut order: Vec<u64> = (0..blocks).map(|turn| shuffled(turn, blocks, seed)).collect();
                order.sort_unstable();
                assert_eq!(order, (0..blocks).collect::<Vec<_>>());
            }
        }
    }
}
