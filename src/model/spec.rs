//! What a model is, read from its `config.json`. What is not supported is refused by the key's name.

use std::path::Path;

use serde_json::{Map, Value};

use super::rope::{Scaling, inverse_frequencies};
use crate::adapter::{Linear, Projection};
use crate::base::{Error, Result, files};
use crate::ops::attention::Heads;
use crate::ops::gated::Activation;
use crate::tensor::{Gguf, checkpoint};

/// Families and the `model_type` that names them.
const FAMILIES: [(&str, Family); 5] = [
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma3_text", Family::Gemma3),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// One block's own constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Sliding window of its attention.
    pub window: Option<u32>,
    /// Index into [`Spec::frequencies`].
    pub rope: usize,
}

/// Which linears have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// q, k and v.
    pub qkv: bool,
    /// o.
    pub output: bool,
    /// gate, up and down.
    pub mlp: bool,
}

impl Biases {
    /// Whether this linear has one.
    pub fn of(&self, projection: Projection) -> bool {
        match projection {
            Projection::Q | Projection::K | Projection::V => self.qkv,
            Projection::O => self.output,
            Projection::Gate | Projection::Up | Projection::Down => self.mlp,
        }
    }
}

/// A decoder-only model: sizes and the few choices in which families differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `model_type`.
    pub model_type: String,
    /// V.
    pub vocabulary: usize,
    /// D.
    pub hidden: usize,
    /// F.
    pub intermediate: usize,
    /// H.
    pub query_heads: usize,
    /// K.
    pub key_value_heads: usize,
    /// E.
    pub head_dim: usize,
    /// The context: the most positions it was trained for.
    pub context: usize,
    /// Whether the LM head is the embedding.
    pub tied: bool,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// Added to every norm's weight: 1 for Gemma.
    pub norm_offset: f32,
    /// Factor of embedded tokens: sqrt(D) for Gemma.
    pub embedding_scale: f32,
    /// Factor of attention scores.
    pub attention_scale: f32,
    /// The gate's activation.
    pub activation: Activation,
    /// Which linears have a bias.
    pub biases: Biases,
    /// Whether each head of q and k is normed.
    pub query_key_norms: bool,
    /// Whether attention's and the feed-forward block's outputs are normed, too.
    pub output_norms: bool,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// Inverse frequencies of each kind of rotary positions, E/2 each.
    pub frequencies: Vec<Vec<f32>>,
}

impl Spec {
    /// Reads `config.json` of the Hugging Face directory, or the metadata of the `.gguf` file, at `model`.
    pub fn read(model: &Path) -> Result<Self> {
        if Gguf::is_named_by(model) {
            return super::gguf::spec(&Gguf::open(model)?);
        }
        checkpoint::check_folder(model)?;
        let path = model.join("config.json");
        let text = files::read_text(&path)?;
        Self::parse(&text).map_err(|e| e.file(&path))
    }

    /// Reads the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| Error::input(format!("not a JSON object: {e}")).line(e.line() as u64))?;
        Self::of_config(&json)
    }

    /// Reads the keys of a `config.json`.
    pub(super) fn of_config(json: &Map<String, Value>) -> Result<Self> {
        let config = Config(json);
        let family = family(&config)?;
        refuse_unsupported(&config)?;

        let hidden = config.size("hidden_size", None)?;
        let query_heads = config.size("num_attention_heads", None)?;
        let default_head = match family {
            Family::Gemma3 => 256,
            Family::Qwen3 => 128,
            _ => hidden / query_heads,
        };
        let head_dim = config.size("head_dim", Some(default_head))?;
        let key_value_heads = config.size("num_key_value_heads", Some(query_heads))?;
        if query_heads % key_value_heads != 0 {
            let what =
                format!("found {key_value_heads}, needed a divisor of num_attention_heads = {query_heads}");
            return Err(Error::input(what).key("num_key_value_heads"));
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(
                Error::input(format!("found {head_dim}, needed an even number above 0")).key("head_dim")
            );
        }
        let gemma = family == Family::Gemma3;
        let query_scalar =
            if gemma { config.number("query_pre_attn_scalar", Some(256.0))? } else { head_dim as f64 };
        let count = config.size("num_hidden_layers", None)?;
        let attention_bias = config.flag("attention_bias", false)?;
        let (layers, frequencies) = layers(&config, family, count, head_dim)?;
        Ok(Self {
            model_type: config.text("model_type")?.unwrap_or_default().to_owned(),
            vocabulary: config.size("vocab_size", None)?,
            hidden,
            intermediate: config.size("intermediate_size", None)?,
            query_heads,
            key_value_heads,
            head_dim,
            context: config.size("max_position_embeddings", Some(if gemma { 131_072 } else { 2048 }))?,
            tied: config.flag("tie_word_embeddings", gemma)?,
            norm_eps: config.number("rms_norm_eps", Some(1e-6))? as f32,
            norm_offset: if gemma { 1.0 } else { 0.0 },
            embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            attention_scale: (1.0 / query_scalar.sqrt()) as f32,
            activation: activation(&config, gemma)?,
            biases: match family {
                Family::Qwen2 => Biases { qkv: true, ..Biases::default() },
                Family::Mistral => Biases::default(),
                _ => Biases {
                    qkv: attention_bias,
                    output: attention_bias,
                    mlp: family == Family::Llama && config.flag("mlp_bias", false)?,
                },
            },
            query_key_norms: matches!(family, Family::Qwen3 | Family::Gemma3),
            output_norms: gemma,
            layers,
            frequencies,
        })
    }

    /// Head counts and constants of one block's attention.
    pub fn heads(&self, layer: usize) -> Heads {
        Heads {
            query: self.query_heads,
            key_value: self.key_value_heads,
            width: self.head_dim,
            scale: self.attention_scale,
            window: self.layers[layer].window,
        }
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.query_heads * self.head_dim
    }

    /// Width of all key heads; of all value heads, too.
    pub fn key_width(&self) -> usize {
        self.key_value_heads * self.head_dim
    }

    /// (inputs, outputs) of a linear.
    pub fn shape(&self, projection: Projection) -> (usize, usize) {
        match projection {
            Projection::Q => (self.hidden, self.query_width()),
            Projection::K | Projection::V => (self.hidden, self.key_width()),
            Projection::O => (self.query_width(), self.hidden),
            Projection::Gate | Projection::Up => (self.hidden, self.intermediate),
            Projection::Down => (self.intermediate, self.hidden),
        }
    }

    /// Every linear that can carry an adapter.
    pub fn linears(&self) -> Vec<Linear> {
        (0..self.layers.len()).flat_map(|layer| self.linears_of(layer)).collect()
    }

    /// The linears of one block.
    pub fn linears_of(&self, layer: usize) -> [Linear; 7] {
        Projection::ALL.map(|projection| {
            let (inputs, outputs) = self.shape(projection);
            Linear { layer, projection, inputs, outputs }
        })
    }
}

