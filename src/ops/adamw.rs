//! AdamW with decoupled weight decay, and the global norm that clips its gradient.
//!
//! ```text
//! norm = sqrt(sum g^2)          c = min(1, max_norm / (norm + 1e-6))
//! p *= 1 - lr wd        m = b1 m + (1 - b1) c g        v = b2 v + (1 - b2) (c g)^2
//! p -= lr/(1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
//! ```
//!
//! p, g, m, v: P values: the contiguous arenas of all adapters, or one weight's; t counts from 1. Sums of squares run in f64
//! over fixed blocks. Source: Loshchilov & Hutter 2019, in the order of operations of torch.optim.AdamW;
//! the clip is torch's clip_grad_norm_; docs/math.md#adamw.

pub mod cuda;

use rayon::prelude::*;

use crate::device::{Buffer, Cost, Device, Part, PartMut};

/// The optimizer's constants at one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// b1.
    pub beta1: f64,
    /// b2.
    pub beta2: f64,
    /// eps.
    pub epsilon: f64,
    /// wd.
    pub weight_decay: f64,
    /// t, from 1.
    pub update: u64,
    /// c, the factor of the gradient.
    pub clip: f32,
}

/// The constants as every element uses them.
struct Rates {
    /// 1 - lr wd
    decay: f32,
    /// lr / (1 - b1^t)
    step: f32,
    /// sqrt(1 - b2^t)
    root: f32,
    beta1: f32,
    /// 1 - b1
    rest1: f32,
    beta2: f32,
    /// 1 - b2
    rest2: f32,
    epsilon: f32,
}

impl Constants {
    fn rates(&self) -> Rates {
        let t = self.update.min(i32::MAX as u64) as i32;
        Rates {
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
            step: (self.learning_rate / (1.0 - self.beta1.powi(t))) as f32,
            root: (1.0 - self.beta2.powi(t)).sqrt() as f32,
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
        }
    }
}

/// The 2-norm of all gradients.
pub fn global_norm(device: &Device, gradients: &Buffer) -> f64 {
    /// One block is one sum; the sums are added in order.
    const BLOCK: usize = 1 << 14;
    let _span = device.span("adamw.global_norm", || Cost::moves(gradients.values().len()));
    let Device::Cpu(cpu) = device;
    let sums: Vec<f64> = cpu.run(|| {
        let blocks = gradients.values().par_chunks(BLOCK);
        blocks.map(|block| block.iter().map(|&g| f64::from(g) * f64::from(g)).sum()).collect()
    });
    sums.iter().sum::<f64>().sqrt()
}

/// The factor that brings a gradient of norm `norm` to at most `max_norm` (0 = off).
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) as f32 }
}

/// One update of `p` and its moments.
pub fn update(
    device: &Device,
    constants: &Constants,
    mut p: PartMut<'_>,
    g: Part<'_>,
    mut m: PartMut<'_>,
    mut v: PartMut<'_>,
) {
    let (p, g, m, v) = (p.values_mut(), g.values(), m.values_mut(), v.values_mut());
    assert_eq!([p.len(), m.len(), v.len()], [g.len(); 3], "adamw: lengths");
    const BLOCK: usize = 1 << 14;
    let _span = device.span("adamw.update", || Cost::moves(7 * g.len()));
    let Device::Cpu(cpu) = device;
    let Rates { decay, step, root, beta1, rest1, beta2, rest2, epsilon } = constants.rates();
    cpu.run(|| {
        let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
        let values = p.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK));
        values.zip(moments).for_each(|((p, g), (m, v))| {
            for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * constants.clip;
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *p = *p * decay - step * *m / (v.sqrt() / root + epsilon);
            }
        });
    });
}
