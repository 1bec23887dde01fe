//! `kernels/hopper/gemm.cu`: products by the warpgroup instructions of compute capability 9.0.

use super::{Output, Product};
use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Grid, Slice};

/// The one compute capability that has them.
pub(super) const CAPABILITY: u32 = 90;

/// Rows and columns of a tile of the output, and k of a step.
const TILE: [usize; 2] = [128, 256];
const DEPTH: u32 = 64;
const THREADS: u32 = 384;
/// Bytes of shared memory: four steps' operands with two barriers each, and room to align them.
const SHARED: usize = 1024 + 4 * ((TILE[0] + TILE[1]) * 2 * DEPTH as usize + 16);

pub(super) fn launch<T: Output>(cuda: &Cuda, mut product: Product<'_, T>) -> Result<()> {
    let (m, n) = product.c.shape();
    let row_tile = [TILE[0] as u32, DEPTH];
    let column_tile = if product.along_n { [DEPTH, DEPTH] } else { [TILE[1] as u32, DEPTH] };
    let (a, b) = (product.a.tensor_map(row_tile)?, product.b.tensor_map(column_tile)?);
    // without an adapter the kernel does not look at its maps
    let (u, v) = match product.adapter {
        Some(adapter) => (adapter.narrow.tensor_map(row_tile)?, adapter.factor.tensor_map(column_tile)?),
        None => (a.clone(), b.clone()),
    };
    let (stride_c, sizes) = (product.c.stride(), product.sizes());
    let arguments = [
        product.c.view().into(),
        (&a).into(),
        (&b).into(),
        Arg::optional(product.bias.map(Slice::view)),
        (&u).into(),
        (&v).into(),
        Arg::optional(product.adapter.and_then(|adapter| adapter.keep)),
        stride_c,
    ];
    let blocks = (m.div_ceil(TILE[0]) * n.div_ceil(TILE[1])).min(cuda.gpu().multiprocessors as usize);
    let entry = T::ENTRIES.hopper[usize::from(product.along_n)];
    let arguments: Vec<Arg<'_>> = arguments.into_iter().chain(sizes).collect();
    cuda.launch(entry, Grid::line(blocks, THREADS).shared(SHARED), &arguments)
}
