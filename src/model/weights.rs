//! Weights by name: every tensor that the specification needs, checked for shape and type, none copied
//! before all are found.

use std::ops::Range;
use std::path::Path;

use super::parameters::{Id, Parameter};
use super::settings::WeightStorage;
use super::spec::Spec;
use crate::adapter::{Linear, Projection};
use crate::base::{Error, Result};
use crate::device::{Weight, free_memory};
use crate::ops::rmsnorm::Gain;
use crate::tensor::{Checkpoint, DType};

/// The weights of one linear.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearWeights {
    pub(super) weight: Id,
    pub(super) bias: Option<Id>,
}

/// The weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Id,
    pub(super) attention_output_norm: Option<Id>,
    pub(super) mlp_norm: Id,
    pub(super) mlp_output_norm: Option<Id>,
    pub(super) query_norm: Option<Id>,
    pub(super) key_norm: Option<Id>,
    linears: [LinearWeights; 7],
}

impl Block {
    pub(super) fn linear(&self, projection: Projection) -> LinearWeights {
        self.linears[projection as usize]
    }
}

/// A model: its specification and its weights, which only full fine-tuning changes.
#[derive(Debug)]
pub struct Model {
    spec: Spec,
    parameters: Vec<Parameter>,
    pub(super) embedding: Id,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Id,
    /// The embedding, where it is tied.
    pub(super) head: Id,
}

impl Model {
    /// Opens the Hugging Face directory `folder`.
    pub fn open(folder: &Path, storage: WeightStorage) -> Result<Self> {
        // The weights first: their absence says more about a wrong directory than a missing config.json.
        let checkpoint = Checkpoint::open(folder)?;
        Self::new(Spec::read(folder)?, &checkpoint, storage)
    }

    /// Finds the weights that `spec` needs in `checkpoint`.
    pub fn new(spec: Spec, checkpoint: &Checkpoint, storage: WeightStorage) -> Result<Self> {
        let mut finder = Finder { checkpoint, parameters: Vec::new(), stored_bytes: 0 };
        let find = &mut finder;
        let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
        let embedding = find.matrix("model.embed_tokens.weight", vocabulary, hidden)?;
        let blocks = (0..spec.layers.len()).map(|layer| block(find, &spec, layer)).collect::<Result<_>>()?;
        let norm = find.vector("model.norm.weight", hidden)?;
        let head = if spec.tied { embedding } else { find.matrix("lm_head.weight", vocabulary, hidden)? };
        finder.report_unused(&spec);
        let widen = finder.widen(storage);
        let mut model = Self { spec, parameters: finder.parameters, embedding, blocks, norm, head };
        if widen {
            model.widen();
        }
        Ok(model)
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Every weight, in the order of the forward pass.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Every weight, in the order of the forward pass.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Takes the weights of a model of the same specification; what types they have in files is not taken.
    pub(super) fn take_weights(&mut self, other: Self) {
        for (parameter, other) in self.parameters.iter_mut().zip(other.parameters) {
            parameter.weight = other.weight;
        }
    }

    pub(super) fn parameter(&self, id: Id) -> &Parameter {
        &self.parameters[id.0]
    }

    pub(super) fn weight(&self, id: Id) -> &Weight {
        &self.parameter(id).weight
    }

    /// A norm's gain and constants.
    pub(super) fn gain(&self, norm: Id) -> Gain<'_> {
        Gain { weight: self.weight(norm), offset: self.spec.norm_offset, eps: self.spec.norm_eps }
    }

    /// The LM head's weight, V x D.
    pub fn head(&self) -> &Weight {
        self.weight(self.head)
    }

    /// Where the LM head's gradient stands: with the embedding's, where it is tied.
    pub fn head_range(&self) -> Range<usize> {
        self.parameter(self.head).range.clone()
    }

    /// The type that its linears are held in.
    pub fn dtype(&self) -> DType {
        self.weight(self.embedding).dtype()
    }

    /// Every matrix in memory as f32.
    fn widen(&mut self) {
        for parameter in self.parameters.iter_mut().filter(|p| p.shape.len() == 2) {
            parameter.weight = parameter.weight.widened();
        }
    }
}

