//! What a program passes by address. All reading and writing of its memory is here.
//!
//! SAFETY of this file, once for all: these types appear only as parameters of exported functions, so their
//! values come from a program that calls the driver's C interface. By that interface's contract such a
//! pointer is null or of an object of the stated type that lives, and is not touched by others, until the
//! call returns. Null is checked here.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{CStr, c_char, c_void};

use crate::host::Host;
use crate::status::{Outcome, Status};

/// A place for a result.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Null is `ERROR_INVALID_VALUE`, here and below.
    pub(crate) fn set(self, value: T) -> Outcome {
        self.set_optional(value).then_some(()).ok_or(Status::ERROR_INVALID_VALUE)
    }

    /// For results that a program may leave out; tells whether it did not.
    pub(crate) fn set_optional(self, value: T) -> bool {
        if !self.0.is_null() {
            // SAFETY: see the head of this file; not null.
            unsafe { self.0.write(value) };
        }
        !self.0.is_null()
    }

    /// Sets `values.len()` results in a row.
    pub(crate) fn set_all(self, values: &[T]) -> Outcome
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        for (index, &value) in values.iter().enumerate() {
            // SAFETY: see the head of this file; the caller says how many there is room for.
            unsafe { self.0.add(index).write(value) };
        }
        Ok(())
    }

    /// The same place for a value of another type.
    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// The address, for checks of alignment.
    pub(crate) fn address(&self) -> usize {
        self.0 as usize
    }
}

/// One or more values.
#[repr(transparent)]
pub(crate) struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// Values behind a pointer that was itself passed by address.
    pub(crate) fn new(pointer: *const T) -> Self {
        Self(pointer)
    }

    /// The first value.
    pub(crate) fn get(&self) -> Outcome<T> {
        self.slice(1).map(|values| values[0])
    }

    /// The first `count` values; none are read if `count` is zero.
    pub(crate) fn slice(&self, count: usize) -> Outcome<Vec<T>> {
        if count > 0 && self.0.is_null() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        // SAFETY: see the head of this file; the caller says how many there are.
        Ok((0..count).map(|index| unsafe { self.0.add(index).read_unaligned() }).collect())
    }
}

/// A text that ends with a zero.
#[repr(transparent)]
pub(crate) struct Text(*const c_char);

impl Text {
    pub(crate) fn get(&self) -> Outcome<String> {
        if self.0.is_null() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        // SAFETY: see the head of this file; not null, and a C text ends with a zero.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

/// A module's image: a text that ends with a zero, or machine code.
#[repr(transparent)]
pub(crate) struct ImagePointer(*const u8);

impl ImagePointer {
    /// The text; `None` for an ELF file or a fat binary, by their first bytes.
    pub(crate) fn text(&self) -> Outcome<Option<String>> {
        const BINARIES: [[u8; 4]; 2] = [*b"\x7fELF", 0xba55_ed50_u32.to_le_bytes()];
        for binary in BINARIES {
            // Byte by byte, so that nothing behind the end of a short text is read.
            let mut bytes = binary.iter().enumerate();
            let same = |(index, &byte): (usize, &u8)| {
                // SAFETY: see the head of this file; all bytes before were of a binary's head, so none was
                // the end.
                unsafe { self.0.add(index).read() == byte }
            };
            if !self.0.is_null() && bytes.all(same) {
                return Ok(None);
            }
        }
        Text(self.0.cast()).get().map(Some)
    }
}

/// Writes a text with its ending zero into a buffer of `room` bytes, cut to fit.
pub(crate) fn put_text(buffer: *mut u8, room: usize, text: &str) {
    if buffer.is_null() || room == 0 {
        return;
    }
    let length = text.len().min(room - 1);
    Out(buffer).set_all(&text.as_bytes()[..length]).expect("not null");
    // SAFETY: see the head of this file; the caller says that there is room for `length + 1` bytes.
    unsafe { buffer.add(length).write(0) };
}

/// The parameters of a launch: an array of addresses, one a parameter.
#[repr(transparent)]
pub(crate) struct Parameters(*const *const u8);

impl Parameters {
    /// Copies each parameter to its place.
    pub(crate) fn gather(&self, kernel: &ptx::Kernel) -> Outcome<Vec<u8>> {
        let addresses = In(self.0).slice(kernel.parameters.len())?;
        let mut bytes = vec![0; kernel.parameter_bytes as usize];
        for (address, parameter) in addresses.into_iter().zip(&kernel.parameters) {
            let value = In(address).slice(parameter.bytes as usize)?;
            bytes[parameter.offset as usize..][..value.len()].copy_from_slice(&value);
        }
        Ok(bytes)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

/// The `extra` argument of a launch: pairs of a key and a pointer.
#[repr(transparent)]
pub(crate) struct Extra(*const *const c_void);

impl Extra {
    /// No list.
    pub(crate) fn none() -> Self {
        Self(std::ptr::null())
    }

    const END: usize = 0;
    const BUFFER: usize = 1;
    const SIZE: usize = 2;

    /// The buffer of all parameters.
    pub(crate) fn gather(&self) -> Outcome<Vec<u8>> {
        let (mut buffer, mut size) = (std::ptr::null(), 0);
        for pair in 0..3 {
            // SAFETY: see the head of this file; the list goes on until its end key was read.
            let entries = In(unsafe { self.0.add(2 * pair) });
            match entries.get()? as usize {
                Self::END => break,
                Self::BUFFER => buffer = entries.slice(2)?[1].cast::<u8>(),
                Self::SIZE => size = In(entries.slice(2)?[1].cast::<usize>()).get()?,
                _ => return Err(Status::ERROR_INVALID_VALUE),
            }
        }
        In(buffer).slice(size)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

/// The memory and functions of the program that loaded this library.
pub(crate) struct Program;

const PAGE: usize = 4096;

impl Host for Program {
    fn read(&self, address: usize, out: &mut [u8]) {
        // SAFETY: see the head of this file; for a copy that runs late, the documentation asks the program to
        // keep its page-locked memory, and the driver holds on to what it allocated itself while a copy is
        // queued.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, out.as_mut_ptr(), out.len()) };
    }

    fn write(&self, address: usize, bytes: &[u8]) {
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }

    fn allocate(&self, bytes: usize) -> Option<usize> {
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        // SAFETY: callers ask for at least one byte.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: just allocated with this size.
        unsafe { memory.write_bytes(0xff, bytes) };
        Some(memory as usize)
    }

    fn free(&self, address: usize, bytes: usize) {
        let layout = Layout::from_size_align(bytes, PAGE).expect("it was allocated with this layout");
        // SAFETY: the table of page-locked memory gives each of its own allocations back once, with its size.
        unsafe { dealloc(address as *mut u8, layout) };
    }

    fn call(&self, function: usize, argument: usize) {
        // SAFETY: the program passed this function as one with this signature, to be called with this
        // argument.
        let function: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(function) };
        function(argument as *mut c_void);
    }
}
