//! The product with a frozen weight on a GPU, in bf16, the adapter's part included. Contracts: `kernels/gemm.cu`, for
//! every architecture, and `kernels/hopper/gemm.cu`.

mod hopper;
mod matrix;
mod portable;

use half::bf16;

pub use super::Write;
pub use matrix::{Matrix, MatrixMut};

use crate::base::Result;
pub use crate::device::cuda::Kernel;
use crate::device::cuda::{Arg, Cuda, Element, Entry, Slice, View};

/// The kernel files.
const PORTABLE: &str = "gemm";
const HOPPER: &str = "hopper/gemm";

/// Columns of a panel of dropout's bits.
const PANEL: usize = 128;

/// What an adapter adds to its linear, in the same sums.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// xa forward, dxa backward: N x R, with the adapter's scale in it.
    pub narrow: Matrix<'a>,
    /// B (out x R) forward, A (R x in) backward.
    pub factor: Matrix<'a>,
    /// Backward: the adapter's bits of dropout, as `ops::lora::cuda::forward` leaves them.
    pub keep: Option<View<'a, u32>>,
}

/// A type of output.
pub trait Output: Element {
    /// The entries of each kernel.
    const ENTRIES: Entries;
}

/// The entries for one type of output, those of `a b^T` and of `a b`.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    portable: [Entry; 2],
    /// For each of `hopper::COLUMNS`.
    hopper: [[Entry; 2]; 2],
}

macro_rules! outputs {
    ($($ty:ty => $name:literal),+) => { $(impl Output for $ty {
        const ENTRIES: Entries = Entries {
            portable: [
                Entry::new(PORTABLE, concat!("gemm_nt_", $name)),
                Entry::new(PORTABLE, concat!("gemm_nn_", $name)),
            ],
            hopper: [
                [
                    Entry::new(HOPPER, concat!("gemm_wgmma_nt_", $name, "_n256")),
                    Entry::new(HOPPER, concat!("gemm_wgmma_nn_", $name, "_n256")),
                ],
                [
                    Entry::new(HOPPER, concat!("gemm_wgmma_nt_", $name, "_n192")),
                    Entry::new(HOPPER, concat!("gemm_wgmma_nn_", $name, "_n192")),
                ],
            ],
        };
    })+ };
}
outputs!(bf16 => "bf16", f32 => "f32");

/// What is multiplied, and where it goes.
struct Product<'a, T> {
    c: MatrixMut<'a, T>,
    a: Matrix<'a>,
    b: Matrix<'a>,
    /// Whether rows of b run along n: `a b`, and not `a b^T`.
    along_n: bool,
    bias: Option<&'a Slice<bf16>>,
    adapter: Option<Adapter<'a>>,
    write: Write,
}

/// y = x W^T (+ b) (+ xa B^T) (+ y). `w` is out x in.
pub fn forward<T: Output>(
    cuda: &Cuda,
    y: MatrixMut<'_, T>,
    x: Matrix<'_>,
    w: Matrix<'_>,
    bias: Option<&Slice<bf16>>,
    adapter: Option<Adapter<'_>>,
    write: Write,
) -> Result<()> {
    forward_by(Kernel::best(cuda), cuda, y, x, w, bias, adapter, write)
}

/// As [`forward`], by the kernel of the caller's choice.
pub fn forward_by<T: Output>(
    kernel: Kernel,
    cuda: &Cuda,
    y: MatrixMut<'_, T>,
    x: Matrix<'_>,
    w: Matrix<'_>,
    bias: Option<&Slice<bf16>>,
    adapter: Option<Adapter<'_>>,
    write: Write,
) -> Result<()> {
    let ((n, inputs), (outputs, _)) = (x.shape(), w.shape());
    assert_eq!((y.shape(), w.shape().1), ((n, outputs), inputs), "linear: shapes");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "linear: length of the bias");
    }
    if let Some(Adapter { narrow, factor, keep }) = adapter {
        assert_eq!(factor.shape(), (outputs, narrow.shape().1), "linear: shape of B");
        assert!(keep.is_none(), "linear: dropout is in xa already");
    }
    Product { c: y, a: x, b: w, along_n: false, bias, adapter, write }.launch(kernel, cuda)
}

/// dx = dy W (+ mask (dxa A)) (+ dx). `w` is out x in.
pub fn backward<T: Output>(
    cuda: &Cuda,
    dx: MatrixMut<'_, T>,
    dy: Matrix<'_>,
    w: Matrix<'_>,
    adapter: Option<Adapter<'_>>,
    write: Write,
) -> Result<()> {
    backward_by(Kernel::best(cuda), cuda, dx, dy, w, adapter, write)
}

/// As [`backward`], by the kernel of the caller's choice.
pub fn backward_by<T: Output>(
    kernel: Kernel,
    cuda: &Cuda,
    dx: MatrixMut<'_, T>,
    dy: Matrix<'_>,
    w: Matrix<'_>,
    adapter: Option<Adapter<'_>>,
    write: Write,
) -> Result<()> {
    let ((n, outputs), (_, inputs)) = (dy.shape(), w.shape());
    assert_eq!((dx.shape(), w.shape().0), ((n, inputs), outputs), "linear: gradient shapes");
    if let Some(Adapter { narrow, factor, keep }) = adapter {
        assert_eq!(factor.shape(), (narrow.shape().1, inputs), "linear: shape of A");
        let words = n * inputs.div_ceil(PANEL) * PANEL / 32;
        assert!(keep.is_none_or(|keep| keep.len() == words), "linear: length of the dropout's bits");
    }
    Product { c: dx, a: dy, b: w, along_n: true, bias: None, adapter, write }.launch(kernel, cuda)
}

impl<T: Output> Product<'_, T> {
    fn launch(self, kernel: Kernel, cuda: &Cuda) -> Result<()> {
        let rows = self.c.shape().0;
        let fits = self.adapter.is_none_or(|adapter| adapter.narrow.shape().0 == rows);
        assert!(fits, "linear: rows of the adapter's part");
        match kernel {
            Kernel::Portable => portable::launch(cuda, self),
            Kernel::Hopper => hopper::launch(cuda, self),
        }
    }

    /// M, N, K, R and whether c is added to: the last arguments of both kernels.
    fn sizes(&self) -> [Arg<'static>; 5] {
        let ((m, n), (_, k)) = (self.c.shape(), self.a.shape());
        let rank = self.adapter.map_or(0, |adapter| adapter.narrow.shape().1);
        [m, n, k, rank, usize::from(self.write == Write::Add)].map(Arg::int)
    }
}
