//! `report.html` of a study.

use std::path::Path;

use serde::Deserialize;

use super::cells::{Arm, Study};
use super::summary::{Comparison, Group, Row, Summary};
use super::table::{HEAD, counts, rows, title};
use crate::base::{Error, Result, files};
use crate::report::chart::{Options, Series, line_chart};
use crate::report::dot_whisker::{Dot, Mark, dot_whisker};
use crate::report::page::{self, Section, Table};
use crate::report::{Line, OrderItem, metrics, order_strip};

/// What a report says in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Names the page.
    pub title: String,
    /// Under the title.
    pub opening: Vec<String>,
    /// What the numbers mean and what they cannot show.
    pub reading: Vec<String>,
}

impl Words {
    /// Those of any study.
    pub fn of_study(summary: &Summary) -> Self {
        let missing = match &summary.missing[..] {
            [] => None,
            missing => Some(format!("{} cells are missing: {}.", missing.len(), missing.join(", "))),
        };
        let opening = "Each order trained the same model on the same questions with the same seeds and settings; only \
                       the order differs. Accuracy is the share of test questions whose most probable option is right.";
        Self {
            title: "Study of training orders".into(),
            opening: [Some(opening.to_owned()), missing].into_iter().flatten().collect(),
            reading: reading(summary),
        }
    }
}

/// How to read the tables; true of every study.
pub(super) fn reading(summary: &Summary) -> Vec<String> {
    let several = summary.groups.len() > 1;
    let name = |group: &Group, row: &Row| match several {
        true => format!("{} ({})", row.arm, title(group)),
        false => row.arm.to_string(),
    };
    // orders with a small p: those whose interval leaves 0 out, then those whose interval holds it
    let mut found = [Vec::new(), Vec::new()];
    for (group, row) in summary.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)))
    {
        if let Some(Comparison { interval: [low, high], .. }) =
            row.versus_baseline.as_ref().filter(|c| c.p_holm <= 0.05)
        {
            found[usize::from(*low <= 0.0 && *high >= 0.0)].push(name(group, row));
        }
    }
    let (baseline, comparisons) = (&summary.baseline, summary.comparisons);
    let verdict = match (comparisons, found.each_ref().map(|names| names.join(", "))) {
        (0, _) => "Nothing is compared yet.".to_owned(),
        (_, [sure, unsure]) if sure.is_empty() && unsure.is_empty() => format!(
            "No order differs from {baseline} beyond what chance explains, all {comparisons} comparisons taken together. \
             That is no proof that the orders are equal: the last column says how large a difference would have shown."
        ),
        (_, [sure, unsure]) => {
            let sure = (!sure.is_empty()).then(|| {
                format!("Beyond what chance explains, all {comparisons} comparisons taken together, these differ from {baseline}: {sure}.")
            });
            let unsure = (!unsure.is_empty()).then(|| {
                format!("With these seeds, these differ from {baseline}, but the interval for other seeds holds 0: {unsure}.")
            });
            sure.into_iter().chain(unsure).collect::<Vec<_>>().join(" ")
        }
    };
    vec![
        verdict,
        "The first interval is about other questions of the same kind (Wilson, for one run), the second about other \
         seeds on these questions (Student's t over the seeds), that of the difference about both (paired bootstrap over \
         questions and seeds)."
            .to_owned(),
        "The option named most is told by its letter, with the share of questions for which it was named. Where that is \
         far more often than it is right, accuracy follows the places of the right options, and so may the differences \
         between orders, however sure they are."
            .to_owned(),
        "McNemar's test compares two orders question by question; with several seeds the answers to a question count \
         as one. It speaks of these seeds: where the interval of the difference holds 0 though p is small, more seeds \
         are needed. Holm's correction makes up for asking many times. A difference below the last column would have \
         been missed more than once in five."
            .to_owned(),
        "A study speaks of its models, its data and its settings, and of the rate and the number of epochs that were \
         chosen for it. Another choice may rank the orders differently."
            .to_owned(),
    ]
}

/// The page of the cells that are done.
pub fn page(study: &Study, summary: &Summary, words: &Words) -> Result<String> {
    let words_of = |heading: &str, paragraphs: &[String]| Section::Words {
        heading: heading.into(),
        paragraphs: paragraphs.to_vec(),
    };
    let mut sections = vec![words_of("", &words.opening)];
    for group in &summary.groups {
        sections.push(Section::Table(table(group, summary)));
        sections.extend(accuracies(group).map(Section::Drawing));
        sections.extend(losses(study, group)?.map(Section::Drawing));
    }
    sections.push(words_of("What this can show, and what not", &words.reading));
    for group in &summary.groups {
        let strips = orders(study, group)?;
        if !strips.is_empty() {
            sections.push(words_of(
                &format!("The orders of {}", title(group)),
                &["Which category came when and, under it, how hard the questions were: the first epoch of the first seed."
                    .to_owned()],
            ));
        }
        sections.extend(strips.into_iter().map(Section::Drawing));
    }
    Ok(page::page(&words.title, &sections))
}

