//! `kernels/hopper/gemm.cu`: products by the warpgroup instructions of compute capability 9.0.

use super::{Output, Product};
use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Grid, Slice};

/// Rows of a tile of the output, the columns that it may have, and k of a step.
const ROWS: usize = 128;
const COLUMNS: [usize; 2] = [256, 192];
const DEPTH: usize = 64;
const THREADS: u32 = 384;

/// Which of [`COLUMNS`] covers an output with less waste; of equals the wider one, which reads less.
fn width(n: usize) -> usize {
    usize::from(n.next_multiple_of(COLUMNS[1]) < n.next_multiple_of(COLUMNS[0]))
}

/// Bytes of shared memory: as many steps' operands as fit, two barriers for each, and room to align them.
fn shared(columns: usize) -> usize {
    let stages = if columns > 192 { 4 } else { 5 };
    1024 + stages * ((ROWS + columns) * DEPTH * 2 + 16)
}

pub(super) fn launch<T: Output>(cuda: &Cuda, mut product: Product<'_, T>) -> Result<()> {
    let (m, n) = product.c.shape();
    let width = width(n);
    let columns = COLUMNS[width];
    let tile = |lines: usize| [lines as u32, DEPTH as u32];
    let (row_tile, column_tile) = (tile(ROWS), tile(if product.along_n { DEPTH } else { columns }));
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
    let blocks = (m.div_ceil(ROWS) * n.div_ceil(columns)).min(cuda.gpu().multiprocessors as usize);
    let entry = T::ENTRIES.hopper[width][usize::from(product.along_n)];
    let arguments: Vec<Arg<'_>> = arguments.into_iter().chain(sizes).collect();
    cuda.launch(entry, Grid::line(blocks, THREADS).shared(shared(columns)), &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_with_less_waste_is_chosen() {
        let chosen = |n: usize| COLUMNS[width(n)];
        assert_eq!([8, 576, 1536, 4096, 14336, 896].map(chosen), [192, 192, 256, 256, 256, 192]);
        assert_eq!(COLUMNS.map(shared), [197_696, 205_904]);
    }
}
