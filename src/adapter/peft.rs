//! Adapters in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::lora::{Lora, Module};
use super::targets::{self, Linear, Projection};
use crate::base::{Error, Result, files};
use crate::device::Device;
use crate::tensor::stored::{self, Draft, StoredFile};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Keys that change what an adapter computes. An adapter that sets one is refused by its name.
const UNSUPPORTED: [&str; 15] = [
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

/// Ways to start an adapter that also change the base weights, so that the adapter alone is not enough.
const CHANGED_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

const OTHER_MODEL: &str = "use the model that the adapter was trained on";

/// Reads the adapter in `folder` for a model with the given linears.
pub fn read(device: &Device, folder: &Path, linears: &[Linear]) -> Result<Lora> {
    let config_path = folder.join(CONFIG);
    let config: Map<String, Value> = serde_json::from_str(&files::read_text(&config_path)?).map_err(|e| {
        Error::input(format!("not a JSON object: {e}")).file(&config_path).line(e.line() as u64)
    })?;
    let config = Config::new(&config).map_err(|e| e.file(&config_path))?;
    let file = StoredFile::open(&folder.join(WEIGHTS))?;
    let shapes = shapes(&file, &config, linears).map_err(|e| e.file(file.path()))?;
    let mut lora = Lora::zeros(device, &shapes, config.use_rslora);
    for module in lora.modules().to_vec() {
        let [a, b] = tensor_names(&module.linear);
        for (name, range) in [(a, module.a), (b, module.b)] {
            let values = file.f32s(&name)?;
            if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                return Err(Error::input(format!("found {bad}, needed finite values"))
                    .file(file.path())
                    .key(name));
            }
            lora.params_mut().values_mut()[range].copy_from_slice(&values);
        }
    }
    Ok(lora)
}

/// The linears that the adapter in `folder` names, with the widths of its own matrices: to read an adapter
/// whose model is not at hand.
pub fn linears(folder: &Path) -> Result<Vec<Linear>> {
    let file = StoredFile::open(&folder.join(WEIGHTS))?;
    let mut linears = Vec::new();
    for (name, a) in file.tensors() {
        let Some(module) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".lora_A.weight"))
        else {
            continue;
        };
        let b = file.get(&format!("{PREFIX}{module}.lora_B.weight"))?;
        let linear = match (&a.shape[..], &b.shape[..]) {
            (&[_, inputs], &[outputs, _]) => Linear::parse(module, inputs, outputs),
            _ => None,
        };
        linears.extend(linear);
    }
    Ok(linears)
}

/// Writes the adapter into `folder` (which exists); `base` is the model's path, for PEFT's users.
pub fn write(folder: &Path, lora: &Lora, base: &str, dropout: f64) -> Result<()> {
    let config =
        serde_json::to_string_pretty(&config_of(lora, base, dropout)).expect("a JSON value can be written");
    files::write_atomic(&folder.join(CONFIG), format!("{config}\n").as_bytes())?;
    let params = lora.params().values();
    let tensors = lora.modules().iter().flat_map(|m| {
        let [a, b] = tensor_names(&m.linear);
        [
            (a, Draft::f32s(&params[m.a.clone()], &[m.rank, m.linear.inputs])),
            (b, Draft::f32s(&params[m.b.clone()], &[m.linear.outputs, m.rank])),
        ]
    });
    stored::write(&folder.join(WEIGHTS), tensors)
}

fn tensor_names(linear: &Linear) -> [String; 2] {
    ["A", "B"].map(|matrix| format!("{PREFIX}{linear}.lora_{matrix}.weight"))
}

/// What of a PEFT configuration decides the arithmetic.
struct Config {
    r: usize,
    lora_alpha: f64,
    use_rslora: bool,
    rank_pattern: Vec<(String, usize)>,
    alpha_pattern: Vec<(String, f64)>,
}

impl Config {
    fn new(json: &Map<String, Value>) -> Result<Self> {
        let fail = |key: &str, needed: &str| {
            let found = json.get(key).map_or_else(|| "nothing".into(), ToString::to_string);
            Error::input(format!("found {found}, needed {needed}")).key(key)
        };
        if json.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err(fail("peft_type", "\"LORA\""));
        }
        if !matches!(json.get("bias").and_then(Value::as_str), None | Some("none")) {
            return Err(fail("bias", "\"none\""));
        }
        if let Some(key) = UNSUPPORTED.iter().find(|key| json.get(**key).is_some_and(is_set)) {
            return Err(fail(key, "it unset: this version computes plain LoRA"));
        }
        let start = json.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
        if CHANGED_BASE.iter().any(|name| start.starts_with(name)) {
            return Err(fail("init_lora_weights", "a start that leaves the base weights as they are"));
        }
        let rank = |v: &Value| v.as_u64().filter(|r| (1..1 << 20).contains(r)).map(|r| r as usize);
        let alpha = |v: &Value| v.as_f64().filter(|a| a.is_finite() && *a != 0.0);
        Ok(Self {
            r: json.get("r").and_then(rank).ok_or_else(|| fail("r", "a rank from 1 to 1048575"))?,
            lora_alpha: json
                .get("lora_alpha")
                .and_then(alpha)
                .ok_or_else(|| fail("lora_alpha", "a number other than 0"))?,
            use_rslora: json.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            rank_pattern: pattern(json, "rank_pattern", rank)
                .ok_or_else(|| fail("rank_pattern", "ranks by pattern"))?,
            alpha_pattern: pattern(json, "alpha_pattern", alpha)
                .ok_or_else(|| fail("alpha_pattern", "numbers by pattern"))?,
        })
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

fn pattern<T>(
    json: &Map<String, Value>,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    match json.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => value.as_object()?.iter().map(|(k, v)| Some((k.clone(), read(v)?))).collect(),
    }
}

