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

impl BlockSaved {
    /// Each tensor by its name.
    pub(super) fn tensors(&self) -> Vec<(&'static str, &Buffer)> {
        let Self { x, inner } = self;
        let norms = [
            ("q before its norm", &inner.q_normed),
            ("k before its norm", &inner.k_normed),
            ("o Wo before its norm", &inner.o_normed),
            ("m Wd before its norm", &inner.out_normed),
        ];
        let norms = norms.into_iter().filter_map(|(name, norm)| Some((name, norm.as_ref()?)));
        let Saved { x_rrms, q, k, v, o, lse, mid, mid_rrms, g, u, xa, .. } = inner;
        [
            ("block inputs", x),
            ("1/rms", x_rrms),
            ("q", q),
            ("k", k),
            ("v", v),
            ("attention output", o),
            ("log-sum-exp", lse),
            ("after attention", mid),
            ("1/rms", mid_rrms),
            ("gate", g),
            ("up", u),
        ]
        .into_iter()
        .chain(norms.flat_map(|(name, norm)| [(name, &norm.x), ("1/rms", &norm.rrms)]))
        .chain(xa.iter().flatten().map(|xa| ("x A^T", xa)))
        .collect()
    }
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
    let [q, k, v] = match &n_asked {
        None => step.linears([Projection::Q, Projection::K, Projection::V], &n, all),
        Some(n_asked) => {
            let [q] = step.linears([Projection::Q], n_asked, asked);
            let [k, v] = step.linears([Projection::K, Projection::V], &n, all);
            [q, k, v]
        }
    };
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

    let [projected] = step.linears([Projection::O], &o, asked);
    let (mut mid, o_normed) = step.optional_norm(projected, block.attention_output_norm);
    match queries {
        None => rows::add(device, x, &mut mid),
        Some(asked) => rows::add(device, &gather(device, x, asked), &mut mid),
    }

    let (n, mid_rrms) = step.norm(&mid, block.mlp_norm);
    let [g, u] = step.linears([Projection::Gate, Projection::Up], &n, asked);
    let mut m = device.buffer(asked.len(), spec.intermediate);
    gated::forward(device, spec.activation, &g, &u, &mut m);
    let [projected] = step.linears([Projection::Down], &m, asked);
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
    let mut dm = device.buffer(asked.len(), spec.intermediate);
    step.linears(&[(Projection::Down, d_projected.as_ref().unwrap_or(&d_out))], &m, asked, &mut dm);
    drop((m, d_projected));
    if !need.reaches(Projection::Gate) {
        return None;
    }
    gated::backward(device, spec.activation, &dm, &mut g, &mut u);
    drop(dm);
    let n = step.norm_again(&mid, &mid_rrms, block.mlp_norm);
    let mut dn = device.buffer(asked.len(), spec.hidden);
    step.linears(&[(Projection::Gate, &g), (Projection::Up, &u)], &n, asked, &mut dn);
    drop((n, g, u));
    if !need.reaches(Projection::O) {
        return None;
    }
    let mut d_mid = d_out;
    step.norm(&dn, &mid, &mid_rrms, block.mlp_norm, &mut d_mid);
    drop((dn, mid));

    let d_projected = step.optional_norm(&d_mid, o_normed, block.attention_output_norm);
    let mut d_o = device.buffer(asked.len(), spec.query_width());
    step.linears(&[(Projection::O, d_projected.as_ref().unwrap_or(&d_mid))], &o, asked, &mut d_o);
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
    let mut dn = device.buffer(all.len(), spec.hidden);
    let (of_q, of_k, of_v) = ((Projection::Q, &dq), (Projection::K, &dk), (Projection::V, &dv));
    let mut of_asked = None;
    match queries {
        None => step.linears(&[of_q, of_k, of_v], &n, all, &mut dn),
        Some(rows) => {
            step.linears(&[of_k, of_v], &n, all, &mut dn);
            let dn_asked = of_asked.insert(device.buffer(asked.len(), spec.hidden));
            step.linears(&[of_q], &gather(device, &n, rows), asked, dn_asked);
        }
    }
    if need != Need::Input {
        return None;
    }
    let mut dx = match (queries, of_asked) {
        (Some(rows), Some(dn_asked)) => {
            rows::scatter_add(device, &dn_asked, &rows.tokens, &mut dn);
            let mut dx = device.zeros(all.len(), spec.hidden);
            rows::scatter_add(device, &d_mid, &rows.tokens, &mut dx);
            dx
        }
        _ => d_mid,
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
    /// The adapter of a linear, if it has one; `rows` are those of its input.
    fn adapter<'a>(
        &'a self,
        layer: usize,
        projection: Projection,
        rows: &'a TokenRows,
    ) -> Option<lora::Adapter<'a>> {
        let module = self.adapter?.module(layer, projection)?;
        let dropout = self.dropout.map(|run| Dropout {
            philox: &run.philox,
            rate: run.rate,
            update: run.update,
            module: module.linear.number(),
            rows: &rows.names,
        });
        Some(lora::Adapter { factors: self.adapter?.factors(module), dropout })
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

