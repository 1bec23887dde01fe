//! `order.jsonl` and the order hash.

use std::io::{self, Write};

use serde::Serialize;

use super::Labels;
use crate::base::hash;

/// SHA-256 of the ids of `order` joined by newlines: equal hashes mean equal training orders.
pub fn order_hash(order: &[u32], ids: &[String]) -> String {
    hash::sha256_lines(order.iter().map(|&i| ids[i as usize].as_str()))
}

#[derive(Serialize)]
struct Row<'a> {
    position: u64,
    id: &'a str,
    category: Option<&'a str>,
    difficulty: Option<f64>,
}

/// Writes one line of `order.jsonl` per entry of `order`, the first with position `first`.
///
/// Positions count from 0 over the whole run, so epoch e of n examples starts at `e * n`. A label that
/// the data lacks is null. `out` should be buffered.
pub fn write_order(
    out: &mut impl Write,
    first: u64,
    order: &[u32],
    ids: &[String],
    labels: &Labels<'_>,
) -> io::Result<()> {
    for (position, &i) in (first..).zip(order) {
        let i = i as usize;
        let row = Row {
            position,
            id: &ids[i],
            category: labels.categories.map(|c| c[i].as_str()),
            difficulty: labels.difficulties.map(|d| d[i]),
        };
        serde_json::to_writer(&mut *out, &row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_place_with_null_for_what_is_unknown() {
        let ids = ["a".to_owned(), "b\"".to_owned()];
        let labels = Labels { n: 2, categories: None, difficulties: Some(&[0.5, 2.0]) };
        let mut out = Vec::new();
        write_order(&mut out, 7, &[1, 0], &ids, &labels).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"position\":7,\"id\":\"b\\\"\",\"category\":null,\"difficulty\":2.0}\n\
             {\"position\":8,\"id\":\"a\",\"category\":null,\"difficulty\":0.5}\n"
        );
        // printf 'b"\na' | sha256sum
        assert_eq!(
            order_hash(&[1, 0], &ids),
            "df43da0ce40c2e2650ffb1d9f26ada7798004438e61fff371ac3dd990f102280"
        );
    }
}
