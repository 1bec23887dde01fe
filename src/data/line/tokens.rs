//! Token ids: `{"input_ids","labels"}`.

use serde_json::Value;

use super::fields::{self, Fields};
use crate::base::{Error, Result};

/// The label that carries no loss.
const IGNORED: i64 = -100;

/// Token ids and targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Token ids, `[T]`, at least 2.
    pub input_ids: Vec<u32>,
    /// The target for each input, predicted from the position before; `labels[0]` is `None`. `[T]`
    pub labels: Vec<Option<u32>>,
}

impl Tokens {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self> {
        let ids = fields.list("input_ids")?;
        let labels = fields.list("labels")?;
        if ids.len() < 2 {
            let what =
                format!("found {}, needed at least 2: one that predicts and one to predict", ids.len());
            return Err(Error::input(what).key("input_ids"));
        }
        if ids.len() != labels.len() {
            let what = format!("found {}, needed {}, as many as `input_ids`", labels.len(), ids.len());
            return Err(Error::input(what).key("labels"));
        }
        let input_ids =
            each(ids, "input_ids", |n| u32::try_from(n).ok(), "a token id, an integer of at least 0")?;
        let label = |n| if n == IGNORED { Some(None) } else { u32::try_from(n).ok().map(Some) };
        let mut labels = each(labels, "labels", label, "a token id, or -100 for no loss")?;
        labels[0] = None;
        if labels.iter().all(Option::is_none) {
            return Err(Error::input("found no trained token: each label after the first is -100")
                .key("labels")
                .hint("labels[i] is the target for input_ids[i]; labels[0] is ignored"));
        }
        Ok(Self { input_ids, labels })
    }
}

fn each<T>(list: &[Value], key: &str, read: impl Fn(i64) -> Option<T>, needed: &str) -> Result<Vec<T>> {
    let item = |(i, value)| {
        let key = format!("{key}[{i}]");
        let number = fields::integer(value, &key)?;
        read(number).ok_or_else(|| Error::input(format!("found {number}, needed {needed}")).key(key))
    };
    list.iter().enumerate().map(item).collect()
}
