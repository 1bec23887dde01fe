//! The `[sampler]` table and the names of the strategies.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::Error;

/// A way to order the training data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The order of the file.
    Sequential,
    /// One shuffle of everything.
    #[default]
    Random,
    /// Rising difficulty over everything.
    Curriculum,
    /// One category after the other, random inside each.
    Blocked,
    /// One category after the other, rising difficulty inside each.
    BlockedCurriculum,
    /// `parts` rounds; round r emits part r of every category, each shuffled before the cut.
    Interleaved,
    /// As interleaved, but each category rises in difficulty before the cut.
    InterleavedCurriculum,
    /// Easy, medium and hard thirds of everything, random inside each.
    Tiered,
    /// For each third, easy first: each category's items of that third, random inside.
    InterleavedTiered,
    /// Each update draws from the easiest items, from a pool that grows to everything.
    Competence,
    /// Items of the categories in the proportions of `weights`.
    Mixture,
}

impl Strategy {
    /// Every strategy, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Sequential,
        Self::Random,
        Self::Curriculum,
        Self::Blocked,
        Self::BlockedCurriculum,
        Self::Interleaved,
        Self::InterleavedCurriculum,
        Self::Tiered,
        Self::InterleavedTiered,
        Self::Competence,
        Self::Mixture,
    ];

    /// Its name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
            Self::Curriculum => "curriculum",
            Self::Blocked => "blocked",
            Self::BlockedCurriculum => "blocked-curriculum",
            Self::Interleaved => "interleaved",
            Self::InterleavedCurriculum => "interleaved-curriculum",
            Self::Tiered => "tiered",
            Self::InterleavedTiered => "interleaved-tiered",
            Self::Competence => "competence",
            Self::Mixture => "mixture",
        }
    }

    /// Whether every example must have a category.
    pub fn needs_categories(self) -> bool {
        matches!(
            self,
            Self::Blocked
                | Self::BlockedCurriculum
                | Self::Interleaved
                | Self::InterleavedCurriculum
                | Self::InterleavedTiered
                | Self::Mixture
        )
    }

    /// Whether every example must have a difficulty.
    pub fn needs_difficulties(self) -> bool {
        matches!(
            self,
            Self::Curriculum
                | Self::BlockedCurriculum
                | Self::InterleavedCurriculum
                | Self::Tiered
                | Self::InterleavedTiered
                | Self::Competence
        )
    }

    /// Whether an epoch holds each example exactly once.
    pub fn is_permutation(self) -> bool {
        !matches!(self, Self::Competence | Self::Mixture)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("found strategy `{name}`, needed one of: {known}"))
        })
    }
}

/// The `[sampler]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The order of the training data.
    pub strategy: Strategy,
    /// Names the shuffles; an epoch draws from (seed, epoch).
    pub seed: u64,
    /// Parts that the interleaved orders cut each category into, at least 1.
    pub parts: u64,
    /// The field of the data that holds an example's category.
    pub category: String,
    /// The field of the data that holds an example's difficulty; higher is harder.
    pub difficulty: String,
    /// The order of the categories, each listed once; empty: by name.
    pub category_order: Vec<String>,
    /// The weight of every category in `mixture`; empty: its number of examples.
    pub weights: BTreeMap<String, f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: Strategy::Random,
            seed: 42,
            parts: 3,
            category: "subject".into(),
            difficulty: "difficulty".into(),
            category_order: Vec::new(),
            weights: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Refuses values out of range, by key; those that only some data rule out are found by
    /// [`order`](fn@super::order).
    pub fn check(&self) -> Result<(), Error> {
        if self.parts == 0 {
            return Err(Error::input("found 0, needed at least 1 part").key("sampler.parts"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_and_the_command_line_use_the_same_names() {
        for strategy in Strategy::ALL {
            assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.name());
            assert_eq!(strategy.name().parse::<Strategy>().unwrap(), strategy);
        }
        let error = "shuffled".parse::<Strategy>().unwrap_err().to_string();
        assert!(error.contains("`shuffled`") && error.contains("interleaved-tiered"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = toml::from_str::<Settings>("stratagy = 'random'").unwrap_err().to_string();
        assert!(error.contains("stratagy"), "{error}");
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }
}
