//! One decoder block: its forward pass and, in mirrored order, its backward pass.
//!
//! ```text
//! n = norm(x)      q, k, v = rope(norm?(n Wq)), rope(norm?(n Wk)), n Wv      o = attention(q, k, v)
//! mid = x + norm?(o Wo)
//! n = norm(mid)    g, u = n Wg, n Wu    m = act(g) u
//! out = mid + norm?(m Wd)
//! ```
//!
//! norm? is there in some families only. Every W may carry an adapter. In the last block, q and all that
//! follows exist only for the wanted rows (`queries`). Shapes: N tokens, Q query rows, D, H, K, E, F as in `ops`.

use super::batch::{DropoutRun, TokenRows};
use super::parameters::Id;
use super::weights::{Block, LinearWeights, Model};
use crate::adapter::{Lora, Projection};
use crate::device::{Buffer, Device, PartMut};
use crate::ops::lora::Dropout;
use crate::ops::rope::{self, Turn};
use crate::ops::{attention, gated, linear, lora, rmsnorm, rows};

/// What all blocks of a pass share.
pub(super) struct Context<'a> {
    pub(super) device: &'a Device,
    pub(super) model: &'a Model,
    /// What is trained; without an adapter, every weight.
    pub(super) adapter: Option<&'a Lora>,
    pub(super) dropout: Option<&'a DropoutRun>,
    pub(super) tables: &'a [rope::Table],
    pub(super) all: &'a TokenRows,
}

/// How far down a block's gradient is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To the block's input: a lower block has an adapter, or all weights are trained.
    Input,
    /// To this linear's adapter and no further.
    DownTo(Projection),
}

impl Need {
    fn input_of(self, projection: Projection) -> bool {
        match self {
            Self::Input => true,
            Self::DownTo(lowest) => stage(lowest) < stage(projection),
        }
    }

    fn reaches(self, projection: Projection) -> bool {
        match self {
            Self::Input => true,
            Self::DownTo(lowest) => stage(lowest) <= stage(projection),
        }
    }
}

/// Linears of one stage read the same input.
fn stage(projection: Projection) -> usize {
    match projection {
        Projection::Q | Projection::K | Projection::V => 0,
        Projection::O => 1,
        Projection::Gate | Projection::Up => 2,
        Projection::Down => 3,
    }
}

/// A block's input and all that its backward pass reads.
#[derive(Debug)]
pub(super) struct BlockSaved {
    pub(super) x: Buffer, // N x D
    pub(super) inner: Saved,
}

/// Saved tensors of one block.
#[derive(Debug)]
pub(super) struct Saved {
    x_rrms: Buffer,                // N x 1
    q_normed: Option<NormInput>,   // Q x HE
    k_normed: Option<NormInput>,   // N x KE
    q: Buffer,                     // Q x HE, after rope
    k: Buffer,                     // N x KE, after rope
    v: Buffer,                     // N x KE
    o: Buffer,                     // Q x HE
    lse: Buffer,                   // Q x H
    o_normed: Option<NormInput>,   // Q x D
    mid: Buffer,                   // Q x D
    mid_rrms: Buffer,              // Q x 1
    g: Buffer,                     // Q x F
    u: Buffer,                     // Q x F
    out_normed: Option<NormInput>, // Q x D
    xa: [Option<Buffer>; 7],       // rows x R, one a linear
}

/// What an optional norm read, and its 1/rms.
#[derive(Debug)]
struct NormInput {
    x: Buffer,
    rrms: Buffer,
}

/// A block's keys and values of tokens that went before, and the rows that the batch's own have among them.
#[derive(Debug)]
pub(super) struct Past<'a> {
    pub(super) keys: &'a mut Buffer,
    pub(super) values: &'a mut Buffer,
    pub(super) rows: &'a [u32],
}

impl<'a> Past<'a> {
    /// All keys and values, the batch's own included.
    fn and(self, device: &Device, k: &Buffer, v: &Buffer) -> (&'a Buffer, &'a Buffer) {
        rows::scatter(device, k, self.rows, self.keys);
        rows::scatter(device, v, self.rows, self.values);
        (self.keys, self.values)
    }
}

