//! Known keys, and the nearest known key to an unknown one.

use toml::Value;

/// Tables whose keys are the user's own.
const FREE: [&str; 3] = ["adapter.rank_pattern", "adapter.alpha_pattern", "sampler.weights"];

/// What the schema says of a dotted key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known<'a> {
    /// A table of settings.
    Table,
    /// A setting with this default.
    Value(&'a Value),
    /// An entry of a table whose keys are the user's own.
    Free,
    /// Not there.
    No,
}

/// Looks a dotted key up in the default settings.
pub(super) fn find<'a>(schema: &'a Value, key: &str) -> Known<'a> {
    if FREE.iter().any(|free| key.strip_prefix(free).is_some_and(|rest| rest.starts_with('.'))) {
        return Known::Free;
    }
    let found = key.split('.').try_fold(schema, |table, part| table.get(part));
    match found {
        None => Known::No,
        Some(Value::Table(_)) if !FREE.contains(&key) => Known::Table,
        Some(value) => Known::Value(value),
    }
}

/// All dotted keys of the schema, tables included.
fn all(schema: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    for (table, value) in schema.as_table().into_iter().flatten() {
        keys.push(table.clone());
        keys.extend(value.as_table().into_iter().flatten().map(|(key, _)| format!("{table}.{key}")));
    }
    keys
}

/// The known key with the fewest edits to `key`; its last part decides first, so that a setting in the
/// wrong table is found, too.
pub(super) fn nearest(schema: &Value, key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &String| (edits(&last(known), &last(key)), edits(known, key));
    all(schema).into_iter().min_by_key(distance).unwrap_or_default()
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        let schema = Value::try_from(crate::config::Config::default()).unwrap();
        for (wrong, meant) in [
            ("train.batchsize", "train.batch_size"),
            ("train.lr_scheduler", "train.lr_scheduler_type"),
            ("trian.epochs", "train.epochs"),
            ("train.lora_alpha", "adapter.lora_alpha"),
            ("sampler.stratgy", "sampler.strategy"),
        ] {
            assert_eq!(nearest(&schema, wrong), meant);
        }
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
