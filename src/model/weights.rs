//! Weights by name: every tensor that the specification needs, checked for shape and type, none copied
//! before all are found.

use std::path::Path;

use super::files::{Files, Found};
use super::gguf;
use super::settings::WeightStorage;
use super::spec::Spec;
use crate::adapter::Projection;
use crate::base::{Error, Result};
use crate::device::{Weight, free_memory};
use crate::tensor::DType;

/// A frozen linear.
#[derive(Debug)]
pub(super) struct FrozenLinear {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

/// The weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Weight,
    pub(super) attention_output_norm: Option<Weight>,
    pub(super) mlp_norm: Weight,
    pub(super) mlp_output_norm: Option<Weight>,
    pub(super) query_norm: Option<Weight>,
    pub(super) key_norm: Option<Weight>,
    linears: [FrozenLinear; 7],
}

impl Block {
    pub(super) fn linear(&self, projection: Projection) -> &FrozenLinear {
        &self.linears[projection as usize]
    }
}

/// A model: its specification and its frozen weights.
#[derive(Debug)]
pub struct Model {
    spec: Spec,
    pub(super) embedding: Weight,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Weight,
    head: Option<Weight>,
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
        let mut finder = Finder { files, spec: &spec, used: 0, widened_bytes: 0 };
        let find = &mut finder;
        let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
        let embedding = find.matrix("model.embed_tokens.weight", vocabulary, hidden)?;
        let norm = find.vector("model.norm.weight", hidden)?;
        let head = if spec.tied { None } else { Some(find.matrix("lm_head.weight", vocabulary, hidden)?) };
        let blocks = (0..spec.layers.len()).map(|layer| block(find, &spec, layer)).collect::<Result<_>>()?;
        finder.report_unused();
        let widen = finder.widen(storage);
        let model = Self { spec, embedding, blocks, norm, head };
        Ok(if widen { model.widened() } else { model })
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The LM head's weight, V x D.
    pub fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The type that its linears are held in.
    pub fn dtype(&self) -> DType {
        self.embedding.dtype()
    }

    /// Every matrix in memory as f32.
    fn widened(mut self) -> Self {
        self.embedding = self.embedding.widened();
        self.head = self.head.map(|w| w.widened());
        for linear in self.blocks.iter_mut().flat_map(|b| &mut b.linears) {
            linear.weight = linear.weight.widened();
        }
        self
    }
}

fn block(find: &mut Finder<'_>, spec: &Spec, layer: usize) -> Result<Block> {
    let prefix = format!("model.layers.{layer}");
    let mut norm = |name: &str, width: usize| find.vector(&format!("{prefix}.{name}.weight"), width);
    let hidden = spec.hidden;
    let attention_norm = norm("input_layernorm", hidden)?;
    // Gemma calls the norm of attention's output what others call the norm before the feed-forward block.
    let (attention_output_norm, mlp_norm, mlp_output_norm) = if spec.output_norms {
        (
            Some(norm("post_attention_layernorm", hidden)?),
            norm("pre_feedforward_layernorm", hidden)?,
            Some(norm("post_feedforward_layernorm", hidden)?),
        )
    } else {
        (None, norm("post_attention_layernorm", hidden)?, None)
    };
    let (query_norm, key_norm) = if spec.query_key_norms {
        (Some(norm("self_attn.q_norm", spec.head_dim)?), Some(norm("self_attn.k_norm", spec.head_dim)?))
    } else {
        (None, None)
    };
    let paired = find.files.has_paired_rows();
    let mut linears = Vec::with_capacity(Projection::ALL.len());
    for linear in &spec.linears_of(layer) {
        let has_bias = match linear.projection {
            Projection::Q | Projection::K | Projection::V => spec.biases.qkv,
            Projection::O => spec.biases.output,
            Projection::Gate | Projection::Up | Projection::Down => spec.biases.mlp,
        };
        let weight = find.matrix(&format!("{linear}.weight"), linear.outputs, linear.inputs)?;
        let bias = has_bias.then(|| find.vector(&format!("{linear}.bias"), linear.outputs)).transpose()?;
        let is_rotary = matches!(linear.projection, Projection::Q | Projection::K);
        let (weight, bias) = if is_rotary && paired { find.unpaired(weight, bias) } else { (weight, bias) };
        linears.push(FrozenLinear { weight, bias });
    }
    let linears = linears.try_into().expect("a block has as many linears as there are projections");
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

struct Finder<'a> {
    files: &'a Files,
    spec: &'a Spec,
    used: usize,
    /// What f32 copies of the weights that are not stored as f32 would take.
    widened_bytes: usize,
}

impl<'a> Finder<'a> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight> {
        let found = self.find(name, &[rows, cols])?;
        Ok(Weight::mapped(found.map, found.bytes, found.dtype, rows, cols))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Weight> {
        let found = self.find(name, &[len])?;
        Ok(Weight::mapped(found.map, found.bytes, found.dtype, 1, len))
    }

    /// The weight and, if it has one, the bias of a linear of queries or keys, as Hugging Face orders their rows.
    fn unpaired(&self, weight: Weight, bias: Option<Weight>) -> (Weight, Option<Weight>) {
        let head = self.spec.head_dim;
        let bias = bias.map(|bias| {
            let column = Weight::owned(bias.f32().into_owned(), bias.cols(), 1).with_paired_rows(head);
            Weight::owned(column.f32().into_owned(), 1, bias.cols())
        });
        (weight.with_paired_rows(head), bias)
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found<'a>> {
        let found = self.files.find(name, self.spec)?;
        if found.shape != shape {
            let what =
                format!("found shape {:?}, needed {shape:?} by {}", found.shape, self.files.authority());
            return Err(Error::input(what).file(found.path).key(found.name));
        }
        self.used += 1;
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
        if total > self.used {
            tracing::warn!(
                "{}: {} of {total} tensors are not used by a {} model",
                self.files.path().display(),
                total - self.used,
                self.spec.model_type,
            );
        }
    }

    fn widen(&self, storage: WeightStorage) -> bool {
        match storage {
            WeightStorage::F32 => true,
            WeightStorage::Stored => false,
            WeightStorage::Auto => free_memory().is_none_or(|free| self.widened_bytes <= free / 2),
        }
    }
}