/// The block's output (Q x D) and its saved tensors; `queries` = `None` means all tokens.
///
/// With a `past`, the layouts are over its rows, and there is no way back.
pub(super) fn forward(
    context: &Context<'_>,
    layer: usize,
    queries: Option<&TokenRows>,
    past: Option<Past<'_>>,
    x: &Buffer,
) -> (Buffer, Saved) {
    let Context { device, model, all, .. } = *context;
    let (spec, block) = (model.spec(), &model.blocks[layer]);
    let table = &context.tables[spec.layers[layer].rope];
    let asked = queries.unwrap_or(all);
    let mut step = Step { context, block, layer, xa: Default::default() };

    let (n, x_rrms) = step.norm(x, block.attention_norm);
    let n_asked = queries.map(|rows| gather(device, &n, rows));
    let q = step.linear(Projection::Q, n_asked.as_ref().unwrap_or(&n), asked);
    let k = step.linear(Projection::K, &n, all);
    let v = step.linear(Projection::V, &n, all);
    drop((n, n_asked));
    let (mut q, q_normed) = step.optional_norm(q, block.query_norm);
    let (mut k, k_normed) = step.optional_norm(k, block.key_norm);
    rope::apply(device, &mut q, &asked.positions, table, Turn::Forward);
    rope::apply(device, &mut k, &all.positions, table, Turn::Forward);

    let heads = spec.heads(layer);
    let mut o = device.buffer(asked.len(), spec.query_width());
    let mut lse = device.buffer(asked.len(), spec.query_heads);
    let (keys, values) = past.map_or((&k, &v), |past| past.and(device, &k, &v));
    attention::forward(device, &heads, &asked.layout, &q, keys, values, &mut o, &mut lse);

    let projected = step.linear(Projection::O, &o, asked);
    let (mut mid, o_normed) = step.optional_norm(projected, block.attention_output_norm);
    match queries {
        None => rows::add(device, x, &mut mid),
        Some(asked) => rows::add(device, &gather(device, x, asked), &mut mid),
    }

    let (n, mid_rrms) = step.norm(&mid, block.mlp_norm);
    let g = step.linear(Projection::Gate, &n, asked);
    let u = step.linear(Projection::Up, &n, asked);
    let mut m = device.buffer(asked.len(), spec.intermediate);
    gated::forward(device, spec.activation, &g, &u, &mut m);
    let projected = step.linear(Projection::Down, &m, asked);
    let (mut out, out_normed) = step.optional_norm(projected, block.mlp_output_norm);
    rows::add(device, &mid, &mut out);

    let Step { xa, .. } = step;
    let saved =
        Saved { x_rrms, q_normed, k_normed, q, k, v, o, lse, o_normed, mid, mid_rrms, g, u, out_normed, xa };
    (out, saved)
}

