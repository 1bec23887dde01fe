//! What a program may choose before `cuInit`: the modelled device, how many, the seed, the threads.

use std::time::Duration;

use serde::Deserialize;

use crate::devices::{self, DEVICES, Device};

/// The argument of `preceptor_testkit_configure`, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) device: &'static Device,
    /// How many such devices there are.
    pub(crate) count: u32,
    /// With a seed, the order of streams and blocks and the error of approximate instructions are drawn from
    /// it; without, streams run in the fixed worst order.
    pub(crate) seed: Option<u64>,
    /// Threads of the interpreter; all cores if absent.
    pub(crate) threads: Option<usize>,
    /// Whether the device has memory pools, without which programs fall back to synchronous allocation.
    pub(crate) memory_pools: bool,
    /// How long an NCCL operation waits for the other ranks.
    pub(crate) patience: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    device: Option<String>,
    count: Option<u32>,
    seed: Option<u64>,
    threads: Option<usize>,
    memory_pools: Option<bool>,
    patience_s: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        let patience = Duration::from_secs(60);
        Self { device: &DEVICES[0], count: 1, seed: None, threads: None, memory_pools: true, patience }
    }
}

impl Config {
    /// `{"device": "A100", "count": 1, "seed": 7, "threads": 2, "memory_pools": true, "patience_s": 60}`
    ///
    /// Every key may be absent or null; the device may also be "RTX 4090", "H100" or "RTX 5090". The error says
    /// what was wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fields: Fields = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let default = Self::default();
        let device = match &fields.device {
            None => default.device,
            Some(key) => devices::by_key(key).ok_or_else(|| {
                let known: Vec<_> = DEVICES.iter().map(|device| device.key).collect();
                format!("device `{key}` is not modelled; known are {}", known.join(", "))
            })?,
        };
        let count = fields.count.unwrap_or(default.count);
        if !(1..=16).contains(&count) {
            return Err(format!("count = {count} is outside 1 to 16"));
        }
        if fields.threads == Some(0) {
            return Err("threads = 0; leave it out to use all cores".to_owned());
        }
        let patience = match fields.patience_s {
            None => default.patience,
            Some(seconds) => {
                Duration::try_from_secs_f64(seconds).map_err(|error| format!("patience_s: {error}"))?
            }
        };
        let memory_pools = fields.memory_pools.unwrap_or(default.memory_pools);
        Ok(Self { device, count, seed: fields.seed, threads: fields.threads, memory_pools, patience })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_keys_take_defaults_and_wrong_ones_are_named() {
        let config = Config::parse(r#"{"device": "rtx4090", "seed": 7}"#).expect("valid");
        assert_eq!((config.device.key, config.count, config.seed), ("RTX 4090", 1, Some(7)));
        assert!(Config::parse(r#"{"device": "v100"}"#).expect_err("unknown").contains("RTX 5090"));
        assert!(Config::parse(r#"{"sed": 7}"#).expect_err("unknown key").contains("sed"));
        assert!(Config::parse(r#"{"count": 0}"#).is_err());
    }
}