fn block(find: &mut Finder<'_>, spec: &Spec, layer: usize) -> Result<Block> {
    let mut find = InBlock { find, spec, layer };
    let attention_norm = find.norm("input_layernorm", spec.hidden)?;
    let (q, k, v) = (find.linear(Projection::Q)?, find.linear(Projection::K)?, find.linear(Projection::V)?);
    let query_norm = find.norm_if(spec.query_key_norms, "self_attn.q_norm", spec.head_dim)?;
    let key_norm = find.norm_if(spec.query_key_norms, "self_attn.k_norm", spec.head_dim)?;
    let o = find.linear(Projection::O)?;
    // Gemma calls the norm of attention's output what others call the norm before the feed-forward block.
    let attention_output_norm = find.norm_if(spec.output_norms, "post_attention_layernorm", spec.hidden)?;
    let before_mlp = if spec.output_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
    let mlp_norm = find.norm(before_mlp, spec.hidden)?;
    let (gate, up, down) =
        (find.linear(Projection::Gate)?, find.linear(Projection::Up)?, find.linear(Projection::Down)?);
    let mlp_output_norm = find.norm_if(spec.output_norms, "post_feedforward_layernorm", spec.hidden)?;
    let linears = [q, k, v, o, gate, up, down];
    Ok(Block {
        attention_norm,
        attention_output_norm,
        mlp_norm,
        mlp_output_norm,
        query_norm,
        key_norm,
        linears,
    })
}

/// Finds the weights of one block.
struct InBlock<'a, 'b> {
    find: &'a mut Finder<'b>,
    spec: &'a Spec,
    layer: usize,
}

impl InBlock<'_, '_> {
    fn norm(&mut self, name: &str, width: usize) -> Result<Id> {
        self.find.vector(&format!("model.layers.{}.{name}.weight", self.layer), width)
    }

    fn norm_if(&mut self, there: bool, name: &str, width: usize) -> Result<Option<Id>> {
        there.then(|| self.norm(name, width)).transpose()
    }

    fn linear(&mut self, projection: Projection) -> Result<LinearWeights> {
        let (inputs, outputs) = self.spec.shape(projection);
        let linear = Linear { layer: self.layer, projection, inputs, outputs };
        let weight = self.find.matrix(&format!("{linear}.weight"), outputs, inputs)?;
        let has_bias = self.spec.biases.of(projection);
        let bias = has_bias.then(|| self.find.vector(&format!("{linear}.bias"), outputs)).transpose()?;
        Ok(LinearWeights { weight, bias })
    }
}

struct Finder<'a> {
    checkpoint: &'a Checkpoint,
    parameters: Vec<Parameter>,
    stored_bytes: usize,
}

impl Finder<'_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Id> {
        self.weight(name, &[rows, cols], rows, cols)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Id> {
        self.weight(name, &[len], 1, len)
    }

    fn weight(&mut self, name: &str, shape: &[usize], rows: usize, cols: usize) -> Result<Id> {
        let (file, stored) = self.checkpoint.find(name).ok_or_else(|| {
            Error::input("the model needs this weight, but no file of the directory has it")
                .file(self.checkpoint.folder())
                .key(name)
        })?;
        if stored.shape != shape {
            let what = format!("found shape {:?}, needed {shape:?} by config.json", stored.shape);
            return Err(Error::input(what).file(file.path()).key(name));
        }
        let dtype = stored.weight_dtype().ok_or_else(|| {
            Error::input(format!("found type {:?}, needed F32, F16 or BF16", stored.dtype))
                .file(file.path())
                .key(name)
        })?;
        self.stored_bytes += if dtype == DType::F32 { 0 } else { stored.elements() * 4 };
        let start = self.parameters.last().map_or(0, |last| last.range.end);
        self.parameters.push(Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
            stored: dtype,
            range: start..start + stored.elements(),
            weight: Weight::mapped(file.map(), stored.bytes.clone(), dtype, rows, cols),
        });
        Ok(Id(self.parameters.len() - 1))
    }

    fn report_unused(&self, spec: &Spec) {
        // Some files store a tied head twice, and rotary tables that are computed.
        let ignored =
            |name: &str| (spec.tied && name == "lm_head.weight") || name.ends_with("rotary_emb.inv_freq");
        let total = self.checkpoint.names().filter(|name| !ignored(name)).count();
        if total > self.parameters.len() {
            tracing::warn!(
                "{}: {} of {total} tensors are not used by a {} model",
                self.checkpoint.folder().display(),
                total - self.parameters.len(),
                spec.model_type,
            );
        }
    }

    fn widen(&self, storage: WeightStorage) -> bool {
        match storage {
            WeightStorage::F32 => true,
            WeightStorage::Stored => false,
            WeightStorage::Auto => free_memory().is_none_or(|free| self.stored_bytes <= free / 2),
        }
    }
}