/// Adds the gradients of what is trained to `gradients`; returns dx (N x D) if it is needed.
pub(super) fn backward(
    context: &Context<'_>,
    layer: usize,
    queries: Option<&TokenRows>,
    saved: BlockSaved,
    d_out: Buffer,
    need: Need,
    gradients: &mut Buffer,
) -> Option<Buffer> {
    let Context { device, model, all, .. } = *context;
    let (spec, block) = (model.spec(), &model.blocks[layer]);
    let table = &context.tables[spec.layers[layer].rope];
    let asked = queries.unwrap_or(all);
    let BlockSaved { x, inner } = saved;
    let Saved {
        x_rrms,
        q_normed,
        k_normed,
        q,
        k,
        v,
        o,
        lse,
        o_normed,
        mid,
        mid_rrms,
        mut g,
        mut u,
        out_normed,
        xa,
    } = inner;
    let mut step = StepBack { context, block, layer, need, xa, gradients };

    let d_projected = step.optional_norm(&d_out, out_normed, block.mlp_output_norm);
    let mut m = device.buffer(asked.len(), spec.intermediate);
    gated::forward(device, spec.activation, &g, &u, &mut m);
    let mut dm = device.zeros(asked.len(), spec.intermediate);
    step.linear(Projection::Down, d_projected.as_ref().unwrap_or(&d_out), &m, asked, &mut dm);
    drop((m, d_projected));
    if !need.reaches(Projection::Gate) {
        return None;
    }
    gated::backward(device, spec.activation, &dm, &mut g, &mut u);
    drop(dm);
    let n = step.norm_again(&mid, &mid_rrms, block.mlp_norm);
    let mut dn = device.zeros(asked.len(), spec.hidden);
    step.linear(Projection::Gate, &g, &n, asked, &mut dn);
    step.linear(Projection::Up, &u, &n, asked, &mut dn);
    drop((n, g, u));
    if !need.reaches(Projection::O) {
        return None;
    }
    let mut d_mid = d_out;
    step.norm(&dn, &mid, &mid_rrms, block.mlp_norm, &mut d_mid);
    drop((dn, mid));

    let d_projected = step.optional_norm(&d_mid, o_normed, block.attention_output_norm);
    let mut d_o = device.zeros(asked.len(), spec.query_width());
    step.linear(Projection::O, d_projected.as_ref().unwrap_or(&d_mid), &o, asked, &mut d_o);
    drop(d_projected);
    if !need.reaches(Projection::Q) {
        return None;
    }

    let mut dq = device.buffer(q.rows(), q.cols());
    let mut dk = device.buffer(k.rows(), k.cols());
    let mut dv = device.buffer(v.rows(), v.cols());
    let attended = attention::Saved { q: &q, k: &k, v: &v, o: &o, lse: &lse };
    attention::backward(device, &spec.heads(layer), &asked.layout, attended, &d_o, &mut dq, &mut dk, &mut dv);
    drop((q, k, v, o, lse, d_o));

    rope::apply(device, &mut dq, &asked.positions, table, Turn::Back);
    rope::apply(device, &mut dk, &all.positions, table, Turn::Back);
    let dq = step.optional_norm(&dq, q_normed, block.query_norm).unwrap_or(dq);
    let dk = step.optional_norm(&dk, k_normed, block.key_norm).unwrap_or(dk);
    let n = step.norm_again(&x, &x_rrms, block.attention_norm);
    let mut dn = device.zeros(all.len(), spec.hidden);
    match queries {
        None => step.linear(Projection::Q, &dq, &n, asked, &mut dn),
        Some(rows) => {
            let mut dn_asked = device.zeros(asked.len(), spec.hidden);
            step.linear(Projection::Q, &dq, &gather(device, &n, rows), asked, &mut dn_asked);
            rows::scatter_add(device, &dn_asked, &rows.tokens, &mut dn);
        }
    }
    step.linear(Projection::K, &dk, &n, all, &mut dn);
    step.linear(Projection::V, &dv, &n, all, &mut dn);
    if need != Need::Input {
        return None;
    }
    let mut dx = match queries {
        None => d_mid,
        Some(rows) => {
            let mut dx = device.zeros(all.len(), spec.hidden);
            rows::scatter_add(device, &d_mid, &rows.tokens, &mut dx);
            dx
        }
    };
    step.norm(&dn, &x, &x_rrms, block.attention_norm, &mut dx);
    Some(dx)
}

fn gather(device: &Device, x: &Buffer, rows: &TokenRows) -> Buffer {
    let mut out = device.buffer(rows.len(), x.cols());
    rows::gather(device, x, &rows.tokens, &mut out);
    out
}

impl Context<'_> {
    fn dropout<'a>(&'a self, number: u32, rows: &'a TokenRows) -> Option<Dropout<'a>> {
        self.dropout.map(|run| Dropout {
            philox: &run.philox,
            rate: run.rate,
            update: run.update,
            module: number,
            rows: &rows.names,
        })
    }
}

/// The steps of one block's forward pass.
struct Step<'a> {
    context: &'a Context<'a>,
    block: &'a Block,
    layer: usize,
    xa: [Option<Buffer>; 7],
}

