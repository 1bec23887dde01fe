//! The product with a frozen weight on a GPU, in bf16, the adapter's part included. Contract: `kernels/gemm.cu`.

mod matrix;

use half::bf16;

pub use super::Write;
pub use matrix::{Matrix, MatrixMut};

use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Element, Entry, Grid, Slice, View};

/// Rows and columns of the output that a block computes.
const TILE: usize = 128;
const THREADS: u32 = 128;

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
    /// The entry for `a b^T`.
    const NT: Entry;
    /// The entry for `a b`.
    const NN: Entry;
}

impl Output for bf16 {
    const NT: Entry = Entry::new("gemm", "gemm_nt_bf16");
    const NN: Entry = Entry::new("gemm", "gemm_nn_bf16");
}

impl Output for f32 {
    const NT: Entry = Entry::new("gemm", "gemm_nt_f32");
    const NN: Entry = Entry::new("gemm", "gemm_nn_f32");
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
    let ((n, inputs), (outputs, _)) = (x.shape(), w.shape());
    assert_eq!((y.shape(), w.shape().1), ((n, outputs), inputs), "linear: shapes");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), outputs, "linear: length of the bias");
    }
    if let Some(Adapter { narrow, factor, keep }) = adapter {
        assert_eq!(factor.shape(), (outputs, narrow.shape().1), "linear: shape of B");
        assert!(keep.is_none(), "linear: dropout is in xa already");
    }
    launch(cuda, T::NT, y, x, w, bias, adapter, write)
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
    let ((n, outputs), (_, inputs)) = (dy.shape(), w.shape());
    assert_eq!((dx.shape(), w.shape().0), ((n, inputs), outputs), "linear: gradient shapes");
    if let Some(Adapter { narrow, factor, keep }) = adapter {
        assert_eq!(factor.shape(), (narrow.shape().1, inputs), "linear: shape of A");
        let words = n * inputs.div_ceil(TILE) * TILE / 32;
        assert!(keep.is_none_or(|keep| keep.len() == words), "linear: length of the dropout's bits");
    }
    launch(cuda, T::NN, dx, dy, w, None, adapter, write)
}

fn launch<T: Output>(
    cuda: &Cuda,
    entry: Entry,
    mut c: MatrixMut<'_, T>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    bias: Option<&Slice<bf16>>,
    adapter: Option<Adapter<'_>>,
    write: Write,
) -> Result<()> {
    let ((m, n), (_, k)) = (c.shape(), a.shape());
    let narrow = adapter.map(|adapter| adapter.narrow);
    let factor = adapter.map(|adapter| adapter.factor);
    assert!(narrow.is_none_or(|narrow| narrow.shape().0 == m), "linear: rows of the adapter's part");
    let stride = |matrix: Option<Matrix<'_>>| matrix.map_or_else(|| Arg::int(0), |matrix| matrix.stride());
    let grid = Grid::line(m.div_ceil(TILE) * n.div_ceil(TILE), THREADS);
    let stride_c = c.stride();
    let arguments = [
        c.view().into(),
        a.view().into(),
        b.view().into(),
        Arg::optional(bias.map(Slice::view)),
        Arg::optional(narrow.map(|matrix| matrix.view())),
        Arg::optional(factor.map(|matrix| matrix.view())),
        Arg::optional(adapter.and_then(|adapter| adapter.keep)),
        stride_c,
        a.stride(),
        b.stride(),
        stride(narrow),
        stride(factor),
        Arg::int(m),
        Arg::int(n),
        Arg::int(k),
        Arg::int(narrow.map_or(0, |narrow| narrow.shape().1)),
        Arg::int(usize::from(write == Write::Add)),
    ];
    cuda.launch(entry, grid, &arguments)
}
