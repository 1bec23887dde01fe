//! Weights by name: every tensor that the specification needs, checked for shape and type, none copied
//! before all are found.

use std::ops::Range;
use std::path::Path;

use super::files::{Files, Found};
use super::gguf;
use super::parameters::{Id, Parameter};
use super::settings::WeightStorage;
use super::spec::Spec;
use crate::adapter::{Linear, Projection};
use crate::base::{Error, Result};
use crate::device::Weight;
use crate::ops::rmsnorm::Gain;
use crate::tensor::DType;

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
    /// Opens the Hugging Face directory or the `.gguf` file at `path`.
    pub fn open(path: &Path, storage: WeightStorage) -> Result<Self> {
        // The weights first: their absence says more about a wrong directory than a missing config.json.
        let files = Files::open(path)?;
        Self::new(files.spec()?, &files, storage)
    }

    /// Finds the weights that `spec` needs in `files`.
    pub fn new(spec: Spec, files: &Files, storage: WeightStorage) -> Result<Self> {
        let mut finder = Finder { files, spec: &spec, parameters: Vec::new(), widened_bytes: 0 };
        let find = &mut finder;
        let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
        let embedding = find.matrix("model.embed_tokens.weight", vocabulary, hidden)?;
        let blocks = (0..spec.layers.len()).map(|layer| block(find, &spec, layer)).collect::<Result<_>>()?;
        let norm = find.vector("model.norm.weight", hidden)?;
        let head = if spec.tied { embedding } else { find.matrix("lm_head.weight", vocabulary, hidden)? };
        finder.report_unused();
        let (widen, parameters) = (storage.widens(finder.widened_bytes), finder.parameters);
        let mut model = Self { spec, parameters, embedding, blocks, norm, head };
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
        if matches!(projection, Projection::Q | Projection::K) && self.find.files.has_paired_rows() {
            self.find.unpair(weight, bias);
        }
        Ok(LinearWeights { weight, bias })
    }
}

struct Finder<'a> {
    files: &'a Files,
    spec: &'a Spec,
    parameters: Vec<Parameter>,
    /// What f32 copies of the weights that are not stored as f32 would take.
    widened_bytes: usize,
}

impl<'a> Finder<'a> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Id> {
        let found = self.find(name, &[rows, cols])?;
        Ok(self.push(name, &found, rows, cols))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Id> {
        let found = self.find(name, &[len])?;
        Ok(self.push(name, &found, 1, len))
    }

    fn push(&mut self, name: &str, found: &Found<'_>, rows: usize, cols: usize) -> Id {
        let start = self.parameters.last().map_or(0, |last| last.range.end);
        self.parameters.push(Parameter {
            name: name.to_owned(),
            shape: found.shape.to_vec(),
            stored: found.dtype,
            range: start..start + rows * cols,
            weight: Weight::mapped(found.map, found.bytes.clone(), found.dtype, rows, cols),
        });
        Id(self.parameters.len() - 1)
    }

    /// The weight and, if it has one, the bias of a linear of queries or keys, as Hugging Face orders their rows.
    fn unpair(&mut self, weight: Id, bias: Option<Id>) {
        let head = self.spec.head_dim;
        if let Some(bias) = bias {
            let bias = &mut self.parameters[bias.0].weight;
            let column = Weight::owned(bias.f32().into_owned(), bias.cols(), 1).with_paired_rows(head);
            *bias = Weight::owned(column.f32().into_owned(), 1, bias.cols());
        }
        let weight = &mut self.parameters[weight.0].weight;
        *weight = weight.clone().with_paired_rows(head);
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found<'a>> {
        let found = self.files.find(name, self.spec)?;
        if found.shape != shape {
            let what =
                format!("found shape {:?}, needed {shape:?} by {}", found.shape, self.files.authority());
            return Err(Error::input(what).file(found.path).key(found.name));
        }
        if found.dtype != DType::F32 {
            self.widened_bytes += 4 * shape.iter().product::<usize>();
        }
        Ok(found)
    }

    fn report_unused(&self) {
        // Some files store a tied head twice, and rotary tables that are computed.
        let ignored = |name: &str| {
            (self.spec.tied && name == "lm_head.weight")
                || name.ends_with("rotary_emb.inv_freq")
                || gguf::is_specification(name)
        };
        let total = self.files.tensors().iter().filter(|tensor| !ignored(tensor.name)).count();
        if total > self.parameters.len() {
            tracing::warn!(
                "{}: {} of {total} tensors are not used by a {} model",
                self.files.path().display(),
                total - self.parameters.len(),
                self.spec.model_type,
            );
        }
    }
}
