//! The arithmetic that an update needs, for MFU.
//!
//! ```text
//! per token and frozen linear   2 in out forward, 2 in out for dx from the lowest adapter on; no dW
//! per token and trained linear  2 in out each for forward, dx and dW
//! per adapter                   6 R (in + out)
//! attention                     4 H E per (query, visible key) forward, twice that backward
//! LM head                       2 V D per loss row each for forward, dh and, where it is trained, dW
//! ```
//!
//! Only what the result needs counts: recomputation does not, shared prefixes count once.

use crate::adapter::{Lora, Projection};
use crate::model::Spec;
use crate::tensor::Forest;

/// FLOPs of one forward and backward pass over `forest`; without an adapter every weight is trained.
pub fn training(spec: &Spec, adapter: Option<&Lora>, forest: &Forest) -> f64 {
    let tokens = forest.len() as f64;
    let wanted = forest.site_tokens();
    let rows = wanted.len() as f64;
    let lowest = match adapter {
        Some(adapter) => adapter.modules().first().map_or(spec.layers.len(), |m| m.linear.layer),
        None => 0,
    };
    let of_weights = if adapter.is_none() { 1.0 } else { 0.0 };
    let last = spec.layers.len() - 1;
    let mut flops = (4.0 + 2.0 * of_weights) * rows * (spec.vocabulary * spec.hidden) as f64;
    for (layer, constants) in spec.layers.iter().enumerate() {
        let passes = of_weights + if layer >= lowest { 2.0 } else { 1.0 };
        for projection in Projection::ALL {
            let everywhere = layer < last || matches!(projection, Projection::K | Projection::V);
            let n = if everywhere { tokens } else { rows };
            let (inputs, outputs) = spec.shape(projection);
            flops += passes * 2.0 * n * (inputs * outputs) as f64;
            if let Some(module) = adapter.and_then(|a| a.module(layer, projection)) {
                flops += 6.0 * n * (module.rank * (inputs + outputs)) as f64;
            }
        }
        let window = constants.window.unwrap_or(u32::MAX);
        let visible = |token: &u32| f64::from((forest.positions[*token as usize] + 1).min(window));
        let pairs: f64 = if layer < last {
            forest.positions.iter().map(|p| f64::from((p + 1).min(window))).sum()
        } else {
            wanted.iter().map(visible).sum()
        };
        flops += (if layer >= lowest { 3.0 } else { 1.0 }) * 4.0 * spec.query_width() as f64 * pairs;
    }
    flops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Site;

    /// The rule of thumb: 6 FLOPs a token and weight, and attention beside it.
    #[test]
    fn all_weights_trained_at_every_token() {
        let config = r#"{"model_type": "llama", "vocab_size": 11, "hidden_size": 6, "intermediate_size": 10,
            "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1}"#;
        let spec = Spec::parse(config).unwrap();
        let mut forest = Forest::of_sequences([&[1, 2, 3, 4, 5][..]]);
        let site = |token| Site { token, target: 1, weight: 1.0, smoothing: 0.0, example: 0 };
        forest.sites = (0..5).map(site).collect();
        let of_block = 2 * 6 * 6 + 2 * 6 * 2 + 3 * 6 * 10;
        let weights = 3 * of_block + 11 * 6;
        let pairs = 1 + 2 + 3 + 4 + 5;
        let expected = 6 * 5 * weights + 3 * 3 * 4 * 6 * pairs;
        assert_eq!(training(&spec, None, &forest), f64::from(expected));
    }
}
