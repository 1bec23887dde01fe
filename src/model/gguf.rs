//! GGUF files as models: their metadata as a specification, their tensors under Hugging Face's names.
//!
//! Three things are stored otherwise than in a Hugging Face directory:
//! - Llama's query and key rows: the two of a rotary pair side by side ([`crate::device::Weight::with_paired_rows`]).
//! - Gemma's norms: with the 1 that the model adds already in them, so nothing is added.
//! - Llama 3's rotary scaling: as the tensor `rope_freqs.weight`, by which each frequency is divided.
//!
//! Source: the GGUF specification, and llama.cpp's converter from Hugging Face.

use serde_json::{Map, Value, json};

use super::spec::{Biases, Spec};
use crate::base::{Error, Result};
use crate::tensor::{DType, Gguf, gguf::Metadata};

const ARCHITECTURE: &str = "general.architecture";
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Architectures, and the `model_type` of the family that computes them. Mistral's and SmolLM2's files say llama.
const ARCHITECTURES: [(&str, &str); 4] =
    [("llama", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3"), ("gemma3", "gemma3_text")];

/// Keys of config.json, and of the metadata after the architecture's name.
const KEYS: [(&str, &str); 13] = [
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("max_position_embeddings", "context_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("rope_local_base_freq", "rope.freq_base_swa"),
    ("sliding_window", "attention.sliding_window"),
    ("num_experts", "expert_count"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

/// Keys of config.json that are made of others, and the keys that say what they hold.
const MADE_KEYS: [(&str, &str); 5] = [
    ("type", "rope.scaling.type"),
    ("factor", "rope.scaling.factor"),
    ("layer_types", "attention.sliding_window_pattern"),
    ("sliding_window_pattern", "attention.sliding_window_pattern"),
    ("query_pre_attn_scalar", "attention.scale"),
];

/// Names of a block's parts in Hugging Face's checkpoints and in GGUF files.
const PARTS: [(&str, &str); 12] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// The name in a GGUF file of what a Hugging Face checkpoint calls `name`.
///
/// `output_norms`: whether the family norms attention's output, whose norm then has the name that others
/// give to the norm before the feed-forward block.
pub(super) fn tensor_name(name: &str, output_norms: bool) -> String {
    match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        _ => block_part(name, output_norms).unwrap_or_else(|| name.to_owned()),
    }
}

fn block_part(name: &str, output_norms: bool) -> Option<String> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "post_attention_layernorm" if output_norms => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ => PARTS.iter().find(|(theirs, _)| *theirs == part)?.1,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// Whether a tensor is part of the specification.
pub(super) fn is_specification(name: &str) -> bool {
    name == ROPE_FACTORS
}

/// Whether the rows of queries and keys stand as rotary pairs.
pub(super) fn has_paired_rows(file: &Gguf) -> bool {
    matches!(file.metadata().text(ARCHITECTURE), Ok(Some("llama")))
}

/// The specification that a file's metadata gives.
pub(super) fn spec(file: &Gguf) -> Result<Spec> {
    read(file).map_err(|e| e.file(file.path()))
}

fn read(file: &Gguf) -> Result<Spec> {
    let metadata = file.metadata();
    let found = metadata.text(ARCHITECTURE)?.unwrap_or_default();
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == found);
    let &(architecture, model_type) = known.ok_or_else(|| {
        let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
        Error::input(format!("found \"{found}\", needed one of {names}")).key(ARCHITECTURE)
    })?;
    let source = Source { metadata, architecture };
    let config = source.config(model_type, file)?;
    let mut spec = Spec::of_config(&config).map_err(|e| e.rename_key(|key| source.key_for(key)))?;
    if let Some(scale) = source.number("attention.scale")? {
        spec.attention_scale = scale as f32;
    }
    source.check_widths(&spec)?;
    let has = |name: &str| file.tensors().contains_key(&format!("blk.0.{name}.bias"));
    spec.biases = Biases { qkv: has("attn_q"), output: has("attn_output"), mlp: has("ffn_gate") };
    spec.norm_offset = 0.0;
    if let Some(tensor) = file.tensors().get(ROPE_FACTORS) {
        let factors = if tensor.dtype == DType::F32 { file.f32s(tensor) } else { Vec::new() };
        if factors.len() != spec.head_dim / 2 || factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
            let needed = format!("needed {} positive numbers of type F32", spec.head_dim / 2);
            let found = format!("found the type {} and the shape {:?}", tensor.dtype, tensor.shape);
            return Err(Error::input(format!("{found}, {needed}")).key(ROPE_FACTORS));
        }
        for (frequency, factor) in spec.frequencies[0].iter_mut().zip(factors) {
            *frequency /= factor;
        }
    }
    Ok(spec)
}

/// The metadata of an architecture.
struct Source<'a> {
    metadata: Metadata<'a>,
    architecture: &'a str,
}

impl Source<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// The metadata key that says what `key` of config.json says.
    fn key_for(&self, key: &str) -> Option<String> {
        if key == "vocab_size" {
            return Some("token_embd.weight".to_owned());
        }
        let name = KEYS.iter().chain(&MADE_KEYS).find(|(theirs, _)| *theirs == key)?.1;
        Some(self.key(name))
    }

    fn unsigned(&self, name: &str) -> Result<Option<u64>> {
        self.metadata.unsigned(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.number(&self.key(name))
    }

    /// What a Hugging Face directory of this model would have as config.json.
    fn config(&self, model_type: &str, file: &Gguf) -> Result<Map<String, Value>> {
        let mut config = Map::new();
        let is_gemma = model_type == "gemma3_text";
        for (theirs, ours) in KEYS {
            let Some(number) = self.number(ours)? else { continue };
            // 0 stands for "none" where a count may be absent.
            let is_absent = number == 0.0
                && ["sliding_window", "num_experts", "final_logit_softcapping"].contains(&theirs);
            if !is_absent {
                config.insert(theirs.to_owned(), whole(number));
            }
        }
        // A llama with a window is a Mistral.
        let slides = config.contains_key("sliding_window");
        let model_type = if model_type == "llama" && slides { "mistral" } else { model_type };
        config.insert("model_type".to_owned(), json!(model_type));
        let embedding = file.tensors().get("token_embd.weight").filter(|tensor| tensor.shape.len() == 2);
        let embedding = embedding.ok_or_else(|| {
            Error::input("found no matrix of this name, needed the embedding").key("token_embd.weight")
        })?;
        config.insert("vocab_size".to_owned(), json!(embedding.shape[0]));
        config.insert("tie_word_embeddings".to_owned(), json!(!file.tensors().contains_key("output.weight")));
        let size = |key: &str| config.get(key).and_then(Value::as_u64).filter(|&n| n > 0);
        let head_share = size("hidden_size").zip(size("num_attention_heads")).map(|(d, heads)| d / heads);
        if let (false, Some(share)) = (config.contains_key("head_dim"), head_share) {
            config.insert("head_dim".to_owned(), json!(share));
        }
        if is_gemma {
            // Gemma 3 scales scores by its heads' width; the one of 62 blocks by its share of the model's.
            let scalar = if config.get("num_hidden_layers") == Some(&json!(62)) {
                json!(head_share)
            } else {
                config["head_dim"].clone()
            };
            config.insert("query_pre_attn_scalar".to_owned(), scalar);
            self.window_pattern(&mut config)?;
        }
        if let Some(scaling) = self.rope_scaling()? {
            config.insert("rope_scaling".to_owned(), scaling);
        }
        Ok(config)
    }

    /// Which blocks slide: every but each n-th, or a list of true and false.
    fn window_pattern(&self, config: &mut Map<String, Value>) -> Result<()> {
        let key = self.key("attention.sliding_window_pattern");
        if self.metadata.is_list(&key) {
            let kind = |slides| if slides { "sliding_attention" } else { "full_attention" };
            let kinds = self.metadata.flags(&key)?.unwrap_or_default().into_iter().map(kind);
            config.insert("layer_types".to_owned(), kinds.collect());
        } else if let Some(pattern) = self.metadata.unsigned(&key)? {
            config.insert("sliding_window_pattern".to_owned(), json!(pattern));
        }
        Ok(())
    }

    fn rope_scaling(&self) -> Result<Option<Value>> {
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?;
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // as files before August 2023 say it
            None => self.number("rope.scale_linear")?,
        };
        Ok(match (kind, factor) {
            (Some("none"), _) | (None, None) => None,
            (kind, factor) => Some(json!({"type": kind.unwrap_or("linear"), "factor": factor})),
        })
    }

    /// Refuses heads whose values are not as wide as their keys, and rotary positions on a part of a head.
    fn check_widths(&self, spec: &Spec) -> Result<()> {
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(width) = self.unsigned(name)?
                && width != spec.head_dim as u64
            {
                return Err(Error::input(format!(
                    "found {width}, needed {}, the width of a head",
                    spec.head_dim
                ))
                .key(self.key(name)));
            }
        }
        Ok(())
    }
}

/// A number as config.json would write it: whole ones without a point.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 2_f64.powi(53) { json!(number as i64) } else { json!(number) }
}
