//! Reading a file's header from front to back, never past its end.

use std::ops::Range;

use crate::base::{Error, Result};

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes that follow.
    pub(super) fn rest(&self) -> usize {
        self.file.len() - self.at
    }

    /// The next `len` bytes' place in the file.
    pub(super) fn skip(&mut self, len: u64, what: &str) -> Result<Range<usize>> {
        let start = self.at;
        let len = usize::try_from(len).ok().filter(|&len| len <= self.rest()).ok_or_else(|| {
            Error::input(format!(
                "{what} takes {len} bytes at byte {start}, but only {} follow: the file is cut short or damaged",
                self.rest()
            ))
        })?;
        self.at += len;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.skip(N as u64, what)?;
        Ok(self.file[bytes].try_into().expect("as long as it was asked for"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and that many bytes of text.
    pub(super) fn text(&mut self, what: &str) -> Result<Range<usize>> {
        let len = self.u64(what)?;
        self.skip(len, what)
    }

    /// A text that names something.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str> {
        let start = self.at;
        let bytes = self.text(what)?;
        std::str::from_utf8(&self.file[bytes])
            .map_err(|_| Error::input(format!("{what} at byte {start} is not UTF-8 text")))
    }

    /// Refuses a count of things of at least `least` bytes each that cannot all follow.
    pub(super) fn room(&self, count: u64, least: usize, what: &str) -> Result<()> {
        if count > (self.rest() / least) as u64 {
            return Err(Error::input(format!(
                "it declares {count} {what}, but only {} bytes follow: the file is cut short or damaged",
                self.rest()
            )));
        }
        Ok(())
    }
}