fn family(config: &Config<'_>) -> Result<Family> {
    let found = config.text("model_type")?.unwrap_or_default();
    let known = FAMILIES.iter().find(|(name, _)| *name == found);
    known.map(|(_, family)| *family).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        Error::input(format!("found \"{found}\", needed one of {}", names.join(", "))).key("model_type")
    })
}

/// Keys that would change the arithmetic in a way that is not implemented.
fn refuse_unsupported(config: &Config<'_>) -> Result<()> {
    for key in [
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "quantization_config",
        "num_experts",
        "num_local_experts",
    ] {
        if let Some(value) = config.get(key) {
            return Err(Error::input(format!("found {value}, which is not supported"))
                .key(key)
                .hint("use a dense model of bf16, f16 or f32 weights, without caps on its logits"));
        }
    }
    if config.flag("use_bidirectional_attention", false)? {
        return Err(Error::input("found true, which is not supported").key("use_bidirectional_attention"));
    }
    // Transformers drops attention probabilities in training where this is above 0.
    let dropout = config.typed("attention_dropout", "a number", Value::as_f64)?.unwrap_or(0.0);
    if dropout != 0.0 {
        return Err(Error::input(format!("found {dropout}, needed 0")).key("attention_dropout"));
    }
    let partial = config.number("partial_rotary_factor", Some(1.0))?;
    if partial != 1.0 {
        return Err(Error::input(format!("found {partial}, needed 1")).key("partial_rotary_factor"));
    }
    Ok(())
}

fn activation(config: &Config<'_>, gemma: bool) -> Result<Activation> {
    let key = if gemma { "hidden_activation" } else { "hidden_act" };
    match config.text(key)?.unwrap_or(if gemma { "gelu_pytorch_tanh" } else { "silu" }) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(Error::input(format!("found \"{other}\", needed silu or gelu_pytorch_tanh")).key(key)),
    }
}

/// The blocks and the frequency tables that they use.
fn layers(
    config: &Config<'_>,
    family: Family,
    count: usize,
    head_dim: usize,
) -> Result<(Vec<Layer>, Vec<Vec<f32>>)> {
    let windowed = windowed(config, family, count)?;
    let window = match config.get("sliding_window") {
        None if windowed.contains(&true) && family == Family::Gemma3 => Some(4096),
        None => None,
        Some(_) => Some(config.size("sliding_window", None)? as u32),
    };
    if window.is_none() && windowed.contains(&true) && config.get("layer_types").is_some() {
        return Err(Error::input("a layer is a sliding_attention layer, but there is no window")
            .key("sliding_window"));
    }
    let gemma = family == Family::Gemma3;
    let layer = |&slides: &bool| Layer {
        window: if slides { window } else { None },
        rope: usize::from(gemma && slides),
    };
    let frequencies = |rope: (f32, Scaling)| inverse_frequencies(rope.0, head_dim, rope.1);
    let mut tables = vec![frequencies(rope(config, gemma.then_some("full_attention"), gemma)?)];
    if gemma {
        tables.push(frequencies(rope(config, Some("sliding_attention"), gemma)?));
    }
    Ok((windowed.iter().map(layer).collect(), tables))
}

