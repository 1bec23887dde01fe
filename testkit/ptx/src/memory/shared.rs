//! The bytes of a block's shared memory.

/// Shared memory of one block. It starts with all bits set, so that floats never written are NaN.
#[derive(Clone, Debug)]
pub struct Shared {
    bytes: Vec<u8>,
}

impl Shared {
    /// `bytes` of shared memory.
    pub fn new(bytes: usize) -> Self {
        Self { bytes: vec![0xff; bytes] }
    }

    /// All of it.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// `N` bytes at an address that was checked.
    #[inline(always)]
    pub fn load<const N: usize>(&self, address: u32) -> [u8; N] {
        let at = address as usize;
        self.bytes[at..at + N].try_into().expect("a slice of N bytes")
    }

    /// Writes at an address that was checked.
    #[inline(always)]
    pub fn store<const N: usize>(&mut self, address: u32, value: [u8; N]) {
        let at = address as usize;
        self.bytes[at..at + N].copy_from_slice(&value);
    }

    /// A little-endian value of 1, 2, 4 or 8 bytes, widened.
    #[inline(always)]
    pub fn load_value(&self, address: u32, bytes: u32) -> u64 {
        match bytes {
            1 => u64::from(self.bytes[address as usize]),
            2 => u64::from(u16::from_le_bytes(self.load(address))),
            4 => u64::from(u32::from_le_bytes(self.load(address))),
            _ => u64::from_le_bytes(self.load(address)),
        }
    }

    /// Writes the low 1, 2, 4 or 8 bytes of a value.
    #[inline(always)]
    pub fn store_value(&mut self, address: u32, bytes: u32, value: u64) {
        match bytes {
            1 => self.bytes[address as usize] = value as u8,
            2 => self.store(address, (value as u16).to_le_bytes()),
            4 => self.store(address, (value as u32).to_le_bytes()),
            _ => self.store(address, value.to_le_bytes()),
        }
    }
}
