//! A whole forward pass and, under it, its backward pass.

use super::batch::{Batch, DropoutRun, TokenRows};
use super::decoder::{self, BlockSaved, Context, Need};
use super::weights::Model;
use crate::adapter::Lora;
use crate::device::{Buffer, Device};
use crate::ops::{embedding, rmsnorm, rope};

/// What a forward pass keeps for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there will be no backward pass.
    Nothing,
    /// Each block's input; the rest is computed again, with the same bits.
    BlockInputs,
    /// Every saved tensor of every block.
    All,
}

/// A forward pass: final hidden states, and what was kept.
#[derive(Debug)]
pub struct Pass {
    /// Hidden states after the final norm, S x D: one row for each of [`Batch::rows`].
    pub hidden: Buffer,
    tables: Vec<rope::Table>,
    blocks: Vec<Kept>,
    last: Buffer,
    rrms: Buffer,
}

#[derive(Debug)]
enum Kept {
    Input(Buffer),
    All(Box<BlockSaved>),
}

impl Pass {
    /// Runs the model over a batch. For the backward pass, `adapter` is what is trained: an adapter, or,
    /// without one, every weight.
    pub fn forward(
        device: &Device,
        model: &Model,
        adapter: Option<&Lora>,
        batch: &Batch<'_>,
        dropout: Option<&DropoutRun>,
        keep: Keep,
    ) -> Self {
        let spec = model.spec();
        let positions = batch.forest.positions.iter().max().map_or(0, |&last| last as usize + 1);
        let tables: Vec<_> =
            spec.frequencies.iter().map(|f| rope::Table::new(device, f, positions)).collect();
        let context = Context { device, model, adapter, dropout, tables: &tables, all: &batch.all };

        let mut x = embed(device, model, &batch.forest.tokens);
        let mut blocks = Vec::new();
        let lowest = lowest_trained(adapter);
        for layer in 0..spec.layers.len() {
            let (out, saved) =
                decoder::forward(&context, layer, queries(batch, layer, spec.layers.len()), None, &x);
            // Below what is trained there is no backward pass.
            let kept = match keep {
                Keep::Nothing => None,
                _ if lowest.is_none_or(|(lowest, _)| layer < lowest) => None,
                Keep::BlockInputs => Some(Kept::Input(x)),
                Keep::All => Some(Kept::All(Box::new(BlockSaved { x, inner: saved }))),
            };
            blocks.extend(kept);
            x = out;
        }
        let (hidden, rrms) = last_norm(device, model, &x);
        Self { hidden, tables, blocks, last: x, rrms }
    }

    /// The tensors that wait for the backward pass, by name: how many there are and their bytes.
    pub fn kept(&self) -> Vec<(&'static str, usize, usize)> {
        let mut table: Vec<(&'static str, usize, usize)> = Vec::new();
        for kept in &self.blocks {
            let tensors = match kept {
                Kept::Input(x) => vec![("block inputs", x)],
                Kept::All(saved) => saved.tensors(),
            };
            for (name, tensor) in tensors {
                match table.iter_mut().find(|(known, ..)| *known == name) {
                    Some((_, count, bytes)) => (*count, *bytes) = (*count + 1, *bytes + tensor.bytes()),
                    None => table.push((name, 1, tensor.bytes())),
                }
            }
        }
        table
    }

    /// Adds the gradients of what is trained to `gradients` (the layout of the adapter's arena, or of the model's
    /// parameters), given the gradient of `hidden`. The LM head's is not among them.
    ///
    /// The arguments are those of the forward pass; it must have kept something.
    pub fn backward(
        self,
        device: &Device,
        model: &Model,
        adapter: Option<&Lora>,
        batch: &Batch<'_>,
        dropout: Option<&DropoutRun>,
        d_hidden: &Buffer,
        gradients: &mut Buffer,
    ) {
        let Some((lowest, need_of_lowest)) = lowest_trained(adapter) else { return };
        let spec = model.spec();
        let layers = spec.layers.len();
        assert_eq!(self.blocks.len(), layers - lowest, "the forward pass kept nothing to go back on");
        let context = Context { device, model, adapter, dropout, tables: &self.tables, all: &batch.all };

        if adapter.is_none() {
            let dw = gradients.part_mut(model.parameter(model.norm).range.clone());
            rmsnorm::gain_gradient(device, d_hidden, &self.last, &self.rrms, dw);
        }
        let mut dx = device.zeros(self.last.rows(), self.last.cols());
        rmsnorm::backward(device, d_hidden, &self.last, &self.rrms, model.gain(model.norm), &mut dx);
        for (layer, kept) in (lowest..layers).zip(self.blocks).rev() {
            let queries = queries(batch, layer, layers);
            let saved = match kept {
                Kept::All(saved) => *saved,
                Kept::Input(x) => {
                    let (_, inner) = decoder::forward(&context, layer, queries, None, &x);
                    BlockSaved { x, inner }
                }
            };
            let need = if layer == lowest { need_of_lowest } else { Need::Input };
            match decoder::backward(&context, layer, queries, saved, dx, need, gradients) {
                Some(of_input) => dx = of_input,
                None => return,
            }
        }
        let d_table = gradients.part_mut(model.parameter(model.embedding).range.clone());
        embedding::backward(device, &dx, &batch.forest.tokens, spec.embedding_scale, d_table);
    }
}

/// The embedded tokens, N x D.
pub(super) fn embed(device: &Device, model: &Model, tokens: &[u32]) -> Buffer {
    let mut x = device.buffer(tokens.len(), model.spec().hidden);
    embedding::forward(device, model.weight(model.embedding), tokens, model.spec().embedding_scale, &mut x);
    x
}

/// The final norm of the last block's output, and its 1/rms.
pub(super) fn last_norm(device: &Device, model: &Model, x: &Buffer) -> (Buffer, Buffer) {
    let (mut hidden, mut rrms) = (device.buffer(x.rows(), x.cols()), device.buffer(x.rows(), 1));
    rmsnorm::forward(device, x, model.gain(model.norm), &mut hidden, &mut rrms);
    (hidden, rrms)
}

/// The last block asks only at the wanted rows.
fn queries<'a>(batch: &'a Batch<'_>, layer: usize, layers: usize) -> Option<&'a TokenRows> {
    batch.wanted.as_ref().filter(|_| layer + 1 == layers)
}

/// The lowest block that is trained, and how far down its gradient is wanted.
fn lowest_trained(adapter: Option<&Lora>) -> Option<(usize, Need)> {
    match adapter {
        None => Some((0, Need::Input)),
        Some(adapter) => {
            adapter.modules().first().map(|m| (m.linear.layer, Need::DownTo(m.linear.projection)))
        }
    }
}
