//! The gated middle on a GPU, in bf16. Contract: `kernels/swiglu.cu`.

use half::bf16;

use super::Activation;
use crate::base::Result;
use crate::device::cuda::{Arg, Cuda, Entry, Grid, Slice};

const THREADS: u32 = 256;
/// What a block works on: 8 values a thread.
const VALUES_PER_BLOCK: usize = 8 * THREADS as usize;

/// h = act(gate) up
pub fn forward(
    cuda: &Cuda,
    activation: Activation,
    h: &mut Slice<bf16>,
    gate: &Slice<bf16>,
    up: &Slice<bf16>,
) -> Result<()> {
    let count = h.len();
    assert_eq!((gate.len(), up.len()), (count, count), "gated: lengths of gate and up");
    let entry = match activation {
        Activation::Silu => "swiglu_forward_bf16",
        Activation::GeluTanh => "geglu_forward_bf16",
    };
    cuda.launch(Entry::new("swiglu", entry), grid(count), &[h.into(), gate.into(), up.into(), length(count)])
}

/// Turns gate and up into their gradients, in place.
pub fn backward(
    cuda: &Cuda,
    activation: Activation,
    dh: &Slice<bf16>,
    gate: &mut Slice<bf16>,
    up: &mut Slice<bf16>,
) -> Result<()> {
    let count = dh.len();
    assert_eq!((gate.len(), up.len()), (count, count), "gated: lengths of gate and up");
    let entry = match activation {
        Activation::Silu => "swiglu_backward_bf16",
        Activation::GeluTanh => "geglu_backward_bf16",
    };
    let (dgate, dup) = (Arg::from(gate), Arg::from(up));
    let (gate, up) = (dgate.as_input(), dup.as_input());
    cuda.launch(Entry::new("swiglu", entry), grid(count), &[dgate, dup, dh.into(), gate, up, length(count)])
}

fn grid(count: usize) -> Grid {
    assert!(count.is_multiple_of(8), "gated: {count} elements, needed a multiple of 8");
    Grid::line(count.div_ceil(VALUES_PER_BLOCK), THREADS)
}

/// A number of elements, as the kernel's `long long`.
fn length(count: usize) -> Arg<'static> {
    (count as i64).into()
}
