//! A study's table: in the terminal, and as CSV.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::summary::{Comparison, Group, Measured, Row, Summary};

/// The columns of `study.csv`; shares are in 0..=1, what is unknown is empty.
const COLUMNS: [&str; 22] = [
    "model",
    "data",
    "strategy",
    "difficulty",
    "seeds",
    "n",
    "accuracy",
    "low",
    "high",
    "seeds_low",
    "seeds_high",
    "nll",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "test",
    "p_holm",
    "detectable",
    "chance",
    "most_named",
    "most_named_share",
];

/// The head of the tables for people.
pub(super) const HEAD: [&str; 8] = [
    "order",
    "accuracy %",
    "other seeds",
    "most named",
    "difference, points",
    "p (McNemar)",
    "p (Holm)",
    "would have shown",
];

/// The name of a group: its model and its data set.
pub(super) fn title(group: &Group) -> String {
    format!("{} on {}", group.model, group.data)
}

/// The rows of the tables for people; before training first.
pub(super) fn rows(group: &Group, baseline: &str) -> Vec<[String; 8]> {
    let empty = || ["", "", "", ""].map(String::from);
    let mut rows = Vec::new();
    if let Some(before) = &group.before {
        let [difference, p, holm, detectable] = empty();
        let name = "before training".into();
        rows.push([name, accuracy(before), "".into(), named(before), difference, p, holm, detectable]);
    }
    for row in &group.rows {
        let [difference, p, holm, detectable] = row.versus_baseline.as_ref().map_or_else(empty, compared);
        let name = match row.strategy == baseline {
            true => format!("{} (baseline)", row.strategy),
            false => row.arm.to_string(),
        };
        let after = &row.after;
        rows.push([name, accuracy(after), seeds(after), named(after), difference, p, holm, detectable]);
    }
    rows
}

fn accuracy(Measured { accuracy, interval: [low, high], .. }: &Measured) -> String {
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * accuracy, 100.0 * low, 100.0 * high)
}

fn seeds(measured: &Measured) -> String {
    measured
        .seeds_interval
        .map_or_else(|| "-".into(), |[low, high]| format!("[{:.1}, {:.1}]", 100.0 * low, 100.0 * high))
}

fn named(measured: &Measured) -> String {
    format!("{} {:.0} %", measured.most_named, 100.0 * measured.most_named_share)
}

fn compared(comparison: &Comparison) -> [String; 4] {
    let Comparison { difference, interval: [low, high], mcnemar, p_holm, detectable } = comparison;
    [
        format!("{:+.1} [{:+.1}, {:+.1}]", 100.0 * difference, 100.0 * low, 100.0 * high),
        probability(mcnemar.p),
        probability(*p_holm),
        detectable.map_or_else(|| "none".into(), |d| format!("{:.1}", 100.0 * d)),
    ]
}

fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

/// Writes a table for each model and data set, and what is missing.
pub fn print(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    for group in &summary.groups {
        let rows = rows(group, &summary.baseline);
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEAD[column].len()]).max().unwrap_or(0)
        };
        let widths: [usize; 8] = std::array::from_fn(width);
        let line = |cells: &[&str]| {
            let mut line = String::new();
            for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
                // writing to a String cannot fail
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            line
        };
        writeln!(out, "{}: {}", title(group), counts(group))?;
        writeln!(out, "{}", line(&HEAD))?;
        for row in &rows {
            writeln!(out, "{}", line(&row.each_ref().map(String::as_str)).trim_end())?;
        }
        writeln!(out)?;
    }
    if !summary.missing.is_empty() {
        writeln!(out, "{} cells are missing: {}", summary.missing.len(), summary.missing.join(", "))?;
    }
    Ok(())
}

/// Questions, seeds and chance, in words.
pub(super) fn counts(group: &Group) -> String {
    let measured = || group.before.iter().chain(group.rows.iter().map(|row| &row.after));
    let Some(n) = measured().map(|m| m.n).next() else { return "nothing is done yet".into() };
    let seeds = group.rows.iter().map(|row| row.after.seeds).max().unwrap_or(0);
    let chance = 100.0 * group.chance.unwrap_or(0.0);
    format!("{n} questions, {seeds} seeds, {chance:.1} % by guessing; intervals 95 %")
}

/// `study.csv`.
pub fn csv(summary: &Summary) -> String {
    let mut csv = COLUMNS.join(",") + "\n";
    for group in &summary.groups {
        if let Some(before) = &group.before {
            csv += &line(group, "before", None, before, None);
        }
        for Row { strategy, difficulty, after, versus_baseline, .. } in &group.rows {
            csv += &line(group, strategy, difficulty.as_deref(), after, versus_baseline.as_ref());
        }
    }
    csv
}

fn line(
    group: &Group,
    strategy: &str,
    difficulty: Option<&str>,
    measured: &Measured,
    comparison: Option<&Comparison>,
) -> String {
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let test = comparison
        .map(|c| serde_json::json!(c.mcnemar.test).as_str().unwrap_or_default().to_owned())
        .unwrap_or_default();
    let cells = [
        quoted(&group.model),
        quoted(&group.data),
        strategy.to_owned(),
        quoted(difficulty.unwrap_or_default()),
        measured.seeds.to_string(),
        measured.n.to_string(),
        number(Some(measured.accuracy)),
        number(Some(measured.interval[0])),
        number(Some(measured.interval[1])),
        number(measured.seeds_interval.map(|i| i[0])),
        number(measured.seeds_interval.map(|i| i[1])),
        number(Some(measured.nll)),
        number(comparison.map(|c| c.difference)),
        number(comparison.map(|c| c.interval[0])),
        number(comparison.map(|c| c.interval[1])),
        number(comparison.map(|c| c.mcnemar.p)),
        test,
        number(comparison.map(|c| c.p_holm)),
        number(comparison.and_then(|c| c.detectable)),
        number(group.chance),
        measured.most_named.to_string(),
        number(Some(measured.most_named_share)),
    ];
    cells.join(",") + "\n"
}

/// A CSV cell; quoted where it must be (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_must_be() {
        assert_eq!(quoted("a b"), "a b");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
