//! Whether a checkpoint belongs to the run that is to go on from it.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::checkpoint::State;
use crate::base::{Error, Result};

/// Refuses a checkpoint's state `then` where a run that starts `now` would have other settings, another
/// order or other data. `config` and `data` are the files to name.
pub(super) fn check(then: &State, now: &State, config: &Path, data: &Path) -> Result<()> {
    let hint = "resume with the same settings and data, or start another run in another folder";
    if then.config != now.config {
        return Err(difference(&then.config, &now.config).file(config).hint(hint));
    }
    if then.order_hash != now.order_hash {
        let what = "the training order is not the one the run was started with: the data changed";
        return Err(Error::input(what).file(data).hint(hint));
    }
    if then.data != now.data {
        return Err(Error::input("the data changed since the run was started").file(data).hint(hint));
    }
    Ok(())
}

/// The first setting, by name, in which two configurations differ.
pub fn difference(then: &str, now: &str) -> Error {
    let [then, now] = [then, now].map(|text| {
        let mut settings = BTreeMap::new();
        flatten("", &text.parse().unwrap_or_default(), &mut settings);
        settings
    });
    let differs = |key: &&String| then.get(*key) != now.get(*key);
    let Some(key) = then.keys().chain(now.keys()).filter(differs).min() else {
        return Error::input("the run was started with other settings");
    };
    let shown = |settings: &BTreeMap<String, Value>| {
        settings.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    Error::input(format!("the run was started with {}, found {}", shown(&then), shown(&now))).key(key)
}

/// Every setting by its dotted key.
fn flatten(prefix: &str, table: &Table, settings: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, settings),
            value => {
                settings.insert(key, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_setting_that_differs_is_named() {
        let then = "[sampler]\nseed = 42\n[train]\nseed = 1\nepochs = 1";
        for (now, expected) in [
            (
                "[sampler]\nseed = 7\n[train]\nseed = 1\nepochs = 2",
                "`sampler.seed`: the run was started with 42, found 7",
            ),
            (
                "[sampler]\nseed = 42\n[train]\nseed = 1",
                "`train.epochs`: the run was started with 1, found nothing",
            ),
        ] {
            assert_eq!(difference(then, now).to_string(), expected);
        }
    }
}
