//! Typed memory of a GPU.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;
use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr};
use half::bf16;

use super::signature::Type;
use super::{Cuda, failed};
use crate::base::Result;

/// A type that device memory holds: plain bytes, any of which are a value.
pub trait Element: Pod + DeviceRepr {
    /// What kernels call it.
    const TYPE: Type;
}

macro_rules! elements {
    ($($rust:ty => $name:ident),+) => { $(impl Element for $rust { const TYPE: Type = Type::$name; })+ };
}
elements!(bf16 => Bf16, f32 => F32, f64 => F64, u8 => U8, i32 => I32, u32 => U32, i64 => I64, u64 => U64);

/// Owned device memory, aligned to 256 bytes. It is freed, when dropped, after the work queued so far.
#[derive(Debug)]
pub struct Slice<T> {
    memory: CudaSlice<T>,
    address: u64,
    len: usize,
}

/// A borrowed run of device memory.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    pub(super) address: u64,
    len: usize,
    life: PhantomData<&'a T>,
}

/// As [`View`], to be written.
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    pub(super) address: u64,
    len: usize,
    life: PhantomData<&'a mut T>,
}

impl<T: Element> Slice<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it.
    pub fn view(&self) -> View<'_, T> {
        self.part(0..self.len)
    }

    /// All of it, to be written.
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        self.part_mut(0..self.len)
    }

    /// A run of elements. Kernels want their pointers aligned to 16 bytes: the start is the caller's to choose.
    pub fn part(&self, range: Range<usize>) -> View<'_, T> {
        let (address, len) = self.locate(range);
        View { address, len, life: PhantomData }
    }

    /// A run of elements, to be written.
    pub fn part_mut(&mut self, range: Range<usize>) -> ViewMut<'_, T> {
        let (address, len) = self.locate(range);
        ViewMut { address, len, life: PhantomData }
    }

    fn locate(&self, range: Range<usize>) -> (u64, usize) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of a slice of {} elements",
            self.len
        );
        (self.address + (range.start * size_of::<T>()) as u64, range.len())
    }
}

impl<T> View<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> ViewMut<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Cuda {
    /// `len` elements whose content is unspecified.
    pub fn buffer<T: Element>(&self, len: usize) -> Result<Slice<T>> {
        // A driver refuses to allocate nothing.
        // SAFETY: any bytes are a value of `T`, and kernels that read what nobody wrote read such bytes.
        #[expect(unsafe_code, reason = "the memory is not initialised")]
        let memory = unsafe { self.stream.alloc(len.max(1)) }.map_err(|e| {
            let bytes = len as f64 * size_of::<T>() as f64;
            failed(&format!("allocate {:.1} MiB", bytes / f64::from(1 << 20)), e)
        })?;
        let address = memory.device_ptr(&self.stream).0;
        Ok(Slice { memory, address, len })
    }

    /// `len` zeros.
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Slice<T>> {
        let mut slice = self.buffer::<T>(len)?;
        let bytes = len * size_of::<T>();
        if bytes > 0 {
            let (address, _guard) = slice.memory.device_ptr_mut(&self.stream);
            // SAFETY: the allocation holds that many bytes; zeros are a value of `T`.
            #[expect(unsafe_code, reason = "a raw address")]
            let done = unsafe {
                cudarc::driver::result::memset_d8_async(address, 0, bytes, self.stream.cu_stream())
            };
            done.map_err(|e| failed("fill memory with zeros", e))?;
        }
        Ok(slice)
    }

    /// A copy of `values` on the device.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Slice<T>> {
        let mut slice = self.buffer(values.len())?;
        if !values.is_empty() {
            let copied = self.stream.memcpy_htod(values, &mut slice.memory);
            // The copy may run later, and the caller may drop `values` at once.
            copied.and_then(|()| self.stream.synchronize()).map_err(|e| failed("copy to the device", e))?;
        }
        Ok(slice)
    }

    /// The content of device memory, after all work queued so far.
    pub fn download<T: Element>(&self, slice: &Slice<T>) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); slice.len];
        if !slice.is_empty() {
            let copied = self.stream.memcpy_dtoh(&slice.memory.slice(..slice.len), &mut values);
            copied.and_then(|()| self.stream.synchronize()).map_err(|e| failed("copy from the device", e))?;
        }
        Ok(values)
    }
}
