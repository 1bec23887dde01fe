//! Attention on a GPU, in bf16. Contracts: `forward.cu` and `backward.cu` in `kernels/attention`, for every architecture, and
//! in `kernels/hopper/attention`.

mod hopper;
mod plan;
mod tiles;

use std::ops::Range;

use half::bf16;

pub use tiles::WIDTHS;

use super::{Heads, Layout};
use crate::base::Result;
pub use crate::device::cuda::Kernel;
use crate::device::cuda::{Arg, Cuda, Entry, Grid, Slice, TensorMap};
use plan::Blocks;
use tiles::{PADDING, Pass, Passes};

/// Threads of a block that makes delta, and the rows that it makes.
const DELTA_THREADS: u32 = 128;
const DELTA_ROWS: usize = 128;

/// A batch as the kernels know it: which blocks visit which tiles. Layers share it that agree in head width and window.
#[derive(Debug)]
pub struct Plan {
    width: usize,
    window: Option<u32>,
    rows: usize,
    tokens: usize,
    kernel: Kernel,
    passes: Passes,
    /// All lists, one after another.
    lists: Slice<i32>,
    limits: Range<usize>,
    ends: Range<usize>,
    forward: Blocks,
    queries: Blocks,
    keys: Blocks,
}

/// The kernels that there are for heads of a width, the one to prefer last.
pub fn kernels(cuda: &Cuda, width: usize) -> &'static [Kernel] {
    if hopper::WIDTHS.contains(&width) { Kernel::all(cuda) } else { &[Kernel::Portable] }
}

/// What the forward pass read and wrote.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Q, Nq x (H E).
    pub q: &'a Slice<bf16>,
    /// K, N x (K E).
    pub k: &'a Slice<bf16>,
    /// V, N x (K E).
    pub v: &'a Slice<bf16>,
    /// O, Nq x (H E).
    pub o: &'a Slice<bf16>,
    /// Log-sum-exp of the scores, H x Nq: the other way round than on the CPU.
    pub lse: &'a Slice<f32>,
}

impl Plan {
    /// The plan of a batch for layers with these heads. Panics if there is no kernel for their width ([`WIDTHS`]).
    pub fn new(cuda: &Cuda, layout: &Layout, heads: &Heads) -> Result<Self> {
        let kernel = kernels(cuda, heads.width).last().expect("one runs everywhere");
        Self::by(*kernel, cuda, layout, heads)
    }

    /// As [`Plan::new`], for the kernels of the caller's choice, one of [`kernels`].
    pub fn by(kernel: Kernel, cuda: &Cuda, layout: &Layout, heads: &Heads) -> Result<Self> {
        let passes = tiles::passes(kernel, heads.width);
        let plan = plan::Plan::new(layout, heads, &passes);
        Ok(Self {
            width: heads.width,
            window: heads.window,
            rows: layout.query_tokens.len(),
            tokens: layout.tokens(),
            kernel,
            passes,
            lists: cuda.upload(&plan.lists.values)?,
            limits: plan.limits,
            ends: plan.ends,
            forward: plan.forward,
            queries: plan.queries,
            keys: plan.keys,
        })
    }

    fn part(&self, range: &Range<usize>) -> Arg<'_> {
        self.lists.part(range.clone()).into()
    }

    /// N and P: query rows, and how many the lists hold.
    fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(PADDING)
    }

    /// What the plan and all passes need of the heads and of what they share.
    fn check(&self, heads: &Heads, q: &Slice<bf16>, k: &Slice<bf16>, v: &Slice<bf16>, lse: &Slice<f32>) {
        assert_eq!(
            (heads.width, heads.window),
            (self.width, self.window),
            "attention: the plan is of other heads"
        );
        assert!(
            heads.key_value > 0 && heads.query.is_multiple_of(heads.key_value) && heads.scale > 0.0,
            "attention: {heads:?}"
        );
        let (asked, seen) = (self.rows * heads.query, self.tokens * heads.key_value);
        let lengths =
            [(q.len(), asked * heads.width), (k.len(), seen * heads.width), (v.len(), seen * heads.width)];
        for ((found, needed), name) in lengths.into_iter().zip(["q", "k", "v"]) {
            assert_eq!(found, needed, "attention: length of {name}");
        }
        assert_eq!(lse.len(), asked, "attention: length of lse");
        let padded = (self.rows.max(self.tokens) + PADDING) * heads.query * heads.width;
        assert!(
            i32::try_from(padded).is_ok(),
            "attention: {padded} elements in a tensor, needed fewer than 2^31"
        );
    }

    /// A tensor as the kernels read it, in tiles of so many rows.
    fn input<'a>(&self, values: &'a Slice<bf16>, heads: usize, tile: usize) -> Result<Input<'a>> {
        let cols = heads * self.width;
        Ok(match self.kernel {
            Kernel::Portable => Input::Plain(values),
            Kernel::Hopper => {
                let tile = [tile, MAP_COLUMNS].map(|n| n as u32);
                Input::Map(TensorMap::new(values.view(), [values.len() / cols, cols], cols, tile)?)
            }
        })
    }

    /// Launches a pass for the blocks that have tasks, each for each of `heads`.
    fn launch<'a>(
        &'a self,
        cuda: &Cuda,
        (pass, blocks): (&Pass, &Blocks),
        heads: usize,
        mut arguments: Vec<Arg<'a>>,
        scale: f32,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        arguments
            .extend([&self.limits, &self.ends, &blocks.tasks, &blocks.visits].map(|list| self.part(list)));
        arguments.push(scale.into());
        let grid = match self.kernel {
            Kernel::Portable => Grid::of([heads, blocks.count, 1], pass.threads),
            Kernel::Hopper => {
                arguments.push(Arg::int(blocks.count));
                let multiprocessors = cuda.gpu().multiprocessors as usize;
                Grid::line((heads * blocks.count).min(multiprocessors), pass.threads)
            }
        };
        arguments.extend(sizes.into_iter().map(Arg::int));
        cuda.launch(pass.entry, grid.shared(pass.shared), &arguments)
    }
}

