//! Sectors of global memory that one warp's access touches.

use super::Requests;
use crate::machine::{Lanes64, Mask, lanes};

/// Bytes of a sector.
const SECTOR: u64 = 32;

/// Sectors around the first lane's that are counted as bits; lanes beyond are sorted.
const NEAR: u64 = 128;

/// One request: `bytes` at the address of each lane.
#[inline]
pub fn count(addresses: &Lanes64, bytes: u32, mask: Mask) -> Requests {
    let mut distinct = 0;
    let mut last = u64::MAX;
    let mut ascending = true;
    for lane in lanes(mask) {
        let (first, end) = (addresses[lane] / SECTOR, (addresses[lane] + u64::from(bytes) - 1) / SECTOR);
        ascending &= last == u64::MAX || first >= last;
        distinct += if last == first { end - first } else { end - first + 1 };
        last = end;
    }
    if !ascending {
        let sectors = || {
            lanes(mask)
                .flat_map(|lane| addresses[lane] / SECTOR..=(addresses[lane] + u64::from(bytes) - 1) / SECTOR)
        };
        let near = addresses[mask.trailing_zeros() as usize] / SECTOR;
        let low = near.saturating_sub(NEAR / 2);
        distinct = if sectors().all(|sector| sector.wrapping_sub(low) < NEAR) {
            u64::from(sectors().fold(0_u128, |seen, sector| seen | 1 << (sector - low)).count_ones())
        } else {
            let mut all: Vec<u64> = sectors().collect();
            all.sort_unstable();
            all.dedup();
            all.len() as u64
        };
    }
    let bytes = u64::from(mask.count_ones() * bytes);
    Requests { requests: 1, sectors: distinct, ideal_sectors: bytes.div_ceil(SECTOR), bytes }
}

/// Adjacent bytes of a bulk copy; the copy itself is the request.
pub fn count_bulk(address: u64, bytes: u32) -> Requests {
    let bytes = u64::from(bytes);
    let sectors = (address + bytes).div_ceil(SECTOR) - address / SECTOR;
    Requests { requests: 0, sectors, ideal_sectors: bytes.div_ceil(SECTOR), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_bytes_fill_the_sectors_between_their_ends() {
        let sectors = |address, bytes| count_bulk(address, bytes).sectors;
        assert_eq!([sectors(64, 128), sectors(80, 128), sectors(94, 2), sectors(95, 2)], [4, 5, 1, 2]);
    }

    fn sectors(address: impl Fn(u64) -> u64, bytes: u32, mask: Mask) -> (u64, u64) {
        let counted = count(&std::array::from_fn(|lane| address(lane as u64)), bytes, mask);
        (counted.sectors, counted.ideal_sectors)
    }

    #[test]
    fn known_patterns() {
        assert_eq!(sectors(|l| 4 * l, 4, !0), (4, 4), "coalesced");
        assert_eq!(sectors(|l| 4 * l + 16, 4, !0), (5, 4), "shifted by half a sector");
        assert_eq!(sectors(|l| 16 * l, 16, !0), (16, 16), "vectors");
        assert_eq!(sectors(|l| 128 * l, 4, !0), (32, 4), "a column");
        assert_eq!(sectors(|_| 64, 4, !0), (1, 4), "broadcast");
        assert_eq!(sectors(|l| 4 * (31 - l), 4, !0), (4, 4), "backwards");
        assert_eq!(sectors(|l| 32 * (l ^ 1), 4, !0), (32, 4), "columns swapped");
        assert_eq!(sectors(|l| 4096 * ((l / 2) ^ 1), 4, !0), (16, 4), "far columns swapped");
        assert_eq!(sectors(|l| 4 * l, 4, 1), (1, 1), "one lane");
        assert_eq!(sectors(|l| 4 * (l ^ 1), 4, !0), (4, 4), "pairs swapped");
    }
}