impl Step<'_> {
    fn norm(&self, x: &Buffer, norm: Id) -> (Buffer, Buffer) {
        let (device, gain) = (self.context.device, self.context.model.gain(norm));
        let mut y = device.buffer(x.rows(), x.cols());
        let mut rrms = device.buffer(x.rows(), x.cols() / gain.weight.cols());
        rmsnorm::forward(device, x, gain, &mut y, &mut rrms);
        (y, rrms)
    }

    /// The norm of `x` and what its backward pass reads; `x` itself where there is no norm.
    fn optional_norm(&self, x: Buffer, norm: Option<Id>) -> (Buffer, Option<NormInput>) {
        match norm {
            None => (x, None),
            Some(norm) => {
                let (y, rrms) = self.norm(&x, norm);
                (y, Some(NormInput { x, rrms }))
            }
        }
    }

    fn linear(&mut self, projection: Projection, x: &Buffer, rows: &TokenRows) -> Buffer {
        let Context { device, model, adapter, .. } = *self.context;
        let LinearWeights { weight, bias } = self.block.linear(projection);
        let weight = model.weight(weight);
        let mut y = device.buffer(x.rows(), weight.rows());
        linear::forward(device, x, weight, bias.map(|bias| model.weight(bias)), &mut y);
        if let Some((adapter, module)) = adapter.and_then(|a| Some((a, a.module(self.layer, projection)?))) {
            let mut xa = device.buffer(x.rows(), module.rank);
            let dropout = self.context.dropout(module.linear.number(), rows);
            lora::forward(device, x, adapter.factors(module), dropout.as_ref(), &mut xa, &mut y);
            self.xa[projection as usize] = Some(xa);
        }
        y
    }
}

/// The steps of one block's backward pass.
struct StepBack<'a> {
    context: &'a Context<'a>,
    block: &'a Block,
    layer: usize,
    need: Need,
    xa: [Option<Buffer>; 7],
    gradients: &'a mut Buffer,
}

impl StepBack<'_> {
    /// Where the gradient of a weight goes, if it is trained.
    fn gradient_of(&mut self, weight: Id) -> Option<PartMut<'_>> {
        let Context { model, adapter, .. } = *self.context;
        adapter.is_none().then(|| self.gradients.part_mut(model.parameter(weight).range.clone()))
    }

    fn norm_again(&self, x: &Buffer, rrms: &Buffer, norm: Id) -> Buffer {
        let mut y = self.context.device.buffer(x.rows(), x.cols());
        rmsnorm::again(self.context.device, x, rrms, self.context.model.gain(norm), &mut y);
        y
    }

    fn norm(&mut self, dy: &Buffer, x: &Buffer, rrms: &Buffer, norm: Id, dx: &mut Buffer) {
        let device = self.context.device;
        if let Some(dw) = self.gradient_of(norm) {
            rmsnorm::gain_gradient(device, dy, x, rrms, dw);
        }
        rmsnorm::backward(device, dy, x, rrms, self.context.model.gain(norm), dx);
    }

    /// The gradient through a norm that may not be there.
    fn optional_norm(&mut self, dy: &Buffer, input: Option<NormInput>, norm: Option<Id>) -> Option<Buffer> {
        let (NormInput { x, rrms }, norm) = (input?, norm?);
        let mut dx = self.context.device.zeros(x.rows(), x.cols());
        self.norm(dy, &x, &rrms, norm, &mut dx);
        Some(dx)
    }

    /// Adds the gradients of the adapter, or of the linear's own weights, and, where something below needs it,
    /// the gradient of `x`.
    fn linear(&mut self, projection: Projection, dy: &Buffer, x: &Buffer, rows: &TokenRows, dx: &mut Buffer) {
        let Context { device, model, adapter, .. } = *self.context;
        let LinearWeights { weight, bias } = self.block.linear(projection);
        let mut dx = self.need.input_of(projection).then_some(dx);
        if let Some(dx) = dx.as_deref_mut() {
            linear::backward(device, dy, model.weight(weight), dx);
        }
        if let Some(dw) = self.gradient_of(weight) {
            linear::weight_gradient(device, dy, x, dw);
        }
        if let Some(db) = bias.and_then(|bias| self.gradient_of(bias)) {
            linear::bias_gradient(device, dy, db);
        }
        let Some((adapter, module)) = adapter.and_then(|a| Some((a, a.module(self.layer, projection)?)))
        else {
            return;
        };
        let xa = self.xa[projection as usize].take().expect("the forward pass kept x A^T of every adapter");
        let dropout = self.context.dropout(module.linear.number(), rows);
        let (da, db) = self.gradients.two_parts_mut(module.a.clone(), module.b.clone());
        lora::backward(device, dy, x, &xa, adapter.factors(module), dropout.as_ref(), da, db, dx);
    }
}