fn table(group: &Group, summary: &Summary) -> Table {
    Table {
        heading: format!("{}: {}", title(group), counts(group)),
        columns: HEAD.map(String::from).to_vec(),
        rows: rows(group, &summary.baseline).into_iter().map(Vec::from).collect(),
    }
}

fn accuracies(group: &Group) -> Option<String> {
    let dot = |row: &Row| Dot {
        name: row.arm.to_string(),
        note: format!("{:.1} %", 100.0 * row.after.accuracy),
        value: 100.0 * row.after.accuracy,
        interval: row.after.interval.map(|end| 100.0 * end),
    };
    let dots: Vec<Dot> = group.rows.iter().map(dot).collect();
    let before = group.before.as_ref().map(|before| ("before training", before.accuracy));
    let chance = group.chance.map(|chance| ("guessing", chance));
    let marks: Vec<Mark> = [before, chance]
        .into_iter()
        .flatten()
        .map(|(name, share)| Mark { name: name.into(), value: 100.0 * share })
        .collect();
    dot_whisker(&dots, &marks, "Accuracy after training", "% of test questions answered right")
}

/// The loss of each order by update: the mean over seeds.
fn losses(study: &Study, group: &Group) -> Result<Option<String>> {
    let mut series = Vec::new();
    for Row { arm, .. } in &group.rows {
        let mut of_seeds: Vec<Vec<(f64, f64)>> = Vec::new();
        for folder in finished_runs(study, group, arm)? {
            let lines = metrics::read(&folder.join("metrics.jsonl"))?;
            let steps = lines.iter().filter_map(|line| {
                if let Line::Step(m) = line { Some((m.step as f64, m.loss)) } else { None }
            });
            of_seeds.push(steps.collect());
        }
        let updates = of_seeds.iter().map(Vec::len).min().unwrap_or(0);
        let mean = |i: usize| of_seeds.iter().map(|run| run[i].1).sum::<f64>() / of_seeds.len() as f64;
        let points = (0..updates).map(|i| (of_seeds[0][i].0, mean(i))).collect();
        series.push(Series { name: arm.to_string(), points });
    }
    let options = Options {
        title: "Training loss, mean over seeds".into(),
        x_label: "update".into(),
        from_zero: false,
    };
    Ok((!series.is_empty()).then(|| line_chart(&series, &options)))
}

/// The folders of an arm's finished runs, in the order of the seeds.
fn finished_runs(study: &Study, group: &Group, arm: &Arm) -> Result<Vec<std::path::PathBuf>> {
    let (model, data) = group.place;
    let mut folders = Vec::new();
    for &seed in &study.seeds {
        let cell = study.cell(model, data, Some((arm.clone(), seed)));
        if study.finished(&cell)?.is_some() {
            folders.push(study.cell_folder(&cell));
        }
    }
    Ok(folders)
}

/// A picture of each arm's order.
fn orders(study: &Study, group: &Group) -> Result<Vec<String>> {
    let mut strips = Vec::new();
    for Row { arm, .. } in &group.rows {
        let Some(folder) = finished_runs(study, group, arm)?.into_iter().next() else { continue };
        let places = first_epoch(&folder.join("order.jsonl"))?;
        let items: Vec<OrderItem<'_>> = places
            .iter()
            .map(|place| OrderItem { category: place.category.as_deref(), difficulty: place.difficulty })
            .collect();
        strips.extend(order_strip(&items, &arm.to_string()));
    }
    Ok(strips)
}

/// A line of `order.jsonl`.
#[derive(Deserialize)]
struct Place {
    id: String,
    category: Option<String>,
    difficulty: Option<f64>,
}

/// The places up to the first id that comes again: of a strategy that takes each example once, its first epoch.
fn first_epoch(path: &Path) -> Result<Vec<Place>> {
    let text = files::read_text(path)?;
    let mut seen = std::collections::HashSet::new();
    let mut places = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place: Place = serde_json::from_str(line)
            .map_err(|e| Error::input(format!("not a line of an order: {e}")).file(path).line(number))?;
        if !seen.insert(place.id.clone()) {
            break;
        }
        places.push(place);
    }
    Ok(places)
}
