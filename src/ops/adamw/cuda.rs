//! AdamW on a GPU, in f32, with a bf16 copy of the parameters for the products. Contract: `kernels/adamw.cu`.

use half::bf16;

use super::{Constants, Rates};
use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Entry, Grid, Slice};

const THREADS: u32 = 256;
/// Elements of a partial sum. With [`MAX_PARTIALS`] it decides the bits of the norm, so no device may.
const ELEMENTS_PER_PARTIAL: usize = 8192;
const MAX_PARTIALS: usize = 1024;
/// Elements that a block of the update takes at a time: 4 a thread.
const ELEMENTS_PER_BLOCK: usize = 4 * THREADS as usize;
/// What the registers of a multiprocessor have room for.
const BLOCKS_PER_MULTIPROCESSOR: usize = 5;

/// The gradient's norm, on its way from one launch to the other and to the host.
#[derive(Debug)]
pub struct Norm {
    partials: Slice<f32>,
    value: Slice<f32>,
}

impl Norm {
    /// For `params` parameters.
    pub fn new(cuda: &Cuda, params: usize) -> Result<Self> {
        Ok(Self { partials: cuda.buffer(partials(params))?, value: cuda.buffer(1)? })
    }

    /// The norm that the last update found, before clipping. If it is not finite, that update changed nothing.
    pub fn read(&self, cuda: &Cuda) -> Result<f32> {
        Ok(cuda.download(&self.value)?[0])
    }
}

/// What an update changes: P values each, in the arena's layout.
#[derive(Debug)]
pub struct State<'a> {
    /// The parameters.
    pub p: &'a mut Slice<f32>,
    /// Their bf16 copy.
    pub p_bf16: &'a mut Slice<bf16>,
    /// First moment.
    pub m: &'a mut Slice<f32>,
    /// Second moment.
    pub v: &'a mut Slice<f32>,
}

/// One update, with `g` clipped to `max_norm` (0 = off). `constants.clip` is not used: the device finds it.
pub fn update(
    cuda: &Cuda,
    constants: &Constants,
    max_norm: f64,
    state: State<'_>,
    g: &Slice<f32>,
    norm: &mut Norm,
) -> Result<()> {
    let State { p, p_bf16, m, v } = state;
    let params = g.len();
    let lengths = [p.len(), p_bf16.len(), m.len(), v.len()];
    assert_eq!(lengths, [params; 4], "adamw: lengths of p, p_bf16, m, v");
    assert_eq!(norm.partials.len(), partials(params), "adamw: the norm is of another number of parameters");
    let count = || Arg::from(params as i64);

    let entry = Entry::new("adamw", "adamw_norm_f32");
    let sums = (&mut norm.partials).into();
    cuda.launch(entry, Grid::line(partials(params), THREADS), &[sums, g.into(), count()])?;

    let Rates { decay, step, root, beta1, rest1, beta2, rest2, epsilon } = constants.rates();
    let mut arguments = vec![p.into(), m.into(), v.into(), p_bf16.into(), (&mut norm.value).into()];
    arguments.extend([g.into(), (&norm.partials).into()]);
    let scalars = [max_norm as f32, decay, step, root, beta1, rest1, beta2, rest2, epsilon];
    arguments.extend(scalars.map(Arg::from));
    arguments.extend([Arg::int(partials(params)), count()]);
    let resident = cuda.gpu().multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR;
    let blocks = params.div_ceil(ELEMENTS_PER_BLOCK).clamp(1, resident);
    cuda.launch(Entry::new("adamw", "adamw_update_f32"), Grid::line(blocks, THREADS), &arguments)
}

fn partials(params: usize) -> usize {
    params.div_ceil(ELEMENTS_PER_PARTIAL).clamp(1, MAX_PARTIALS)
}