    /// The linears that read `x`.
    fn linears<const K: usize>(
        &mut self,
        projections: [Projection; K],
        x: &Buffer,
        rows: &TokenRows,
    ) -> [Buffer; K] {
        let Context { device, model, .. } = *self.context;
        let context = self.context;
        let adapters = projections.map(|p| context.adapter(self.layer, p, rows));
        let found: Vec<lora::Adapter<'_>> = adapters.iter().flatten().copied().collect();
        let mut xas: Vec<Buffer> = found.iter().map(|a| device.buffer(x.rows(), a.factors.rank)).collect();
        lora::forward(device, x, &found, &mut xas);

        let mut kept = xas.into_iter();
        for (projection, adapter) in projections.iter().zip(&adapters) {
            self.xa[*projection as usize] = adapter.and_then(|_| kept.next());
        }
        let linears = projections.map(|projection| {
            let LinearWeights { weight, bias } = self.block.linear(projection);
            let narrow = self.xa[projection as usize].as_ref();
            let adapter = narrow.zip(context.adapter(self.layer, projection, rows));
            linear::Linear {
                weight: model.weight(weight),
                bias: bias.map(|bias| model.weight(bias)),
                adapter: adapter.map(|(narrow, lora::Adapter { factors, .. })| linear::Adapter {
                    narrow,
                    factor: factors.b,
                    scale: factors.scale,
                }),
            }
        });
        let mut ys = projections.map(|p| {
            let LinearWeights { weight, .. } = self.block.linear(p);
            device.buffer(x.rows(), model.weight(weight).rows())
        });
        linear::forward(device, x, &linears, &mut ys);
        ys
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

    /// For the linears that read `x`, given their dy: adds the gradients of the adapters, or of the linears' own
    /// weights, and, where something below needs it, writes the gradient of `x`.
    fn linears(&mut self, of: &[(Projection, &Buffer)], x: &Buffer, rows: &TokenRows, dx: &mut Buffer) {
        let Context { device, model, .. } = *self.context;
        let mut dx = self.need.input_of(of[0].0).then_some(dx);
        for &(projection, dy) in of {
            let LinearWeights { weight, bias } = self.block.linear(projection);
            if let Some(dw) = self.gradient_of(weight) {
                linear::weight_gradient(device, dy, x, dw);
            }
            if let Some(db) = bias.and_then(|bias| self.gradient_of(bias)) {
                linear::bias_gradient(device, dy, db);
            }
        }

        let context = self.context;
        let adapters: Vec<_> = of.iter().map(|&(p, _)| context.adapter(self.layer, p, rows)).collect();
        let xas: Vec<_> = of.iter().map(|&(p, _)| self.xa[p as usize].take()).collect();
        let of_adapters = of.iter().zip(&adapters).zip(&xas);
        let backs: Vec<lora::Back<'_>> = of_adapters
            .filter_map(|((&(_, dy), adapter), xa)| {
                let xa = adapter.as_ref().map(|_| xa.as_ref().expect("the forward pass kept x A^T"))?;
                Some(lora::Back { dy, xa, adapter: (*adapter)? })
            })
            .collect();
        let modules = || of.iter().filter_map(|&(p, _)| context.adapter?.module(self.layer, p));
        let dbs = self.gradients.parts_mut(modules().map(|module| module.b.clone()));
        let dxas = lora::backward_b(device, &backs, dbs);

        if let Some(dx) = dx.as_deref_mut() {
            let mut dxas = dxas.iter();
            let linears = of.iter().zip(&adapters).map(|(&(projection, dy), adapter)| {
                let narrow = adapter.and_then(|_| dxas.next());
                let undropped = narrow.zip(*adapter).filter(|(_, adapter)| adapter.dropout.is_none());
                let LinearWeights { weight, .. } = self.block.linear(projection);
                linear::Back {
                    dy,
                    weight: model.weight(weight),
                    adapter: undropped.map(|(narrow, adapter)| linear::Adapter {
                        narrow,
                        factor: adapter.factors.a,
                        scale: 1.0,
                    }),
                }
            });
            let linears: Vec<linear::Back<'_>> = linears.collect();
            linear::backward(device, &linears, dx, linear::Write::Set);
        }
        let das = self.gradients.parts_mut(modules().map(|module| module.a.clone()));
        lora::backward_a(device, x, &backs, &dxas, das, dx);
    }
}
