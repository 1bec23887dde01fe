//! The modelled devices: one table, from which attributes, limits and occupancy follow.
//!
//! Limits per compute capability are those of the CUDA programming guide's table of technical specifications;
//! counts, clocks, caches and buses are those of NVIDIA's white papers and data sheets of each product.

use crate::status::{Outcome, Status};

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
const GIB: u64 = 1 << 30;

/// What a kernel, an occupancy call or an attribute query can learn of a device.
#[derive(Debug)]
pub(crate) struct Device {
    /// The key in the configuration.
    pub(crate) key: &'static str,
    /// The product's name, as `cuDeviceGetName` gives it (with a mark that this is the stand-in).
    pub(crate) name: &'static str,
    pub(crate) capability: (u32, u32),
    pub(crate) multiprocessors: u32,
    pub(crate) threads_per_multiprocessor: u32,
    pub(crate) blocks_per_multiprocessor: u32,
    pub(crate) shared_per_multiprocessor: u32,
    /// The most a block may have after `cuFuncSetAttribute`, in bytes.
    pub(crate) shared_per_block_optin: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) l2_bytes: u32,
    pub(crate) clock_khz: u32,
    pub(crate) memory_clock_khz: u32,
    pub(crate) bus_bits: u32,
}

/// Of every compute capability since 8.0.
pub(crate) const WARP: u32 = 32;
pub(crate) const THREADS_PER_BLOCK: u32 = 1024;
pub(crate) const BLOCK_LIMIT: [u32; 3] = [1024, 1024, 64];
pub(crate) const GRID_LIMIT: [u32; 3] = [i32::MAX as u32, 65535, 65535];
/// What a block may have without asking, static and dynamic together.
pub(crate) const SHARED_PER_BLOCK: u32 = 48 * KIB;
/// The system's own part of a block's shared memory.
pub(crate) const SHARED_RESERVED: u32 = KIB;
pub(crate) const REGISTERS: u32 = 65536;

/// The first is the default.
pub(crate) const DEVICES: [Device; 4] = [
    Device {
        key: "A100",
        name: "NVIDIA A100-SXM4-80GB (stand-in)",
        capability: (8, 0),
        multiprocessors: 108,
        threads_per_multiprocessor: 2048,
        blocks_per_multiprocessor: 32,
        shared_per_multiprocessor: 164 * KIB,
        shared_per_block_optin: 163 * KIB,
        memory_bytes: 80 * GIB,
        l2_bytes: 40 * MIB,
        clock_khz: 1_410_000,
        memory_clock_khz: 1_593_000,
        bus_bits: 5120,
    },
    Device {
        key: "RTX 4090",
        name: "NVIDIA GeForce RTX 4090 (stand-in)",
        capability: (8, 9),
        multiprocessors: 128,
        threads_per_multiprocessor: 1536,
        blocks_per_multiprocessor: 24,
        shared_per_multiprocessor: 100 * KIB,
        shared_per_block_optin: 99 * KIB,
        memory_bytes: 24 * GIB,
        l2_bytes: 72 * MIB,
        clock_khz: 2_520_000,
        memory_clock_khz: 10_501_000,
        bus_bits: 384,
    },
    Device {
        key: "H100",
        name: "NVIDIA H100 80GB HBM3 (stand-in)",
        capability: (9, 0),
        multiprocessors: 132,
        threads_per_multiprocessor: 2048,
        blocks_per_multiprocessor: 32,
        shared_per_multiprocessor: 228 * KIB,
        shared_per_block_optin: 227 * KIB,
        memory_bytes: 80 * GIB,
        l2_bytes: 50 * MIB,
        clock_khz: 1_980_000,
        memory_clock_khz: 2_619_000,
        bus_bits: 5120,
    },
    Device {
        key: "RTX 5090",
        name: "NVIDIA GeForce RTX 5090 (stand-in)",
        capability: (12, 0),
        multiprocessors: 170,
        threads_per_multiprocessor: 1536,
        blocks_per_multiprocessor: 24,
        shared_per_multiprocessor: 100 * KIB,
        shared_per_block_optin: 99 * KIB,
        memory_bytes: 32 * GIB,
        l2_bytes: 96 * MIB,
        clock_khz: 2_407_000,
        memory_clock_khz: 14_001_000,
        bus_bits: 512,
    },
];

/// The device of a configuration key, without regard to case and spaces.
pub(crate) fn by_key(key: &str) -> Option<&'static Device> {
    let same =
        |name: &str| key.split_whitespace().collect::<String>().eq_ignore_ascii_case(&name.replace(' ', ""));
    DEVICES.iter().find(|device| same(device.key))
}

