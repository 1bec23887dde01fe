//! The low-rank update on a GPU, in bf16. Contracts: `kernels/lora/forward.cu`, `kernels/lora/backward.cu`.
//!
//! The adapters of linears that read the same x (q, k and v; gate and up) are one stacked adapter here: their A
//! one below the other, their xa and dxa side by side. y += s xa B^T and dx += mask (dxa A) are parts of
//! [`linear::cuda`](crate::ops::linear::cuda), adapter by adapter; xa and dxa hold s, and dxa 1 / (1 - p).
//!
//! Dropout's bits are made once, by [`forward`], and kept for the backward pass.

use half::bf16;

use crate::base::Result;
use crate::base::philox::Philox;
use crate::device::cuda::{Arg, Cuda, Entry, Grid, Slice, View};
use crate::ops::linear::cuda::{Matrix, MatrixMut};

const THREADS: u32 = 128;
/// Columns of a block, where all fit.
const NARROW: usize = 16;
/// Columns of a block otherwise.
const WIDE: usize = 64;
/// Tokens of a block on the way to xa and dxa.
const TOKENS: usize = 32;
/// Features of a block that sums over tokens, and of a panel of keep bits.
const PANEL: usize = 128;
/// Tokens that a block takes at a time when it sums over them.
const STEP: usize = 32;
/// Blocks that fill any GPU: the number of parts of a sum depends on shapes only, and so do its bits.
const BLOCKS: usize = 512;

/// The dropout of stacked adapters in one update. As `ops::lora::Dropout`, but for several modules.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// The run's dropout stream.
    pub philox: &'a Philox,
    /// p, in (0, 1).
    pub rate: f32,
    /// Update number.
    pub update: u32,
    /// Numbers of the linears in the model, in the order of the stack.
    pub modules: &'a [u32],
    /// (example's place in the update, token's place in the example) of each row, N x 2.
    pub rows: &'a Slice<u32>,
}

/// Words of keep bits of one adapter; those of stacked adapters follow each other.
pub fn keep_words(tokens: usize, features: usize) -> usize {
    tokens * features.div_ceil(PANEL) * PANEL / 32
}

/// xa = s z A^T for stacked adapters; with dropout it leaves the bits of what it kept in `keep`.
pub fn forward(
    cuda: &Cuda,
    mut xa: MatrixMut<'_, bf16>,
    x: Matrix<'_>,
    a: Matrix<'_>,
    scale: f32,
    dropout: Option<(&Dropout<'_>, &mut Slice<u32>)>,
) -> Result<()> {
    let ((n, d), (columns, _)) = (x.shape(), a.shape());
    assert_eq!((xa.shape(), a.shape().1), ((n, columns), d), "lora: shapes of xa and A");
    let (grid, width) = project_grid(n, columns);
    let strides = [xa.stride(), x.stride(), a.stride()];
    let shape = [n, d, columns].map(Arg::int);
    let file = "lora/forward";
    let Some((dropout, keep)) = dropout else {
        let entry = Entry::new(file, width.of("lora_forward_narrow_bf16", "lora_forward_wide_bf16"));
        let mut arguments: Vec<Arg<'_>> = vec![xa.view().into(), x.view().into(), a.view().into()];
        arguments.extend(strides);
        arguments.push(scale.into());
        arguments.extend(shape);
        return cuda.launch(entry, grid, &arguments);
    };
    let rank = dropout.rank(columns);
    assert_eq!(dropout.rows.len(), 2 * n, "lora: length of the rows' places");
    assert_eq!(keep.len(), dropout.modules.len() * keep_words(n, d), "lora: length of the dropout's bits");
    let entry =
        Entry::new(file, width.of("lora_forward_dropout_narrow_bf16", "lora_forward_dropout_wide_bf16"));
    let mut arguments: Vec<Arg<'_>> =
        vec![xa.view().into(), keep.into(), x.view().into(), a.view().into(), dropout.rows.into()];
    arguments.extend(strides);
    arguments.push((scale * super::gain(dropout.rate)).into());
    arguments.extend(shape);
    arguments.push(Arg::int(rank));
    arguments.push(super::threshold(dropout.rate).into());
    arguments.extend(dropout.philox.key().map(Arg::from));
    arguments.push(dropout.update.into());
    arguments.extend((0..3).map(|i| Arg::from(dropout.modules.get(i).copied().unwrap_or(0))));
    cuda.launch(entry, grid, &arguments)
}

impl Dropout<'_> {
    /// R, of `columns` columns in all.
    fn rank(&self, columns: usize) -> usize {
        let modules = self.modules.len();
        assert!((1..=3).contains(&modules), "lora: dropout of {modules} stacked adapters, needed 1 to 3");
        let rank = columns / modules;
        assert!(
            rank * modules == columns && [8, 16, 32, 64].contains(&rank),
            "lora: {columns} columns for {modules} adapters, needed 8, 16, 32 or 64 each"
        );
        rank
    }
}

