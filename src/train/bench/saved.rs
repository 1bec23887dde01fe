//! What was measured, as a file keeps it, and two such files side by side.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::Kind;
use crate::base::Result;
use crate::train::same_run;

/// One bench, warm-up included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The program's version.
    pub version: String,
    /// The device and its threads.
    pub device: String,
    /// What a unit is.
    pub kind: Kind,
    /// The settings that decide what was computed.
    pub work: Table,
    /// FLOPs per second of a matrix product, measured before each unit that counts and after the last.
    pub peak_flops: Vec<f64>,
    /// Bytes per second of a triad, measured after.
    pub peak_bandwidth: f64,
    /// How many of the units come before those that count.
    pub warmup: u64,
    /// The units in their order.
    pub units: Vec<Unit>,
    /// Calls of ops in the units that count, by name.
    pub ops: Vec<Op>,
    /// The most bytes of activations that were in use at once.
    pub memory_bytes: u64,
    /// The most bytes that the process held, model included, where the system says so.
    pub process_bytes: Option<u64>,
}

/// One update, or one block of questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Wall time.
    pub seconds: f64,
    /// Examples or questions.
    pub examples: u64,
    /// An update's loss; of questions, the mean -ln of the right option's probability.
    pub loss: f64,
    /// What an update needs, for MFU (`train::flops`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flops: Option<f64>,
    /// An update's tokens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens: Option<Tokens>,
}

/// The tokens of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Of its examples.
    pub real: u64,
    /// Those that carry loss.
    pub trained: u64,
    /// Those that went through the model.
    pub computed: u64,
}

/// All calls of an op.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Its name: `attention.forward`.
    pub name: String,
    /// How often it was called.
    pub calls: u64,
    /// Their time.
    pub seconds: f64,
    /// FLOPs that their equations need.
    pub flops: f64,
    /// Bytes that their equations need.
    pub bytes: f64,
    /// Seconds that they take at least, at the measured peaks.
    pub floor: f64,
}

/// How much faster a run is than an older one: old time / new time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Of the total time.
    pub total: f64,
    /// Of each unit with its twin: quartiles.
    pub quartiles: [f64; 3],
    /// Of each op's time, where both have it.
    pub ops: Vec<(String, Option<f64>)>,
    /// Of the activations' peak: old / new.
    pub memory: f64,
}

impl Saved {
    /// The units that count.
    pub fn counted(&self) -> &[Unit] {
        &self.units[(self.warmup as usize).min(self.units.len())..]
    }

    /// Their wall time.
    pub fn seconds(&self) -> f64 {
        self.counted().iter().map(|unit| unit.seconds).sum()
    }

    /// The measured peaks' quartiles; floors and MFU are told against the median. A machine that others share changes
    /// its pace within seconds: the best of them would hold for none of the units but one.
    pub fn peaks(&self) -> [f64; 3] {
        quartiles(&self.peak_flops)
    }

    /// Refuses to be compared with a run that does other `work`, by the first setting that differs.
    pub fn check_work(&self, work: &Table) -> Result<()> {
        if self.work == *work {
            return Ok(());
        }
        let text = |table: &Table| toml::to_string(table).expect("a table is TOML");
        Err(same_run::difference(&text(&self.work), &text(work)).hint(
            "times compare only where the same is computed; bench both with the same settings and data",
        ))
    }

    /// This run beside an older one of the same work.
    pub fn against(&self, old: &Self) -> Comparison {
        let (ours, theirs) = (self.counted().iter(), old.counted().iter());
        let ratios: Vec<f64> = theirs.zip(ours).map(|(old, new)| old.seconds / new.seconds).collect();
        let of_op = |op: &Op| {
            let twin = old.ops.iter().find(|old| old.name == op.name);
            (op.name.clone(), twin.map(|old| old.seconds / op.seconds))
        };
        Comparison {
            total: old.seconds() / self.seconds(),
            quartiles: quartiles(&ratios),
            ops: self.ops.iter().map(of_op).collect(),
            memory: old.memory_bytes as f64 / self.memory_bytes as f64,
        }
    }
}

/// The quartiles of at least one value, interpolated between neighbours (Hyndman & Fan 1996, type 7).
pub fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_interpolate() {
        // numpy.quantile([4, 1, 3, 2], [0.25, 0.5, 0.75])
        assert_eq!(quartiles(&[4.0, 1.0, 3.0, 2.0]), [1.75, 2.5, 3.25]);
        assert_eq!(quartiles(&[7.0]), [7.0; 3]);
    }

    fn saved(seconds: &[f64], op: f64) -> Saved {
        let unit = |&seconds: &f64| Unit { seconds, examples: 1, loss: 1.0, flops: None, tokens: None };
        let work = "[train]\nbatch_size = 8".parse().unwrap();
        let ops = vec![Op { name: "a.b".into(), calls: 1, seconds: op, flops: 0.0, bytes: 0.0, floor: 0.0 }];
        Saved {
            version: String::new(),
            device: String::new(),
            kind: Kind::Train,
            work,
            peak_flops: vec![1.0, 2.0],
            peak_bandwidth: 1.0,
            warmup: 1,
            units: seconds.iter().map(unit).collect(),
            ops,
            memory_bytes: 10,
            process_bytes: None,
        }
    }

    #[test]
    fn the_ratio_pairs_units_and_leaves_the_warm_up_out() {
        let (old, new) = (saved(&[9.0, 2.0, 4.0], 3.0), saved(&[1.0, 1.0, 4.0], 1.5));
        let found = new.against(&old);
        assert_eq!((found.total, found.quartiles), (6.0 / 5.0, [1.25, 1.5, 1.75]));
        assert_eq!(found.ops, [("a.b".to_owned(), Some(2.0))]);
    }

    #[test]
    fn other_work_is_refused_by_its_key() {
        let saved = saved(&[1.0], 1.0);
        saved.check_work(&saved.work).unwrap();
        let error = saved.check_work(&"[train]\nbatch_size = 4".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`train.batch_size`: the run was started with 8, found 4");
    }
}