impl Device {
    /// `CUdevice_attribute` by number. What is not modelled (textures, interop) is zero, as "not supported".
    pub(crate) fn attribute(&self, number: i32, ordinal: i32) -> Outcome<i32> {
        const LAST: i32 = 150;
        if !(1..LAST).contains(&number) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let value = match number {
            1 => THREADS_PER_BLOCK,
            2..=4 => BLOCK_LIMIT[number as usize - 2],
            5..=7 => GRID_LIMIT[number as usize - 5],
            8 => SHARED_PER_BLOCK,
            9 => 64 * KIB, // constant memory
            10 => WARP,
            11 => i32::MAX as u32, // pitch
            12 | 82 => REGISTERS,
            13 => self.clock_khz,
            14 => 512, // texture alignment
            16 => self.multiprocessors,
            33 => ordinal as u32 + 1, // PCI bus
            36 => self.memory_clock_khz,
            37 => self.bus_bits,
            38 => self.l2_bytes,
            39 => self.threads_per_multiprocessor,
            40 => 2, // copy engines
            75 => self.capability.0,
            76 => self.capability.1,
            81 => self.shared_per_multiprocessor,
            97 => self.shared_per_block_optin,
            106 => self.blocks_per_multiprocessor,
            111 => SHARED_RESERVED,
            120 => u32::from(self.capability.0 >= 9), // cluster launch
            // Overlap, mapped host memory, concurrent kernels, unified addresses, stream priorities, caches,
            // host registration, cooperative launches, memory pools.
            15 | 19 | 31 | 41 | 78 | 79 | 80 | 90 | 91 | 95 | 99 | 115 => 1,
            _ => 0,
        };
        Ok(value as i32)
    }

    /// How many blocks fit one multiprocessor at once, by threads, shared memory and slots.
    ///
    /// `shared` is static and dynamic together. Registers are unknown here: PTX has no allocation.
    pub(crate) fn resident_blocks(&self, threads: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(WARP);
        if threads == 0 || threads > THREADS_PER_BLOCK || shared > self.shared_per_block_optin {
            return 0;
        }
        let by_threads = self.threads_per_multiprocessor / WARP / warps;
        let by_shared = self.shared_per_multiprocessor / (shared + SHARED_RESERVED);
        by_threads.min(by_shared).min(self.blocks_per_multiprocessor)
    }

    /// Whether PTX of this `.target` ("sm_80", "sm_90a", "sm_100f") runs here: a plain target on its own
    /// capability and all above, `a` on exactly its own, `f` within its major number from its own on.
    pub(crate) fn runs(&self, target: &str) -> bool {
        let Some(name) = target.strip_prefix("sm_") else { return false };
        let digits = name.trim_end_matches(['a', 'f']);
        let Ok(number) = digits.parse::<u32>() else { return false };
        let own = self.capability.0 * 10 + self.capability.1;
        match &name[digits.len()..] {
            "" => number <= own,
            "a" => number == own,
            "f" => number / 10 == self.capability.0 && number <= own,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_obeys_the_rule_of_its_shared_memory() {
        for device in &DEVICES {
            // The most of one block and the system's part are all that a multiprocessor has.
            assert_eq!(device.shared_per_block_optin + SHARED_RESERVED, device.shared_per_multiprocessor);
            assert_eq!(by_key(device.key).expect("found by its key").name, device.name);
        }
    }

    #[test]
    fn occupancy_is_the_least_of_three_limits() {
        let a100 = &DEVICES[0];
        assert_eq!(a100.resident_blocks(1024, 0), 2); // threads
        assert_eq!(a100.resident_blocks(32, 0), 32); // slots
        assert_eq!(a100.resident_blocks(128, 80 * KIB), 2); // shared memory
        assert_eq!(a100.resident_blocks(128, 82 * KIB), 1); // 2 * (82 + 1) KiB > 164 KiB
        assert_eq!(a100.resident_blocks(128, 164 * KIB), 0);
        assert_eq!(DEVICES[1].resident_blocks(1024, 0), 1);
    }

    #[test]
    fn targets_follow_the_rules_of_ptx() {
        let (a100, h100, rtx5090) = (&DEVICES[0], &DEVICES[2], &DEVICES[3]);
        assert!(a100.runs("sm_75") && a100.runs("sm_80") && !a100.runs("sm_86") && !a100.runs("sm_90a"));
        assert!(h100.runs("sm_90a") && h100.runs("sm_90") && !h100.runs("sm_80a"));
        assert!(rtx5090.runs("sm_100") && !rtx5090.runs("sm_100a") && !rtx5090.runs("sm_100f"));
        assert!(rtx5090.runs("sm_120a") && rtx5090.runs("sm_120f") && !rtx5090.runs("nonsense"));
    }

    #[test]
    fn attributes_come_from_the_table() {
        let a100 = &DEVICES[0];
        assert_eq!(a100.attribute(97, 0), Ok(166_912));
        assert_eq!(a100.attribute(75, 0), Ok(8));
        assert_eq!(a100.attribute(0, 0), Err(Status::ERROR_INVALID_VALUE));
    }
}
