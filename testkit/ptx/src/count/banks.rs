//! Passes over the banks of shared memory that one warp's access takes.
//!
//! There are 32 banks of 4 bytes. Lanes that ask for the same word are served together. Accesses of 8 and 16
//! bytes are served half a warp and a quarter of a warp at a time.

use super::Wavefronts;
use crate::machine::{Lanes32, Mask, WARP};

const BANKS: usize = 32;

/// One request: `bytes` at the address of each lane.
#[inline]
pub fn count(addresses: &Lanes32, bytes: u32, mask: Mask) -> Wavefronts {
    let together = if bytes <= 4 { WARP } else { 4 * WARP / bytes as usize };
    let words = bytes.div_ceil(4);
    let (mut wavefronts, mut distinct) = (0, 0);
    for start in (0..WARP).step_by(together) {
        let mut phase = Phase::default();
        for (lane, address) in addresses.iter().enumerate().skip(start).take(together) {
            if mask >> lane & 1 == 1 {
                for word in 0..words {
                    phase.add(address / 4 + word);
                }
            }
        }
        wavefronts += phase.wavefronts();
        distinct += phase.distinct;
    }
    Wavefronts { requests: 1, wavefronts, least: distinct.div_ceil(BANKS as u64).max(1) }
}

/// Rows of 16 bytes, eight at a time, as ldmatrix reads them.
#[inline]
pub fn count_rows(addresses: &[u32]) -> Wavefronts {
    let (mut wavefronts, mut distinct) = (0, 0);
    for rows in addresses.chunks(8) {
        // eight rows in eight different quarters of the banks are the rule
        if rows.iter().fold(0, |quarters, row| quarters | 1_u32 << (row / 16 % 8)) == 0xff {
            (wavefronts, distinct) = (wavefronts + 1, distinct + 32);
            continue;
        }
        let mut phase = Phase::default();
        for word in rows.iter().flat_map(|row| (0..4).map(move |word| row / 4 + word)) {
            phase.add(word);
        }
        wavefronts += phase.wavefronts();
        distinct += phase.distinct;
    }
    Wavefronts { requests: 1, wavefronts, least: distinct.div_ceil(BANKS as u64).max(1) }
}

/// Words that are asked for at once.
struct Phase {
    /// The first word in each bank.
    word: [u32; BANKS],
    used: u32,
    /// Further words, of banks that already have one.
    more: Vec<u32>,
    distinct: u64,
}

impl Default for Phase {
    #[inline(always)]
    fn default() -> Self {
        Self { word: [0; BANKS], used: 0, more: Vec::new(), distinct: 0 }
    }
}

impl Phase {
    #[inline(always)]
    fn add(&mut self, word: u32) {
        let bank = word as usize % BANKS;
        if self.used >> bank & 1 == 0 {
            self.used |= 1 << bank;
            self.word[bank] = word;
            self.distinct += 1;
        } else if self.word[bank] != word && !self.more.contains(&word) {
            self.more.push(word);
            self.distinct += 1;
        }
    }

    #[inline(always)]
    fn wavefronts(&self) -> u64 {
        if self.more.is_empty() {
            return u64::from(self.used != 0);
        }
        let mut depth = [1; BANKS];
        for word in &self.more {
            depth[*word as usize % BANKS] += 1;
        }
        depth.into_iter().max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wavefronts(address: impl Fn(u32) -> u32, bytes: u32, mask: Mask) -> (u64, u64) {
        let counted = count(&std::array::from_fn(|lane| address(lane as u32)), bytes, mask);
        (counted.wavefronts, counted.least)
    }

    #[test]
    fn known_patterns() {
        assert_eq!(wavefronts(|l| 4 * l, 4, !0), (1, 1), "consecutive words");
        assert_eq!(wavefronts(|_| 64, 4, !0), (1, 1), "one word");
        assert_eq!(wavefronts(|l| 128 * l, 4, !0), (32, 1), "a column of 32 words");
        assert_eq!(wavefronts(|l| 132 * l, 4, !0), (1, 1), "a padded column");
        assert_eq!(wavefronts(|l| 8 * l, 4, !0), (2, 1), "every second word");
        assert_eq!(wavefronts(|l| 16 * l, 16, !0), (4, 4), "vectors of 16 bytes");
        assert_eq!(wavefronts(|l| 2 * l, 2, !0), (1, 1), "halves");
        assert_eq!(wavefronts(|l| 128 * l, 16, !0), (32, 4), "rows of 128 bytes");
    }

    #[test]
    fn matrix_rows() {
        let rows = |stride: u32| (0..8).map(|row| row * stride).collect::<Vec<_>>();
        assert_eq!(count_rows(&rows(16)).wavefronts, 1);
        assert_eq!(count_rows(&rows(128)).wavefronts, 8);
        let swizzled: Vec<u32> = (0..8).map(|row| row * 128 + ((row % 8) * 16)).collect();
        assert_eq!(count_rows(&swizzled).wavefronts, 1);
    }
}
