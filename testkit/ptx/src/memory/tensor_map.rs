//! Tensor maps: what a tensor copy (TMA) knows of a tensor in global memory.
//!
//! A tensor has 1 to 5 dimensions, the fastest first. A copy moves one box of it; in shared memory the box
//! is dense, its rows (dimension 0) one after the other, then swizzled. Bytes outside the tensor read as
//! the fill and are not written.
//!
//! The 128 bytes are ours: the hardware's form is not documented, and a kernel passes them on unread.
//! Limits: the driver's documentation of `cuTensorMapEncodeTiled`.

use super::swizzle::Swizzle;

/// Bytes of an encoded map.
pub const BYTES: usize = 128;

const MAGIC: [u8; 4] = *b"tmap";
const MOST_DIMENSIONS: usize = 5;

/// Element types, in the order of `CUtensorMapDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the driver's own")]
pub enum Element {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

impl Element {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::S32,
        Self::U64,
        Self::S64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Bf16,
        Self::F32Ftz,
        Self::Tf32,
        Self::Tf32Ftz,
    ];

    /// The type of a `CUtensorMapDataType`.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    /// The unsigned type of a size: enough where only bytes move.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        [Self::U8, Self::U16, Self::U32, Self::U64].into_iter().find(|element| element.bytes() == bytes)
    }

    /// Size in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::S32 | Self::F32 | Self::F32Ftz | Self::Tf32 | Self::Tf32Ftz => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        !matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::S32 | Self::U64 | Self::S64)
    }
}

/// What bytes outside the tensor read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Zero.
    #[default]
    Zero,
    /// A quiet NaN of the element type, all bits set.
    Nan,
}

/// A tensor in global memory and the box that one copy moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// First byte of the tensor.
    pub address: u64,
    /// Type of its elements.
    pub element: Element,
    /// Elements of each dimension, the fastest first.
    pub shape: Vec<u64>,
    /// Bytes from one index to the next, from dimension 1 on; dimension 0 is dense.
    pub strides: Vec<u64>,
    /// Elements of the box, the fastest dimension first.
    pub tile: Vec<u32>,
    /// Steps inside the tensor between two elements of the box; all one.
    pub element_strides: Vec<u32>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
    /// What bytes outside the tensor read as.
    pub fill: Fill,
}

/// One row of a box: dimension 0, the other indices fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// First byte of the row in the box, before the swizzle.
    pub offset: u32,
    /// Bytes of the row that lie inside the tensor, counted from its start.
    pub inside: std::ops::Range<u32>,
    /// Where the first byte of `inside` lies in global memory.
    pub address: u64,
}

impl TensorMap {
    /// Dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Bytes of a row of the box.
    pub fn row_bytes(&self) -> u32 {
        self.tile[0] * self.element.bytes()
    }

    /// Bytes of the box: what a load writes and reports to its mbarrier, wherever the tensor ends.
    pub fn box_bytes(&self) -> u32 {
        self.tile.iter().product::<u32>() * self.element.bytes()
    }

    /// Holds the map to the driver's limits; `Err` says which one it breaks, or what is not modelled.
    pub fn check(&self) -> Result<(), String> {
        let Self { address, element, shape, strides, tile, element_strides, swizzle, fill } = self;
        let rank = shape.len();
        let lengths = [strides.len() + 1, tile.len(), element_strides.len()];
        if !(1..=MOST_DIMENSIONS).contains(&rank) || lengths != [rank; 3] {
            return Err(format!(
                "a tensor map needs 1 to 5 dimensions everywhere, has {rank} and {lengths:?}"
            ));
        }
        if !address.is_multiple_of(16) {
            return Err(format!("the tensor's address {address:#x} is no multiple of 16"));
        }
        if let Some(size) = shape.iter().find(|&&size| size == 0 || size > 1 << 32) {
            return Err(format!("a dimension of {size} elements, needs 1 to 2^32"));
        }
        if let Some(stride) = strides.iter().find(|&&stride| stride % 16 != 0 || stride >= 1 << 40) {
            return Err(format!("a stride of {stride} bytes, needs a multiple of 16 below 2^40"));
        }
        if let Some(size) = tile.iter().find(|&&size| size == 0 || size > 256) {
            return Err(format!("a box of {size} elements in one dimension, needs 1 to 256"));
        }
        if !self.row_bytes().is_multiple_of(16) {
            return Err(format!("a box row of {} bytes, needs a multiple of 16", self.row_bytes()));
        }
        if *swizzle != Swizzle::None && self.row_bytes() > swizzle.bytes() {
            return Err(format!(
                "a box row of {} bytes in a swizzle of {}",
                self.row_bytes(),
                swizzle.bytes()
            ));
        }
        if *swizzle != Swizzle::None && self.row_bytes() < swizzle.bytes() {
            let row = self.row_bytes();
            return Err(format!(
                "a box row of {row} bytes in a swizzle of {}: not modelled",
                swizzle.bytes()
            ));
        }
        if let Some(step) = element_strides.iter().find(|&&step| step != 1) {
            return Err(format!("an element stride of {step}: only 1 is modelled"));
        }
        if *fill == Fill::Nan && !element.is_float() {
            return Err(format!("a fill of NaN for {element:?}"));
        }
        Ok(())
    }

