//! The linears of a decoder by name, and the patterns that choose among them.

use std::fmt;

use regex::Regex;

use super::settings::TargetModules;
use crate::base::{Error, Result};

/// A linear of a decoder block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The gate of the feed-forward block.
    Gate,
    /// The other input of its product.
    Up,
    /// Its output.
    Down,
}

impl Projection {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Its name, as in `target_modules`.
    pub fn name(self) -> &'static str {
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"][self as usize]
    }

    fn parent(self) -> &'static str {
        if self <= Self::O { "self_attn" } else { "mlp" }
    }
}

/// One linear of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The block, from 0.
    pub layer: usize,
    /// Which linear of the block.
    pub projection: Projection,
    /// Width of its input.
    pub inputs: usize,
    /// Width of its output.
    pub outputs: usize,
}

impl Linear {
    /// Number of the linear in its model; names its dropout stream, whatever carries an adapter.
    pub fn number(&self) -> u32 {
        (self.layer * Projection::ALL.len() + self.projection as usize) as u32
    }

    /// The linear whose module name is `name`, with the given widths; `None` for any other name.
    pub fn parse(name: &str, inputs: usize, outputs: usize) -> Option<Self> {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let named =
            |p: &Projection| rest.strip_prefix(p.parent())?.strip_prefix('.').filter(|n| *n == p.name());
        let projection = *Projection::ALL.iter().find(|p| named(p).is_some())?;
        // A number that no model reaches would only ask for memory.
        let layer = layer.parse().ok().filter(|layer| *layer < 1 << 12)?;
        Some(Self { layer, projection, inputs, outputs })
    }

    /// The linear called `name`, as [`Linear`]'s `Display` writes it.
    pub fn find<'a>(all: &'a [Self], name: &str) -> Option<&'a Self> {
        all.iter().find(|linear| linear.to_string() == name)
    }
}

/// Its module name in a Hugging Face checkpoint: `model.layers.0.self_attn.q_proj`.
impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model.layers.{}.{}.{}", self.layer, self.projection.parent(), self.projection.name())
    }
}

/// The linears that `target_modules` names: by PEFT's rule a name matches a module that ends with it.
pub fn choose(all: &[Linear], targets: &TargetModules) -> Result<Vec<Linear>> {
    let names = match targets {
        TargetModules::Preset(preset) if preset == "all-linear" => return Ok(all.to_vec()),
        TargetModules::Preset(pattern) => {
            let chosen = matching(all, pattern, "adapter.target_modules")?;
            return if chosen.is_empty() { Err(nothing_matches(pattern)) } else { Ok(chosen) };
        }
        TargetModules::Names(names) => names,
    };
    if names.is_empty() {
        return Err(nothing_matches("[]"));
    }
    let ends_with = |linear: &Linear, name: &str| {
        let full = linear.to_string();
        full == name || full.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    };
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|linear| ends_with(linear, name))) {
        return Err(nothing_matches(unknown));
    }
    Ok(all.iter().filter(|linear| names.iter().any(|name| ends_with(linear, name))).copied().collect())
}

fn nothing_matches(found: &str) -> Error {
    let names: Vec<&str> = Projection::ALL.iter().map(|p| p.name()).collect();
    Error::input(format!("`{found}` names no linear of this model that can carry an adapter"))
        .key("adapter.target_modules")
        .hint(format!("use \"all-linear\" or a list of {}", names.join(", ")))
}

fn matching(all: &[Linear], pattern: &str, key: &str) -> Result<Vec<Linear>> {
    let regex = whole("", pattern, key)?;
    Ok(all.iter().filter(|linear| regex.is_match(&linear.to_string())).copied().collect())
}

/// The expression that matches a whole name by `before` and then `pattern`.
fn whole(before: &str, pattern: &str, key: &str) -> Result<Regex> {
    Regex::new(&format!("^{before}(?:{pattern})$")).map_err(|e| {
        let reason =
            e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::input(format!("`{pattern}` is no regular expression: {reason}")).key(key)
    })
}

/// The value of the first pattern that matches `linear`'s name, by PEFT's rule: the pattern matches the
/// whole name or its end after a dot.
pub fn pattern_value<T: Copy>(patterns: &[(String, T)], linear: &Linear, key: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if whole("(?:.*\\.)?", pattern, key)?.is_match(&linear.to_string()) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linears() -> Vec<Linear> {
        (0..12)
            .flat_map(|layer| {
                Projection::ALL.map(|projection| Linear { layer, projection, inputs: 4, outputs: 8 })
            })
            .collect()
    }

    #[test]
    fn names_match_as_peft_matches_them() {
        let all = linears();
        let names = |list: &[&str]| TargetModules::Names(list.iter().map(ToString::to_string).collect());
        assert_eq!(choose(&all, &names(&["q_proj", "v_proj"])).unwrap().len(), 24);
        assert_eq!(choose(&all, &names(&["layers.1.self_attn.q_proj"])).unwrap().len(), 1);
        let regex = TargetModules::Preset(r".*\.[01]\.mlp\..*".into());
        assert_eq!(choose(&all, &regex).unwrap().len(), 6);
        for wrong in [names(&[]), names(&["lm_head"]), names(&["proj"]), TargetModules::Preset("all".into())]
        {
            assert!(choose(&all, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn patterns_match_the_end_of_a_name() {
        let linear = Linear { layer: 1, projection: Projection::Q, inputs: 4, outputs: 4 };
        let value = |pattern: &str| pattern_value(&[(pattern.to_owned(), 8)], &linear, "k").unwrap();
        assert_eq!(value("q_proj"), Some(8));
        assert_eq!(value(r"layers\.1\..*q_proj"), Some(8));
        assert_eq!(value("1.self_attn.q_proj"), Some(8));
        assert_eq!(value("_proj"), None);
        assert_eq!(value("k_proj"), None);
    }
}
