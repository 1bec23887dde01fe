//! Matrix descriptors: how wgmma finds an operand of 16-bit elements in shared memory.
//!
//! ```text
//! bits  0..14  start address / 16            bits 32..46  stride byte offset / 16
//! bits 16..30  leading byte offset / 16      bits 49..52  base offset, must be 0
//!                                            bits 62..64  swizzle: 0 none, 1 128, 2 64, 3 32 bytes
//! ```
//!
//! The operand is built of groups of 8 rows (K-major) or of 8 k (MN-major). Eight adjacent elements, a chunk
//! of 16 bytes, always stay together:
//!
//! ```text
//!                    K-major: chunk c of row r              MN-major: chunk c of line k
//! swizzle of W bytes r%8 * W + r/8 * stride + c * 16        k%8 * W + k/8 * stride
//!                                                           + c/C * leading + c%C * 16
//! none               r%8 * 16 + r/8 * stride + c * leading  k%8 * 16 + k/8 * leading + c * stride
//! ```
//!
//! with C = W / 16 chunks in a swizzled line. The swizzle is applied to the sum of start and offset.
//!
//! Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions: matrix descriptor, strides".

use super::swizzle::Swizzle;

/// A decoded descriptor, with the order of its elements that the instruction gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// First byte, unswizzled.
    pub start: u32,
    /// Leading byte offset.
    pub leading: u32,
    /// Stride byte offset.
    pub stride: u32,
    /// How chunks are spread.
    pub swizzle: Swizzle,
    /// Whether adjacent elements differ in m or n and not in k.
    pub mn_major: bool,
}

impl Matrix {
    /// Decodes a descriptor; `Err` says what is not modelled.
    pub fn decode(descriptor: u64, mn_major: bool) -> Result<Self, String> {
        let field = |low: u32| ((descriptor >> low & 0x3fff) as u32) << 4;
        let base = descriptor >> 49 & 7;
        if base != 0 {
            return Err(format!("a matrix descriptor with base offset {base}: only 0 is modelled"));
        }
        let swizzle = match descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        Ok(Self { start: field(0), leading: field(16), stride: field(32), swizzle, mn_major })
    }

    /// Where its chunks lie.
    pub fn places(self) -> Places {
        let Self { start, leading, stride, swizzle, mn_major } = self;
        let (width, lines) = (swizzle.bytes(), swizzle.lines());
        let (line, group, near, far, together) = match (swizzle, mn_major) {
            (Swizzle::None, false) => (16, stride, 0, leading, 0),
            (Swizzle::None, true) => (16, leading, 0, stride, 0),
            (_, false) => (width, stride, 16, 0, u32::BITS - 1),
            (_, true) => (width, stride, 16, leading, (width / 16).ilog2()),
        };
        Places { start, line, group, near, far, together, lines }
    }
}

/// Where the chunks of a matrix lie: one sum, whatever the swizzle and the major dimension.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    start: u32,
    /// From a line to the next of its eight.
    line: u32,
    /// From eight lines to the next eight.
    group: u32,
    /// From a chunk to the next of those that lie together.
    near: u32,
    /// From chunks that lie together to the next.
    far: u32,
    /// How many lie together, as a power of two.
    together: u32,
    /// Which lines exchange chunks; see [`Swizzle::lines`].
    lines: u32,
}

impl Places {
    /// Where a line's first chunk lies, before the swizzle. K-major: lines are rows; MN-major: they are k.
    #[inline(always)]
    pub fn line(&self, line: u32) -> u32 {
        self.start + line % 8 * self.line + line / 8 * self.group
    }

    /// Where 8 adjacent elements of the line that starts at `first` lie. K-major: chunks count k.
    #[inline(always)]
    pub fn chunk(&self, first: u32, chunk: u32) -> u32 {
        let (block, inside) = (chunk >> self.together, chunk & ((1 << self.together) - 1));
        let address = first + block * self.far + inside * self.near;
        address ^ ((address >> 7 & self.lines) << 4)
    }

    /// The same of a line by its number.
    #[inline(always)]
    pub fn at(&self, line: u32, chunk: u32) -> u32 {
        self.chunk(self.line(line), chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_isa_says() {
        let descriptor = 2 << 62 | (1024 >> 4) << 32 | (512 >> 4) << 16 | 0x1230 >> 4;
        let matrix =
            Matrix { start: 0x1230, leading: 512, stride: 1024, swizzle: Swizzle::Bytes64, mn_major: true };
        assert_eq!(Matrix::decode(descriptor, true), Ok(matrix));
        assert!(Matrix::decode(descriptor | 3 << 49, true).unwrap_err().contains("base offset 3"));
    }

    /// A matrix of 64 lines that TMA, or a kernel, wrote row by row and swizzled: line pitch `width` bytes.
    #[test]
    fn k_major_tiles_are_swizzled_rows() {
        for swizzle in [Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128] {
            let width = swizzle.bytes();
            // the second k-slice of 16 elements starts 32 bytes further in the row
            for slice in 0..width / 32 {
                let matrix = Matrix {
                    start: 4096 + slice * 32,
                    leading: 16,
                    stride: 8 * width,
                    swizzle,
                    mn_major: false,
                };
                for (row, chunk) in (0..64).flat_map(|row| [(row, 0), (row, 1)]) {
                    let expected = swizzle.apply(4096 + row * width + slice * 32 + chunk * 16);
                    assert_eq!(matrix.places().at(row, chunk), expected);
                }
            }
        }
    }

    #[test]
    fn mn_major_tiles_are_swizzled_lines_of_k() {
        // 128 columns as two blocks of 64, each 16 lines of 128 bytes
        let matrix = Matrix {
            start: 1024,
            leading: 16 * 128,
            stride: 8 * 128,
            swizzle: Swizzle::Bytes128,
            mn_major: true,
        };
        for (k, chunk) in (0..16).flat_map(|k| (0..16).map(move |chunk| (k, chunk))) {
            let (block, inside) = (chunk / 8, chunk % 8);
            let expected = Swizzle::Bytes128.apply(1024 + block * 2048 + k * 128 + inside * 16);
            assert_eq!(matrix.places().at(k, chunk), expected);
        }
    }

    #[test]
    fn without_a_swizzle_cores_of_128_bytes_stand_alone() {
        let k_major = Matrix { start: 0, leading: 128, stride: 256, swizzle: Swizzle::None, mn_major: false };
        assert_eq!(
            [k_major.places().at(0, 1), k_major.places().at(7, 0), k_major.places().at(9, 1)],
            [128, 112, 256 + 16 + 128]
        );
        let mn_major = Matrix { mn_major: true, ..k_major };
        assert_eq!(
            [mn_major.places().at(0, 1), mn_major.places().at(7, 0), mn_major.places().at(9, 1)],
            [256, 112, 128 + 16 + 256]
        );
    }
}