/// dxa = s dy B, and over 1 - p with dropout at rate p (else 0), for one adapter. `b` is out x R.
pub fn gradient_xa(
    cuda: &Cuda,
    mut dxa: MatrixMut<'_, bf16>,
    dy: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    rate: f32,
) -> Result<()> {
    let ((n, outputs), (_, rank)) = (dy.shape(), b.shape());
    assert_eq!((dxa.shape(), b.shape().0), ((n, rank), outputs), "lora: shapes of dxa and B");
    let (grid, width) = project_grid(n, rank);
    let entry =
        Entry::new("lora/backward", width.of("lora_backward_dxa_narrow_bf16", "lora_backward_dxa_wide_bf16"));
    let stride_dxa = dxa.stride();
    let arguments = [
        dxa.view().into(),
        dy.view().into(),
        b.view().into(),
        stride_dxa,
        dy.stride(),
        b.stride(),
        (scale * super::gain(rate)).into(),
        Arg::int(n),
        Arg::int(outputs),
        Arg::int(rank),
    ];
    cuda.launch(entry, grid, &arguments)
}

/// dB += dy^T xa for one adapter. `partial` has [`partial_len`]`(N, out, R)` elements.
pub fn gradient_b(
    cuda: &Cuda,
    db: &mut Slice<f32>,
    dy: Matrix<'_>,
    xa: Matrix<'_>,
    partial: &mut Slice<f32>,
) -> Result<()> {
    let sums = TokenSums::check(db, dy, xa, partial);
    let entry = sums.width.of("lora_backward_b_narrow_bf16", "lora_backward_b_wide_bf16");
    sums.launch(cuda, entry, None, partial)?;
    sums.add(cuda, db, partial)
}

/// Dropout's bits of stacked adapters, and R.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// As [`forward`] left them.
    pub keep: View<'a, u32>,
    /// R.
    pub rank: usize,
}

/// dA += dxa^T z for stacked adapters. `partial` has [`partial_len`]`(N, in, columns of dxa)` elements.
pub fn gradient_a(
    cuda: &Cuda,
    da: &mut Slice<f32>,
    x: Matrix<'_>,
    dxa: Matrix<'_>,
    dropout: Option<Kept<'_>>,
    partial: &mut Slice<f32>,
) -> Result<()> {
    let sums = TokenSums::check(da, x, dxa, partial);
    let entry = if let Some(Kept { keep, rank }) = dropout {
        let words = sums.columns / rank * keep_words(sums.tokens, sums.features);
        assert_eq!(keep.len(), words, "lora: length of the dropout's bits");
        sums.width.of("lora_backward_a_dropout_narrow_bf16", "lora_backward_a_dropout_wide_bf16")
    } else {
        sums.width.of("lora_backward_a_narrow_bf16", "lora_backward_a_wide_bf16")
    };
    sums.launch(cuda, entry, dropout, partial)?;
    sums.add(cuda, da, partial)
}

/// Elements that [`gradient_a`] and [`gradient_b`] need to add in two steps.
pub fn partial_len(tokens: usize, features: usize, columns: usize) -> usize {
    tokens.div_ceil(tokens_per_part(tokens, features, columns)) * features * columns
}

