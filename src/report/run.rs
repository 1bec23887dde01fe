//! `report.html` of one training run.

use serde::{Deserialize, Serialize};

use super::chart::{Options, Series, line_chart};
use super::metrics::{EvalMetrics, Line, StepMetrics};
use super::order_strip::{OrderItem, order_strip};
use super::page::{Section, Table, page};

/// What a report shows of a run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Names the page.
    pub title: &'a str,
    /// The resolved configuration, as TOML.
    pub config: &'a str,
    /// The lines of `metrics.jsonl`.
    pub lines: &'a [Line],
    /// The examples of the first epoch in training order.
    pub order: &'a [OrderItem<'a>],
    /// Sums over all updates, logged or not.
    pub totals: Totals,
    /// More rows for the table of totals, such as the order hash: name and value.
    pub facts: &'a [(&'a str, String)],
}

/// Sums over a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Examples trained on, repeats included.
    pub examples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their tokens that carry loss.
    pub trained_tokens: u64,
    /// Wall time of training.
    pub seconds: f64,
}

/// The HTML of a run's report.
pub fn report(run: &Run<'_>) -> String {
    let mut sections = vec![Section::Table(totals(run))];
    sections.extend(charts(run.lines).into_iter().map(Section::Drawing));
    sections.extend(order_strip(run.order, "Order of the first epoch").map(Section::Drawing));
    sections.push(Section::Text { heading: "Configuration".into(), text: run.config.into() });
    page(run.title, &sections)
}

fn totals(run: &Run<'_>) -> Table {
    let Totals { examples, tokens, trained_tokens, seconds } = run.totals;
    let mut rows = vec![
        ("examples", grouped(examples)),
        ("tokens", grouped(tokens)),
        ("trained tokens", grouped(trained_tokens)),
        ("seconds", format!("{seconds:.1}")),
    ];
    if seconds > 0.0 {
        rows.push(("tokens per second", grouped((tokens as f64 / seconds).round() as u64)));
    }
    rows.extend(run.facts.iter().cloned());
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    Table { heading: "Totals".into(), columns: Vec::new(), rows }
}

/// One chart per measure that the run has.
fn charts(lines: &[Line]) -> Vec<String> {
    type OfStep = fn(&StepMetrics) -> f64;
    type OfEval = fn(&EvalMetrics) -> Option<f64>;
    let by_step: [(&str, OfStep, bool); 4] = [
        ("Loss", |m| m.loss, false),
        ("Learning rate", |m| m.learning_rate, true),
        ("Gradient norm", |m| m.grad_norm, true),
        ("Tokens per second", |m| m.tokens_per_s, true),
    ];
    let by_eval: [(&str, OfEval); 2] =
        [("Evaluation accuracy", |m| m.eval_accuracy), ("Evaluation loss", |m| Some(m.eval_loss))];

    let steps = || lines.iter().filter_map(|l| if let Line::Step(m) = l { Some(m) } else { None });
    let evals = || lines.iter().filter_map(|l| if let Line::Eval(m) = l { Some(m) } else { None });
    let of_steps = by_step.map(|(title, value, from_zero)| {
        (title, steps().map(|m| (m.step as f64, value(m))).collect::<Vec<_>>(), from_zero)
    });
    let of_evals = by_eval.map(|(title, value)| {
        (title, evals().filter_map(|m| Some((m.step as f64, value(m)?))).collect::<Vec<_>>(), false)
    });
    of_steps
        .into_iter()
        .chain(of_evals)
        .filter(|(_, points, _)| !points.is_empty())
        .map(|(title, points, from_zero)| {
            let options = Options { title: title.into(), x_label: "update".into(), from_zero };
            line_chart(&[Series { name: title.into(), points }], &options)
        })
        .collect()
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group));
    let head = (head > 0).then(|| digits[..head].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_what_the_run_has_and_loads_nothing() {
        let lines = [1, 2].map(|step| Line::Eval(EvalMetrics { step, eval_accuracy: None, eval_loss: 1.5 }));
        let html = report(&Run {
            title: "a <run>",
            config: "[model]\npath = \"<m>\"",
            lines: &lines,
            order: &[OrderItem { category: Some("x&y"), difficulty: None }],
            totals: Totals { examples: 874, tokens: 1_234_567, trained_tokens: 874, seconds: 10.0 },
            facts: &[("order hash", "abc".into())],
        });
        for part in
            ["a &lt;run&gt;", "&lt;m&gt;", "x&amp;y", "1,234,567", "123,457", "order hash", "Evaluation loss"]
        {
            assert!(html.contains(part), "{part}");
        }
        for absent in ["Evaluation accuracy", "Learning rate", "<script", "src=", "href=", "@import", "url("]
        {
            assert!(!html.contains(absent), "{absent}");
        }
        assert_eq!(html.matches("<svg").count(), 2);
    }

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(
            [0, 12, 123, 1_234, 123_456, 1_234_567].map(grouped),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
    }
}
