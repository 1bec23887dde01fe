//! Weights by name: every tensor that the specification needs, checked for shape and type, none copied
//! before all are found.

use std::path::Path;

use super::settings::WeightStorage;
use super::spec::Spec;
use crate::adapter::Projection;
use crate::base::{Error, Result};
use crate::device::{Weight, free_memory};
use crate::tensor::{Checkpoint, DType};

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
    /// Opens the Hugging Face directory `folder`.
    pub fn open(folder: &Path, storage: WeightStorage) -> Result<Self> {
        // The weights first: their absence says more about a wrong directory than a missing config.json.
        let checkpoint = Checkpoint::open(folder)?;
        Self::new(Spec::read(folder)?, &checkpoint, storage)
    }

    /// Finds the weights that `spec` needs in `checkpoint`.
    pub fn new(spec: Spec, checkpoint: &Checkpoint, storage: WeightStorage) -> Result<Self> {
        let mut finder = Finder { checkpoint, used: 0, stored_bytes: 0, f32_bytes: 0 };
        let find = &mut finder;
        let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
        let embedding = find.matrix("model.embed_tokens.weight", vocabulary, hidden)?;
        let norm = find.vector("model.norm.weight", hidden)?;
        let head = if spec.tied { None } else { Some(find.matrix("lm_head.weight", vocabulary, hidden)?) };
        let blocks = (0..spec.layers.len()).map(|layer| block(find, &spec, layer)).collect::<Result<_>>()?;
        let model = Self { spec, embedding, blocks, norm, head };
        finder.report_unused(&model.spec);
        Ok(if finder.widen(storage) { model.widened() } else { model })
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
    let mut linears = Vec::with_capacity(Projection::ALL.len());
    for linear in &spec.linears_of(layer) {
        let has_bias = match linear.projection {
            Projection::Q | Projection::K | Projection::V => spec.biases.qkv,
            Projection::O => spec.biases.output,
            Projection::Gate | Projection::Up | Projection::Down => spec.biases.mlp,
        };
        let weight = find.matrix(&format!("{linear}.weight"), linear.outputs, linear.inputs)?;
        let bias = has_bias.then(|| find.vector(&format!("{linear}.bias"), linear.outputs)).transpose()?;
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
    checkpoint: &'a Checkpoint,
    used: usize,
    stored_bytes: usize,
    f32_bytes: usize,
}

impl Finder<'_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight> {
        self.weight(name, &[rows, cols], rows, cols)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Weight> {
        self.weight(name, &[len], 1, len)
    }

    fn weight(&mut self, name: &str, shape: &[usize], rows: usize, cols: usize) -> Result<Weight> {
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
        self.used += 1;
        self.f32_bytes += stored.elements() * 4;
        self.stored_bytes += if dtype == DType::F32 { 0 } else { stored.elements() * 4 };
        Ok(Weight::mapped(file.map(), stored.bytes.clone(), dtype, rows, cols))
    }

    fn report_unused(&self, spec: &Spec) {
        // Some files store a tied head twice, and rotary tables that are computed.
        let ignored =
            |name: &str| (spec.tied && name == "lm_head.weight") || name.ends_with("rotary_emb.inv_freq");
        let total = self.checkpoint.names().filter(|name| !ignored(name)).count();
        if total > self.used {
            tracing::warn!(
                "{}: {} of {total} tensors are not used by a {} model",
                self.checkpoint.folder().display(),
                total - self.used,
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
