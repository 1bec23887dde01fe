//! One optimizer update, top to bottom: forward, loss, backward, clip, update.
//!
//! The loss of an update is sum(w l) / sum(w) over its trained tokens, however they are cut into
//! micro-batches: every gradient is scaled by 1 / sum(w) of the whole update, and gradients add.

use super::learner::Learner;
use crate::device::{Buffer, Device};
use crate::model::{Batch, DropoutRun, Model, Pass, pass::Keep};
use crate::ops::adamw::{self, Constants};
use crate::ops::cross_entropy::{self, Gradients, Target};
use crate::tensor::{Forest, Site};

/// Gradients and moments of what is trained, in the layout of its arena.
#[derive(Debug)]
pub struct Optimizer {
    /// The gradient of the current update.
    pub gradients: Buffer,
    /// First moment.
    pub m: Buffer,
    /// Second moment.
    pub v: Buffer,
}

impl Optimizer {
    /// Zero moments for `params` parameters.
    pub fn new(device: &Device, params: usize) -> Self {
        Self { gradients: device.zeros(1, params), m: device.zeros(1, params), v: device.zeros(1, params) }
    }
}

/// The loss of one site, not weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteLoss {
    /// The example's place in the update.
    pub example: u32,
    /// Its weight.
    pub weight: f32,
    /// Its loss, smoothing included.
    pub loss: f64,
}

/// sum(w l) / sum(w)
pub fn mean_loss(losses: &[SiteLoss]) -> f64 {
    let weight: f64 = losses.iter().map(|l| f64::from(l.weight)).sum();
    losses.iter().map(|l| f64::from(l.weight) * l.loss).sum::<f64>() / weight
}

/// Forward and backward over an update's micro-batches; leaves the whole update's gradient in `gradients`.
pub fn gradient(
    device: &Device,
    learner: &Learner,
    forests: &[Forest],
    dropout: Option<&DropoutRun>,
    recompute: bool,
    gradients: &mut Buffer,
) -> Vec<SiteLoss> {
    device.clear(gradients);
    let (model, adapter) = (&learner.model, learner.adapter.as_ref());
    let weight: f64 = forests.iter().flat_map(|f| &f.sites).map(|site| f64::from(site.weight)).sum();
    let scale = (1.0 / weight) as f32;
    let keep = if recompute { Keep::BlockInputs } else { Keep::All };
    let mut of_forest = |forest: &Forest| {
        let batch = Batch::at_sites(forest);
        let pass = Pass::forward(device, model, adapter, &batch, dropout, keep);
        let mut d_hidden = device.buffer(pass.hidden.rows(), pass.hidden.cols());
        let dw = adapter.is_none().then(|| gradients.part_mut(model.head_range()));
        let wanted = Some(Gradients { dh: &mut d_hidden, dw });
        let targets = targets(forest);
        let losses = cross_entropy::forward(device, &pass.hidden, model.head(), &targets, scale, wanted);
        pass.backward(device, model, adapter, &batch, dropout, &d_hidden, gradients);
        site_losses(&forest.sites, &losses).collect::<Vec<_>>()
    };
    device.run(|| forests.iter().flat_map(&mut of_forest).collect())
}

/// The losses of a batch whose final hidden states at its sites are known.
pub(super) fn losses(device: &Device, model: &Model, forest: &Forest, hidden: &Buffer) -> Vec<SiteLoss> {
    let of_sites = cross_entropy::forward(device, hidden, model.head(), &targets(forest), 1.0, None);
    site_losses(&forest.sites, &of_sites).collect()
}

/// Clips the gradient to `max_grad_norm` (0 = off) and updates what is trained.
pub fn apply(
    device: &Device,
    learner: &mut Learner,
    optimizer: &mut Optimizer,
    grad_norm: f64,
    max_grad_norm: f64,
    mut constants: Constants,
) {
    constants.clip = adamw::clip_factor(grad_norm, max_grad_norm);
    learner.update(device, optimizer, &constants);
}

/// The forest's sites as targets of the head's rows.
fn targets(forest: &Forest) -> Vec<Target> {
    let mut row = 0;
    let mut previous = forest.sites.first().map_or(0, |site| site.token);
    let target = |site: &Site| {
        if site.token != previous {
            row += 1;
            previous = site.token;
        }
        Target { row, token: site.target, weight: site.weight, smoothing: site.smoothing }
    };
    forest.sites.iter().map(target).collect()
}

fn site_losses<'a>(sites: &'a [Site], losses: &'a [f64]) -> impl Iterator<Item = SiteLoss> + 'a {
    sites.iter().zip(losses).map(|(site, &loss)| SiteLoss {
        example: site.example,
        weight: site.weight,
        loss,
    })
}
