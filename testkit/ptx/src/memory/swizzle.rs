//! How tensor copies and wgmma spread 16-byte chunks over the banks of shared memory.
//!
//! A swizzle of `W` bytes exchanges the 16-byte chunks inside each 128-byte line, so that the rows of a tile
//! that is `W` bytes wide start in different banks. It is a function of the shared address alone:
//!
//! ```text
//! address bits   9 8 7 | 6 5 4 | 3 2 1 0
//!                 line | chunk | byte          chunk ^= line, as many low bits as W has chunks
//! ```

/// A swizzle mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Chunks stay where they are.
    #[default]
    None,
    /// Two chunks exchange places: rows of 32 bytes.
    Bytes32,
    /// Four chunks: rows of 64 bytes.
    Bytes64,
    /// Eight chunks: rows of 128 bytes.
    Bytes128,
}

impl Swizzle {
    /// The mode of a row width in bytes; 0 for none.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        [Self::None, Self::Bytes32, Self::Bytes64, Self::Bytes128]
            .into_iter()
            .find(|mode| mode.bytes() == bytes)
    }

    /// Row width in bytes; 0 for none.
    pub fn bytes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bytes32 => 32,
            Self::Bytes64 => 64,
            Self::Bytes128 => 128,
        }
    }

    /// The bits of a line's number that are exchanged with those of the chunk.
    pub fn lines(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bytes32 => 1,
            Self::Bytes64 => 3,
            Self::Bytes128 => 7,
        }
    }

    /// Where the byte of an unswizzled address really lies.
    #[inline(always)]
    pub fn apply(self, address: u32) -> u32 {
        address ^ ((address >> 7 & self.lines()) << 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunk numbers of the PTX ISA's figures: line by line, which logical chunk lies in which place.
    fn figure(mode: Swizzle, lines: u32) -> Vec<Vec<u32>> {
        let place = |line: u32, chunk: u32| mode.apply(line * 128 + chunk * 16) % 128 / 16;
        let row = |line| {
            let mut row = vec![0; 8];
            (0..8).for_each(|chunk| row[place(line, chunk) as usize] = chunk);
            row
        };
        (0..lines).map(row).collect()
    }

    #[test]
    fn none_is_the_identity() {
        assert!((0..4096).all(|address| Swizzle::None.apply(address) == address));
    }

    #[test]
    fn chunks_lie_as_in_the_figures() {
        assert_eq!(figure(Swizzle::Bytes32, 2), [[0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 3, 2, 5, 4, 7, 6]]);
        assert_eq!(
            figure(Swizzle::Bytes64, 4),
            [
                [0, 1, 2, 3, 4, 5, 6, 7],
                [1, 0, 3, 2, 5, 4, 7, 6],
                [2, 3, 0, 1, 6, 7, 4, 5],
                [3, 2, 1, 0, 7, 6, 5, 4],
            ]
        );
        assert_eq!(
            figure(Swizzle::Bytes128, 8),
            [
                [0, 1, 2, 3, 4, 5, 6, 7],
                [1, 0, 3, 2, 5, 4, 7, 6],
                [2, 3, 0, 1, 6, 7, 4, 5],
                [3, 2, 1, 0, 7, 6, 5, 4],
                [4, 5, 6, 7, 0, 1, 2, 3],
                [5, 4, 7, 6, 1, 0, 3, 2],
                [6, 7, 4, 5, 2, 3, 0, 1],
                [7, 6, 5, 4, 3, 2, 1, 0],
            ]
        );
    }

    #[test]
    fn patterns_repeat_and_keep_the_bytes_of_a_chunk() {
        for (mode, period) in [(Swizzle::Bytes32, 256), (Swizzle::Bytes64, 512), (Swizzle::Bytes128, 1024)] {
            for address in 0..period {
                assert_eq!(mode.apply(address + period), mode.apply(address) + period);
                assert_eq!(mode.apply(address) % 16, address % 16);
                assert_eq!(mode.apply(mode.apply(address)), address);
            }
        }
    }
}