/// Columns of a tile of a tensor map.
const MAP_COLUMNS: usize = 64;

/// A tensor that a kernel reads.
enum Input<'a> {
    Plain(&'a Slice<bf16>),
    Map(TensorMap<'a>),
}

impl<'a> From<&'a Input<'a>> for Arg<'a> {
    fn from(input: &'a Input<'a>) -> Self {
        match input {
            Input::Plain(values) => (*values).into(),
            Input::Map(map) => map.into(),
        }
    }
}

/// O and lse from Q, K, V; shapes as in [`Saved`].
pub fn forward(
    cuda: &Cuda,
    plan: &Plan,
    heads: &Heads,
    o: &mut Slice<bf16>,
    lse: &mut Slice<f32>,
    q: &Slice<bf16>,
    k: &Slice<bf16>,
    v: &Slice<bf16>,
) -> Result<()> {
    plan.check(heads, q, k, v, lse);
    assert_eq!(o.len(), q.len(), "attention: length of o");
    let pass = &plan.passes.forward;
    let q = plan.input(q, heads.query, pass.own)?;
    let k = plan.input(k, heads.key_value, pass.visited)?;
    let v = plan.input(v, heads.key_value, pass.visited)?;
    let arguments = vec![o.into(), lse.into(), (&q).into(), (&k).into(), (&v).into()];
    let sizes = [plan.rows, plan.tokens, heads.query, heads.key_value];
    plan.launch(cuda, (pass, &plan.forward), heads.query, arguments, heads.scale, sizes)
}

/// dQ, dK and dV from dO; all three are overwritten. Takes 3 f32 for each row and head meanwhile.
pub fn backward(
    cuda: &Cuda,
    plan: &Plan,
    heads: &Heads,
    saved: Saved<'_>,
    d_o: &Slice<bf16>,
    dq: &mut Slice<bf16>,
    dk: &mut Slice<bf16>,
    dv: &mut Slice<bf16>,
) -> Result<()> {
    let Saved { q, k, v, o, lse } = saved;
    plan.check(heads, q, k, v, lse);
    assert_eq!(
        (o.len(), d_o.len(), dq.len()),
        (q.len(), q.len(), q.len()),
        "attention: lengths of o, do and dq"
    );
    assert_eq!((dk.len(), dv.len()), (k.len(), v.len()), "attention: lengths of dk and dv");
    let padded = plan.padded_rows();
    let mut lse2 = cuda.buffer::<f32>(heads.query * padded)?;
    let mut minus_delta = cuda.buffer::<f32>(heads.query * padded * 2)?;
    delta(cuda, plan, heads, &mut lse2, &mut minus_delta, d_o, o, lse)?;

    let Passes { queries, keys, .. } = &plan.passes;
    let inputs = |rows: usize, tokens: usize| -> Result<[Input<'_>; 4]> {
        let of_rows = |values| plan.input(values, heads.query, rows);
        let of_tokens = |values| plan.input(values, heads.key_value, tokens);
        Ok([of_rows(d_o)?, of_rows(q)?, of_tokens(k)?, of_tokens(v)?])
    };
    let statistics = || [(&lse2).into(), (&minus_delta).into()];
    let sizes = [plan.rows, padded, plan.tokens, heads.query, heads.key_value];

    let tensors = inputs(queries.own, queries.visited)?;
    let arguments = std::iter::once(dq.into()).chain(tensors.iter().map(Arg::from)).chain(statistics());
    let of_queries = (queries, &plan.queries);
    plan.launch(cuda, of_queries, heads.query, arguments.collect(), heads.scale, sizes)?;

    let tensors = inputs(keys.visited, keys.own)?;
    let arguments =
        [dk.into(), dv.into()].into_iter().chain(tensors.iter().map(Arg::from)).chain(statistics());
    plan.launch(cuda, (keys, &plan.keys), heads.key_value, arguments.collect(), heads.scale, sizes)
}

/// What the backward passes need of each row besides its vectors.
fn delta(
    cuda: &Cuda,
    plan: &Plan,
    heads: &Heads,
    lse2: &mut Slice<f32>,
    minus_delta: &mut Slice<f32>,
    d_o: &Slice<bf16>,
    o: &Slice<bf16>,
    lse: &Slice<f32>,
) -> Result<()> {
    let padded = plan.padded_rows();
    let counts = [plan.rows, padded, heads.query].map(Arg::int);
    let arguments: Vec<Arg<'_>> = [lse2.into(), minus_delta.into(), d_o.into(), o.into(), lse.into()]
        .into_iter()
        .chain(counts)
        .collect();
    let entry: Entry = plan.passes.delta;
    cuda.launch(entry, Grid::of([heads.query, padded / DELTA_ROWS, 1], DELTA_THREADS), &arguments)
}
