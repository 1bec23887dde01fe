//! `kernels/gemm.cu`: products on every architecture.

use super::{Matrix, Output, Product};
use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Grid, Slice};

/// Rows and columns of the output that a block computes.
const TILE: usize = 128;
const THREADS: u32 = 128;

pub(super) fn launch<T: Output>(cuda: &Cuda, mut product: Product<'_, T>) -> Result<()> {
    let (m, n) = product.c.shape();
    let (narrow, factor) =
        (product.adapter.map(|adapter| adapter.narrow), product.adapter.map(|adapter| adapter.factor));
    let stride = |matrix: Option<Matrix<'_>>| matrix.map_or_else(|| Arg::int(0), |matrix| matrix.stride());
    let (stride_c, sizes) = (product.c.stride(), product.sizes());
    let arguments = [
        product.c.view().into(),
        product.a.view().into(),
        product.b.view().into(),
        Arg::optional(product.bias.map(Slice::view)),
        Arg::optional(narrow.map(|matrix| matrix.view())),
        Arg::optional(factor.map(|matrix| matrix.view())),
        Arg::optional(product.adapter.and_then(|adapter| adapter.keep)),
        stride_c,
        product.a.stride(),
        product.b.stride(),
        stride(narrow),
        stride(factor),
    ];
    let grid = Grid::line(m.div_ceil(TILE) * n.div_ceil(TILE), THREADS);
    let entry = T::ENTRIES.portable[usize::from(product.along_n)];
    cuda.launch(entry, grid, &arguments.into_iter().chain(sizes).collect::<Vec<_>>())
}
