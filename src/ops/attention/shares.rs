//! The parts of a matrix that tasks write side by side.

use std::ops::Range;

/// For each of `tiles`, which ascend, and each of its `heads` groups of columns, a slice a row.
pub(super) fn shares<'a, 'b>(
    x: &'a mut [f32],
    heads: usize,
    width: usize,
    tiles: impl Iterator<Item = &'b Range<usize>>,
) -> Vec<Vec<&'a mut [f32]>> {
    let mut rows = x.chunks_exact_mut(heads * width).enumerate();
    let mut shares = Vec::new();
    for tile in tiles {
        let first = shares.len();
        shares.resize_with(first + heads, || Vec::with_capacity(tile.len()));
        let of_tile = rows.by_ref().skip_while(|(row, _)| *row < tile.start).take(tile.len());
        for (_, row) in of_tile {
            for (share, values) in shares[first..].iter_mut().zip(row.chunks_exact_mut(width)) {
                share.push(values);
            }
        }
    }
    shares
}

/// Copies `computed`, heads x rows x width, to `share`'s rows.
pub(super) fn put(share: Vec<&mut [f32]>, computed: &[f32], width: usize) {
    let rows = share.len();
    for (row, out) in share.into_iter().enumerate() {
        for (head, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (head * rows + row) * width;
            out.copy_from_slice(&computed[at..at + width]);
        }
    }
}