/// The (linear, rank, alpha) that the file's tensors and the configuration agree on.
fn shapes(file: &StoredFile, config: &Config, linears: &[Linear]) -> Result<Vec<(Linear, usize, f64)>> {
    let mut found: BTreeMap<u32, Linear> = BTreeMap::new();
    for name in file.tensors().keys() {
        let linear = name
            .strip_prefix(PREFIX)
            .and_then(|rest| {
                rest.strip_suffix(".lora_A.weight").or_else(|| rest.strip_suffix(".lora_B.weight"))
            })
            .and_then(|module| Linear::find(linears, module))
            .ok_or_else(|| {
                Error::input("it is no LoRA matrix of a linear of this model").key(name).hint(OTHER_MODEL)
            })?;
        found.insert(linear.number(), *linear);
    }
    if found.is_empty() {
        return Err(Error::input("found no LoRA matrix"));
    }
    let mut shapes = Vec::new();
    for linear in found.into_values() {
        let in_config = |e: Error| e.file(file.path().with_file_name(CONFIG));
        let rank =
            targets::pattern_value(&config.rank_pattern, &linear, "rank_pattern").map_err(in_config)?;
        let rank = rank.unwrap_or(config.r);
        let alpha =
            targets::pattern_value(&config.alpha_pattern, &linear, "alpha_pattern").map_err(in_config)?;
        let needed = [[rank, linear.inputs], [linear.outputs, rank]];
        for (name, needed) in tensor_names(&linear).iter().zip(needed) {
            let found = &file.get(name)?.shape;
            if found[..] != needed {
                return Err(Error::input(format!(
                    "found shape {found:?}, needed {needed:?} (rank by {CONFIG}, widths by the model)"
                ))
                .key(name)
                .hint(OTHER_MODEL));
            }
        }
        shapes.push((linear, rank, alpha.unwrap_or(config.lora_alpha)));
    }
    Ok(shapes)
}

/// The configuration that makes PEFT build exactly these modules.
fn config_of(lora: &Lora, base: &str, dropout: f64) -> Value {
    let modules = lora.modules();
    let most_common = |values: Vec<String>| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
    };
    let r = most_common(modules.iter().map(|m| m.rank.to_string()).collect());
    let alpha = most_common(modules.iter().map(|m| m.alpha.to_string()).collect());
    let (r, alpha) = (r.unwrap_or_default(), alpha.unwrap_or_default());
    let different =
        |differs: &dyn Fn(&Module) -> bool, value: &dyn Fn(&Module) -> Value| -> Map<String, Value> {
            let name = |m: &Module| regex::escape(&m.linear.to_string());
            modules.iter().filter(|m| differs(m)).map(|m| (name(m), value(m))).collect()
        };
    let number = |alpha: f64| if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": null,
        "inference_mode": true,
        "r": r.parse::<usize>().unwrap_or(1),
        "lora_alpha": number(alpha.parse().unwrap_or(1.0)),
        "lora_dropout": dropout,
        "use_rslora": lora.use_rslora(),
        "use_dora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "target_modules": target_names(modules),
        "rank_pattern": different(&|m| m.rank.to_string() != r, &|m| json!(m.rank)),
        "alpha_pattern": different(&|m| m.alpha.to_string() != alpha, &|m| number(m.alpha)),
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
    })
}

/// Short names where every layer carries the same linears, else whole module names.
fn target_names(modules: &[Module]) -> Vec<String> {
    let layers = modules.iter().map(|m| m.linear.layer).max().map_or(0, |last| last + 1);
    let of = |p: Projection| modules.iter().filter(|m| m.linear.projection == p).count();
    let names = Projection::ALL.iter().filter(|&&p| of(p) > 0);
    if names.clone().all(|&p| of(p) == layers) {
        names.map(|p| p.name().to_owned()).collect()
    } else {
        modules.iter().map(|m| m.linear.to_string()).collect()
    }
}