/// Which blocks slide.
fn windowed(config: &Config<'_>, family: Family, count: usize) -> Result<Vec<bool>> {
    if family == Family::Llama {
        return Ok(vec![false; count]);
    }
    if matches!(family, Family::Qwen2 | Family::Qwen3) && !config.flag("use_sliding_window", false)? {
        return Ok(vec![false; count]);
    }
    if let Some(types) = config.get("layer_types") {
        let fail = || {
            Error::input(format!(
                "needed {count} of \"full_attention\" or \"sliding_attention\", one a layer"
            ))
            .key("layer_types")
        };
        let types = types.as_array().filter(|types| types.len() == count).ok_or_else(fail)?;
        let slides = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(fail()),
        };
        return types.iter().map(slides).collect();
    }
    match family {
        Family::Qwen2 | Family::Qwen3 => {
            let first = config.size_or_zero("max_window_layers", 28)?;
            Ok((0..count).map(|layer| layer >= first).collect())
        }
        Family::Gemma3 => {
            let key = if config.get("sliding_window_pattern").is_some() {
                "sliding_window_pattern"
            } else {
                "_sliding_window_pattern"
            };
            let pattern = config.size(key, Some(6))?;
            Ok((0..count).map(|layer| (layer + 1) % pattern != 0).collect())
        }
        _ => Ok(vec![true; count]),
    }
}

/// Base and scaling of rotary positions, from `rope_parameters` (new) or `rope_theta` and `rope_scaling` (old).
///
/// `kind` is the layer type where a model has a table of its own for each.
fn rope(config: &Config<'_>, kind: Option<&str>, gemma: bool) -> Result<(f32, Scaling)> {
    let sliding = kind == Some("sliding_attention");
    let default_theta = if gemma && !sliding { 1e6 } else { 1e4 };
    if let Some(parameters) = config.object("rope_parameters")? {
        let outer = Config(parameters);
        let inner = match kind {
            Some(kind)
                if parameters.contains_key("full_attention")
                    || parameters.contains_key("sliding_attention") =>
            {
                outer.object(kind)?.map(Config)
            }
            _ => Some(Config(parameters)),
        };
        let Some(inner) = inner else { return Ok((default_theta, Scaling::None)) };
        let theta = inner
            .number("rope_theta", Some(config.number("rope_theta", Some(f64::from(default_theta)))?))?
            as f32;
        return Ok((theta, scaling(&inner, config).map_err(|e| e.key("rope_parameters"))?));
    }
    let theta_key = if sliding { "rope_local_base_freq" } else { "rope_theta" };
    let theta = config.number(theta_key, Some(f64::from(default_theta)))? as f32;
    match config.object("rope_scaling")? {
        Some(parameters) if !sliding => Ok((theta, scaling(&Config(parameters), config)?)),
        _ => Ok((theta, Scaling::None)),
    }
}

fn scaling(rope: &Config<'_>, config: &Config<'_>) -> Result<Scaling> {
    let key = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    match rope.text(key)?.unwrap_or("default") {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: rope.number("factor", None)? as f32 }),
        "llama3" => {
            let context = config.number("max_position_embeddings", Some(2048.0))?;
            Ok(Scaling::Llama3 {
                factor: rope.number("factor", None)? as f32,
                low: rope.number("low_freq_factor", None)? as f32,
                high: rope.number("high_freq_factor", None)? as f32,
                original_context: rope.number("original_max_position_embeddings", Some(context))? as f32,
            })
        }
        other => {
            Err(Error::input(format!("found rotary scaling \"{other}\", needed default, linear or llama3"))
                .key(key))
        }
    }
}

/// Typed access to a JSON object's keys; `null` counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Config<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Config<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, key: &str, needed: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let fail = || Error::input(format!("found {value}, needed {needed}")).key(key);
        read(value).map(Some).ok_or_else(fail)
    }

    fn required<T>(value: Option<T>, default: Option<T>, key: &str) -> Result<T> {
        value.or(default).ok_or_else(|| Error::input("found nothing, needed a value").key(key))
    }

    /// A size from 1 up to a limit that no real model reaches, so that a wrong one cannot ask for memory.
    pub(super) fn size(&self, key: &str, default: Option<usize>) -> Result<usize> {
        let limit = match key {
            "max_position_embeddings" => 1 << 31,
            "num_hidden_layers" => 1 << 12,
            _ => 1 << 24,
        };
        let read = |v: &Value| v.as_u64().filter(|n| (1..=limit).contains(n)).map(|n| n as usize);
        Self::required(self.typed(key, &format!("a whole number from 1 to {limit}"), read)?, default, key)
    }

    fn size_or_zero(&self, key: &str, default: usize) -> Result<usize> {
        let read = |v: &Value| v.as_u64().map(|n| n as usize);
        Ok(self.typed(key, "a whole number", read)?.unwrap_or(default))
    }

    pub(super) fn number(&self, key: &str, default: Option<f64>) -> Result<f64> {
        let read = |v: &Value| v.as_f64().filter(|n| n.is_finite() && *n > 0.0);
        Self::required(self.typed(key, "a number above 0", read)?, default, key)
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", Value::as_str)
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.typed(key, "an object", Value::as_object)
    }
}
