//! The norm on a GPU, in bf16. Contract: `kernels/rmsnorm.cu`.
//!
//! A group is a row as wide as the model, or a head; heads are short, so a few lanes hold one.

use half::bf16;

use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Entry, Grid, Slice};

/// What a thread of a block holds of a row.
const VALUES_PER_THREAD: usize = 32;
/// The most threads of a block that holds a row.
const ROW_THREADS: usize = 512;
/// The threads of a block that holds several heads.
const HEAD_THREADS: usize = 256;
/// Threads that fill a multiprocessor, by the registers that a thread of the kernels takes: blocks beyond them
/// would wait, and then read w once more.
const RESIDENT_ROW_THREADS: usize = 512;
const RESIDENT_HEAD_THREADS: usize = 1280;

/// The widest group.
pub const MAX_WIDTH: usize = VALUES_PER_THREAD * ROW_THREADS;

/// Norms each group of `x` into `y`; keeps 1/rms of each in `rrms`. A group is as wide as `w`.
pub fn forward(
    cuda: &Cuda,
    y: &mut Slice<bf16>,
    rrms: &mut Slice<f32>,
    x: &Slice<bf16>,
    w: &Slice<bf16>,
    offset: f32,
    eps: f32,
) -> Result<()> {
    let shape = Shape::check(x, rrms, w);
    assert_eq!(y.len(), x.len(), "rmsnorm: length of y");
    let mut arguments = vec![y.into(), rrms.into(), x.into(), w.into(), offset.into(), eps.into()];
    shape.push(&mut arguments);
    cuda.launch(
        shape.entry("rmsnorm_forward_bf16", "rmsnorm_forward_heads_bf16"),
        shape.grid(cuda),
        &arguments,
    )
}

/// What is added to the gradient of the norm's input.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// Nothing: `dx` is overwritten.
    None,
    /// What `dx` holds: `dx +=`.
    InPlace,
    /// Another gradient of the same length.
    Of(&'a Slice<bf16>),
}

/// `dx = residual +` the gradient through the norm.
pub fn backward(
    cuda: &Cuda,
    dx: &mut Slice<bf16>,
    dy: &Slice<bf16>,
    x: &Slice<bf16>,
    rrms: &Slice<f32>,
    w: &Slice<bf16>,
    residual: Residual<'_>,
    offset: f32,
) -> Result<()> {
    let shape = Shape::check(x, rrms, w);
    assert_eq!((dx.len(), dy.len()), (x.len(), x.len()), "rmsnorm: lengths of dx and dy");
    let dx = Arg::from(dx);
    let residual = match residual {
        Residual::None => Arg::null(),
        Residual::InPlace => dx.as_input(),
        Residual::Of(other) => {
            assert_eq!(other.len(), x.len(), "rmsnorm: length of the residual");
            other.into()
        }
    };
    let mut arguments = vec![dx, dy.into(), x.into(), rrms.into(), w.into(), residual, offset.into()];
    shape.push(&mut arguments);
    cuda.launch(
        shape.entry("rmsnorm_backward_bf16", "rmsnorm_backward_heads_bf16"),
        shape.grid(cuda),
        &arguments,
    )
}

/// How many groups, how wide, and who holds one.
struct Shape {
    groups: usize,
    width: usize,
    /// Lanes of a warp that hold a group; none where a whole block does.
    lanes: Option<usize>,
}

impl Shape {
    /// The kernel's needs, of what all passes have in common.
    fn check(x: &Slice<bf16>, rrms: &Slice<f32>, w: &Slice<bf16>) -> Self {
        let width = w.len();
        assert!(
            width > 0 && width.is_multiple_of(8) && width <= MAX_WIDTH,
            "rmsnorm: width {width}, needed a multiple of 8 up to {MAX_WIDTH}"
        );
        assert!(x.len().is_multiple_of(width), "rmsnorm: {} values are no groups of {width}", x.len());
        let groups = x.len() / width;
        assert_eq!(rrms.len(), groups, "rmsnorm: length of rrms");
        let lanes = (width <= 256).then(|| (width / 8).next_power_of_two().max(8));
        Self { groups, width, lanes }
    }

    fn entry(&self, rows: &'static str, heads: &'static str) -> Entry {
        Entry::new("rmsnorm", if self.lanes.is_some() { heads } else { rows })
    }

    /// As many blocks as run at once, or fewer if there is less to do.
    fn grid(&self, cuda: &Cuda) -> Grid {
        let (threads, groups_per_block, resident_threads) = match self.lanes {
            Some(lanes) => (HEAD_THREADS, HEAD_THREADS / lanes, RESIDENT_HEAD_THREADS),
            None => (self.width.div_ceil(VALUES_PER_THREAD).next_multiple_of(32), 1, RESIDENT_ROW_THREADS),
        };
        let resident = cuda.gpu().multiprocessors as usize * (resident_threads / threads);
        Grid::line(self.groups.div_ceil(groups_per_block).min(resident), threads as u32)
    }

    fn push(&self, arguments: &mut Vec<Arg<'_>>) {
        arguments.extend([Arg::int(self.groups), Arg::int(self.width)]);
        arguments.extend(self.lanes.map(Arg::int));
    }
}
