//! A new model: a configuration and random weights for it.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::spec::{Config, Spec};
use crate::base::philox::{Philox, Purpose};
use crate::base::{Error, Result, files};
use crate::tensor::DType;
use crate::tensor::stored::{self, Draft};

/// The types that `dtype` of a config.json may name.
const DTYPES: [(&str, DType); 3] =
    [("float32", DType::F32), ("bfloat16", DType::BF16), ("float16", DType::F16)];

/// A model that is not trained yet.
#[derive(Clone, Debug)]
pub struct NewModel {
    config: Map<String, Value>,
    spec: Spec,
    /// Standard deviation of the weights.
    deviation: f64,
    dtype: DType,
}

/// How a new tensor's values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// Normal numbers of the model's standard deviation.
    Normal,
    /// The value with which a norm scales by 1.
    Norm,
    /// Zeros, for biases.
    Zero,
}

impl NewModel {
    /// The model of the `config.json` at `path`, whose tokenizer will have `vocabulary` tokens (where it is
    /// given, else `vocab_size`) and the id `end` for the one that begins, ends and fills texts.
    pub fn read(path: &Path, vocabulary: Option<usize>, end: u32) -> Result<Self> {
        let text = files::read_text(path)?;
        let mut config: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|e| Error::input(format!("not a JSON object: {e}")).file(path).line(e.line() as u64))?;
        if let Some(vocabulary) = vocabulary {
            config.insert("vocab_size".into(), json!(vocabulary));
        }
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            config.insert(key.into(), json!(end));
        }
        Self::new(config).map_err(|e| e.file(path))
    }

    fn new(config: Map<String, Value>) -> Result<Self> {
        let read = Config(&config);
        let deviation = read.number("initializer_range", Some(0.02))?;
        // Transformers before version 5 called it torch_dtype.
        let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        let name = read.text(key)?.unwrap_or("float32");
        let dtype = DTYPES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype);
        let dtype = dtype.ok_or_else(|| {
            let known = DTYPES.map(|(known, _)| known).join(", ");
            Error::input(format!("found \"{name}\", needed one of {known}")).key(key)
        })?;
        let spec = Spec::parse(&Value::Object(config.clone()).to_string())?;
        Ok(Self { config, spec, deviation, dtype })
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        tensors(&self.spec).iter().map(|(_, shape, _)| shape.iter().product::<usize>()).sum()
    }

    /// Writes `config.json` and `model.safetensors` into `folder`: weights N(0, `initializer_range`^2), norms 1,
    /// biases 0, as Transformers starts a model. A tensor's numbers depend on `seed` and its place among the
    /// tensors alone.
    pub fn write(&self, seed: u64, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.config).expect("a JSON value has text");
        text.push(b'\n');
        files::write_atomic(&folder.join("config.json"), &text)?;
        let philox = Philox::new(seed, Purpose::ModelInit);
        let drafts = tensors(&self.spec).into_iter().enumerate().map(|(place, (name, shape, fill))| {
            let len: usize = shape.iter().product();
            let values = move || self.values(fill, len, &philox, place as u32);
            (name, Draft::rounded(self.dtype, &shape, move || Cow::Owned(values())))
        });
        stored::write(&folder.join("model.safetensors"), drafts.collect::<Vec<_>>())
    }

    fn values(&self, fill: Fill, len: usize, philox: &Philox, place: u32) -> Vec<f32> {
        match fill {
            Fill::Zero => vec![0.0; len],
            Fill::Norm => vec![1.0 - self.spec.norm_offset; len],
            Fill::Normal => {
                let mut numbers = philox.stream([place, 0, 0]);
                let pairs = (0..len.div_ceil(2)).flat_map(|_| numbers.next_normals());
                pairs.take(len).map(|x| (self.deviation * x) as f32).collect()
            }
        }
    }
}

/// The tensors of a model: name, shape, and how a new one is filled.
fn tensors(spec: &Spec) -> Vec<(String, Vec<usize>, Fill)> {
    let matrix = |name: &str| (name.to_owned(), vec![spec.vocabulary, spec.hidden], Fill::Normal);
    let mut tensors = vec![matrix("model.embed_tokens.weight")];
    for layer in 0..spec.layers.len() {
        let mut norm = |name: &str, width| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![width], Fill::Norm));
        };
        norm("input_layernorm", spec.hidden);
        norm("post_attention_layernorm", spec.hidden);
        if spec.output_norms {
            norm("pre_feedforward_layernorm", spec.hidden);
            norm("post_feedforward_layernorm", spec.hidden);
        }
        if spec.query_key_norms {
            norm("self_attn.q_norm", spec.head_dim);
            norm("self_attn.k_norm", spec.head_dim);
        }
        for linear in spec.linears_of(layer) {
            let shape = vec![linear.outputs, linear.inputs];
            tensors.push((format!("{linear}.weight"), shape, Fill::Normal));
            if spec.biases.of(linear.projection) {
                tensors.push((format!("{linear}.bias"), vec![linear.outputs], Fill::Zero));
            }
        }
    }
    tensors.push(("model.norm.weight".into(), vec![spec.hidden], Fill::Norm));
    if !spec.tied {
        tensors.push(matrix("lm_head.weight"));
    }
    tensors
}