/// As many parts as fill a GPU, but so few that writing and reading them again costs at most as much as reading
/// the wide matrix: 8 bytes x features x columns a part, against 2 bytes x features a token.
fn tokens_per_part(tokens: usize, features: usize, columns: usize) -> usize {
    let blocks = features.div_ceil(PANEL) * columns.div_ceil(Width::of_columns(columns).columns());
    let parts = (BLOCKS / blocks).max(1);
    tokens.div_ceil(parts).max(4 * columns).next_multiple_of(STEP)
}

/// Which instance of a kernel: how many columns a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Narrow,
    Wide,
}

impl Width {
    fn of_columns(columns: usize) -> Self {
        if columns <= NARROW { Self::Narrow } else { Self::Wide }
    }

    fn columns(self) -> usize {
        self.of(NARROW, WIDE)
    }

    fn of<T>(self, narrow: T, wide: T) -> T {
        match self {
            Self::Narrow => narrow,
            Self::Wide => wide,
        }
    }
}

fn project_grid(tokens: usize, columns: usize) -> (Grid, Width) {
    let width = Width::of_columns(columns);
    (Grid::of([columns.div_ceil(width.columns()), tokens.div_ceil(TOKENS), 1], THREADS), width)
}

/// One gradient: a wide matrix (dy or x) and a narrow one (xa or dxa), summed over tokens.
struct TokenSums<'a> {
    wide: Matrix<'a>,
    narrow: Matrix<'a>,
    tokens: usize,
    features: usize,
    columns: usize,
    width: Width,
    tokens_per_part: usize,
}

impl<'a> TokenSums<'a> {
    fn check(gradient: &Slice<f32>, wide: Matrix<'a>, narrow: Matrix<'a>, partial: &Slice<f32>) -> Self {
        let ((tokens, features), (rows, columns)) = (wide.shape(), narrow.shape());
        assert_eq!(rows, tokens, "lora: rows of xa or dxa");
        assert_eq!(gradient.len(), features * columns, "lora: length of the gradient");
        assert_eq!(partial.len(), partial_len(tokens, features, columns), "lora: length of the partial sums");
        let (width, tokens_per_part) =
            (Width::of_columns(columns), tokens_per_part(tokens, features, columns));
        Self { wide, narrow, tokens, features, columns, width, tokens_per_part }
    }

    fn parts(&self) -> usize {
        self.tokens.div_ceil(self.tokens_per_part)
    }

    fn launch(
        &self,
        cuda: &Cuda,
        entry: &'static str,
        dropout: Option<Kept<'_>>,
        partial: &mut Slice<f32>,
    ) -> Result<()> {
        let blocks =
            [self.columns.div_ceil(self.width.columns()), self.features.div_ceil(PANEL), self.parts()];
        let mut arguments: Vec<Arg<'_>> =
            vec![partial.into(), self.wide.view().into(), self.narrow.view().into()];
        arguments.extend(dropout.map(|dropout| dropout.keep.into()));
        arguments.extend([self.wide.stride(), self.narrow.stride()]);
        arguments.extend([self.tokens, self.features, self.columns].map(Arg::int));
        arguments.extend(dropout.map(|dropout| Arg::int(dropout.rank)));
        arguments.push(Arg::int(self.tokens_per_part));
        cuda.launch(Entry::new("lora/backward", entry), Grid::of(blocks, THREADS), &arguments)
    }

    /// The second step.
    fn add(&self, cuda: &Cuda, gradient: &mut Slice<f32>, partial: &Slice<f32>) -> Result<()> {
        const THREADS: u32 = 256;
        let fours = self.features * self.columns / 4;
        let grid = Grid::line(fours.div_ceil(THREADS as usize), THREADS);
        let arguments = [gradient.into(), partial.into(), Arg::int(self.parts()), Arg::int(fours)];
        cuda.launch(Entry::new("lora/backward", "lora_backward_sum_f32"), grid, &arguments)
    }
}