    /// The map as bytes of our own form.
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend(MAGIC);
        bytes.extend([self.rank() as u8, self.element as u8, self.swizzle.bytes() as u8, self.fill as u8]);
        bytes.extend(self.address.to_le_bytes());
        let padded = |values: &[u64]| -> [u64; MOST_DIMENSIONS] {
            std::array::from_fn(|dimension| values.get(dimension).copied().unwrap_or(0))
        };
        for value in padded(&self.shape).into_iter().chain(padded(&self.strides)) {
            bytes.extend(value.to_le_bytes());
        }
        let narrow = |values: &[u32]| -> [u16; MOST_DIMENSIONS] {
            std::array::from_fn(|dimension| values.get(dimension).map_or(0, |&value| value as u16))
        };
        for value in narrow(&self.tile).into_iter().chain(narrow(&self.element_strides)) {
            bytes.extend(value.to_le_bytes());
        }
        bytes.resize(BYTES, 0);
        bytes.try_into().expect("resized to 128 bytes")
    }

    /// The map of 128 bytes; `None` where they are not one.
    pub fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let rank = usize::from(bytes[4]);
        if bytes[..4] != MAGIC || !(1..=MOST_DIMENSIONS).contains(&rank) {
            return None;
        }
        let wide = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let narrow = |at: usize| u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        Some(Self {
            address: wide(8),
            element: Element::from_code(u32::from(bytes[5]))?,
            shape: (0..rank).map(|dimension| wide(16 + 8 * dimension)).collect(),
            strides: (0..rank - 1).map(|dimension| wide(56 + 8 * dimension)).collect(),
            tile: (0..rank).map(|dimension| narrow(96 + 2 * dimension)).collect(),
            element_strides: (0..rank).map(|dimension| narrow(106 + 2 * dimension)).collect(),
            swizzle: Swizzle::from_bytes(u32::from(bytes[6]))?,
            fill: match bytes[7] {
                0 => Fill::Zero,
                1 => Fill::Nan,
                _ => return None,
            },
        })
    }

    /// The rows of the box whose first element has these coordinates, in the order of the box.
    pub fn rows(&self, start: &[i32]) -> impl Iterator<Item = Row> {
        let count: u32 = self.tile[1..].iter().product();
        (0..count).map(|row| self.row(start, row))
    }

    fn row(&self, start: &[i32], row: u32) -> Row {
        let element = i64::from(self.element.bytes());
        let first = i64::from(start[0]);
        let last = (first + i64::from(self.tile[0])).min(self.shape[0] as i64);
        let (mut address, mut rest, mut inside) = (self.address, row, true);
        let outer = start[1..].iter().zip(&self.tile[1..]).zip(&self.shape[1..]).zip(&self.strides);
        for (((&start, &tile), &size), &stride) in outer {
            let index = i64::from(start) + i64::from(rest % tile);
            rest /= tile;
            inside &= (0..size as i64).contains(&index);
            address = address.wrapping_add((index as u64).wrapping_mul(stride));
        }
        let from = first.max(0);
        let inside = if inside && from < last {
            ((from - first) * element) as u32..((last - first) * element) as u32
        } else {
            0..0
        };
        Row { offset: row * self.row_bytes(), inside, address: address.wrapping_add((from * element) as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> TensorMap {
        TensorMap {
            address: 0x1000,
            element: Element::Bf16,
            shape: vec![100, 7],
            strides: vec![256],
            tile: vec![64, 4],
            element_strides: vec![1, 1],
            swizzle: Swizzle::Bytes128,
            fill: Fill::Zero,
        }
    }

    #[test]
    fn a_map_comes_back_from_its_bytes() {
        let five = TensorMap {
            address: 0x7000_0000_0010,
            element: Element::F32,
            shape: vec![1 << 32, 2, 3, 4, 5],
            strides: vec![(1 << 40) - 16, 16, 32, 48],
            tile: vec![4, 256, 1, 2, 3],
            element_strides: vec![1; 5],
            swizzle: Swizzle::None,
            fill: Fill::Nan,
        };
        for map in [matrix(), five] {
            assert_eq!(map.check(), Ok(()));
            assert_eq!(TensorMap::decode(&map.encode()), Some(map));
        }
        assert_eq!(TensorMap::decode(&[0; BYTES]), None);
    }

    #[test]
    fn every_limit_is_held() {
        type Break = fn(&mut TensorMap);
        let broken: [(&str, Break); 11] = [
            ("multiple of 16", |map| map.address += 8),
            ("1 to 5 dimensions", |map| map.shape.push(1)),
            ("0 elements", |map| map.shape[1] = 0),
            ("2^32", |map| map.shape[0] = (1 << 32) + 1),
            ("a stride of 200", |map| map.strides[0] = 200),
            ("below 2^40", |map| map.strides[0] = 1 << 40),
            ("1 to 256", |map| map.tile[1] = 257),
            ("a box row of 144 bytes in", |map| map.tile[0] = 72),
            ("not modelled", |map| map.tile[0] = 32),
            ("element stride of 2", |map| map.element_strides[0] = 2),
            ("fill of NaN for U16", |map| (map.element, map.fill) = (Element::U16, Fill::Nan)),
        ];
        for (part, change) in broken {
            let mut map = matrix();
            change(&mut map);
            let message = map.check().expect_err(part);
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }

    #[test]
    fn rows_name_the_bytes_inside_the_tensor() {
        let rows: Vec<_> = matrix().rows(&[64, 5]).collect();
        let row = |offset, inside, address| Row { offset, inside, address };
        // 36 of 64 columns are left, 2 of 4 rows
        assert_eq!(rows[0], row(0, 0..72, 0x1000 + 5 * 256 + 128));
        assert_eq!(rows[1], row(128, 0..72, 0x1000 + 6 * 256 + 128));
        assert!(rows[2].inside.is_empty() && rows[3].inside.is_empty());
        let rows: Vec<_> = matrix().rows(&[-3, -1]).collect();
        assert!(rows[0].inside.is_empty());
        assert_eq!(rows[1], row(128, 6..128, 0x1000));
        assert!(matrix().rows(&[100, 0]).all(|row| row.inside.is_empty()));
        assert!(matrix().rows(&[-64, 0]).all(|row| row.inside.is_empty()));
    }

    #[test]
    fn rows_of_five_dimensions_follow_the_strides() {
        let map = TensorMap {
            address: 0,
            element: Element::U8,
            shape: vec![64, 3, 4, 5, 6],
            strides: vec![64, 1024, 8192, 65536],
            tile: vec![16, 2, 1, 2, 2],
            element_strides: vec![1; 5],
            swizzle: Swizzle::None,
            fill: Fill::Zero,
        };
        let addresses: Vec<_> = map.rows(&[16, 1, 2, 3, 4]).map(|row| (row.offset, row.address)).collect();
        let base = 16 + 64 + 2 * 1024 + 3 * 8192 + 4 * 65536;
        let steps = [0, 64, 8192, 8256, 65536, 65600, 73728, 73792];
        let expected: Vec<_> = (0..8).map(|row| (row as u32 * 16, base + steps[row])).collect();
        assert_eq!(addresses, expected);
    }
}
