//! What a case runs on.

use half::bf16;
use preceptor::base::Result;
use preceptor::device::cuda::{Cuda, Element, Slice};
use preceptor::device::{Buffer, Device};

/// The GPU, or what stands in for it, and the CPU device whose forms are the truth.
#[derive(Debug)]
pub struct Bench {
    /// Where the kernels run.
    pub cuda: Cuda,
    /// Where their f32 forms run.
    pub cpu: Device,
}

impl Bench {
    /// A copy of `values`, rounded to bf16, on the GPU.
    pub fn bf16(&self, values: &[f32]) -> Result<Slice<bf16>> {
        self.cuda.upload(&values.iter().copied().map(bf16::from_f32).collect::<Vec<_>>())
    }

    /// A copy of `values` on the GPU.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Slice<T>> {
        self.cuda.upload(values)
    }

    /// Memory of the GPU that nobody has written yet.
    pub fn buffer<T: Element>(&self, len: usize) -> Result<Slice<T>> {
        self.cuda.buffer(len)
    }

    /// What the GPU holds.
    pub fn download<T: Element>(&self, slice: &Slice<T>) -> Result<Vec<T>> {
        self.cuda.download(slice)
    }

    /// What the GPU holds, widened.
    pub fn download_bf16(&self, slice: &Slice<bf16>) -> Result<Vec<f32>> {
        Ok(self.cuda.download(slice)?.into_iter().map(bf16::to_f32).collect())
    }

    /// A copy of `values` on the CPU device, in rows of `cols`.
    pub fn on_cpu(&self, values: &[f32], cols: usize) -> Buffer {
        self.cpu.upload(values, values.len() / cols.max(1), cols)
    }
}
