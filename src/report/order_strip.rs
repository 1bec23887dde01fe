//! The picture of an order: which category came when, and how hard the items were.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::axis::Axis;
use super::drawing::{Flow, LEFT, RIGHT, TOP, WIDTH, drawing};

const STRIP_BOTTOM: f64 = TOP + 36.0;
const CURVE_TOP: f64 = STRIP_BOTTOM + 14.0;
const CURVE_BOTTOM: f64 = CURVE_TOP + 90.0;
/// Room for tick labels and the axis label.
const AXIS_HEIGHT: f64 = 38.0;
/// Most columns of the strip; of more items, each column shows one of those it stands for.
const COLUMNS: usize = 700;
/// Most points of the curve; each is the mean of the items that it stands for.
const POINTS: usize = 120;
/// Most names in the legend.
const NAMES: usize = 24;
const SWATCH: f64 = 13.0;
/// Successive multiples of this angle stay far apart on the colour circle, however many there are.
const GOLDEN_ANGLE: f64 = 137.508;
/// The fraction whose multiples spread most evenly over [0, 1).
const GOLDEN_FRACTION: f64 = 0.618_034;

/// An example as the picture of the order shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrderItem<'a> {
    /// Its category, if it has one.
    pub category: Option<&'a str>,
    /// Its difficulty, if it has one.
    pub difficulty: Option<f64>,
}

/// An SVG document with a strip of category colours along the training order and, under it, the
/// difficulty; None where no item has either.
pub fn order_strip(items: &[OrderItem<'_>], title: &str) -> Option<String> {
    let categories = strip(items);
    let difficulties = curve(items);
    if categories.is_empty() && difficulties.is_none() {
        return None;
    }
    let bottom = if difficulties.is_some() { CURVE_BOTTOM } else { STRIP_BOTTOM };
    let positions = Axis::tight([0.0, items.len() as f64].into_iter(), LEFT..=WIDTH - RIGHT)?;
    let mut flow = Flow::under(bottom + AXIS_HEIGHT);
    let body = html! {
        @for (i, (name, d)) in categories.iter().enumerate() {
            path fill=(colour(i)) d=(d) { title { (name) } }
        }
        @if let Some(curve) = difficulties { (curve) }
        @for (x, label) in positions.ticks() {
            text x=(x) y=(bottom + 14.0) text-anchor="middle" { (label) }
        }
        text x=((LEFT + WIDTH - RIGHT) / 2.0) y=(bottom + 29.0) text-anchor="middle" { "place in the order" }
        (legend(categories.keys(), &mut flow))
    };
    Some(drawing(flow.end(), title, &body).into_string())
}

fn colour(category: usize) -> String {
    format!("hsl({:.0} 60% 50%)", category as f64 * GOLDEN_ANGLE % 360.0)
}

/// The outline of each category's columns; neighbours of one category are one rectangle.
fn strip<'a>(items: &[OrderItem<'a>]) -> BTreeMap<&'a str, String> {
    let columns = items.len().min(COLUMNS);
    let shown: Vec<_> =
        (0..columns).map(|column| items[sample(column, columns, items.len())].category).collect();
    let width = (WIDTH - RIGHT - LEFT) / columns.max(1) as f64;
    let height = STRIP_BOTTOM - TOP;
    let mut outlines: BTreeMap<_, String> =
        items.iter().filter_map(|item| Some((item.category?, String::new()))).collect();
    let mut column = 0;
    for run in shown.chunk_by(|a, b| a == b) {
        if let Some(category) = run[0] {
            let (x, run_width) = (LEFT + column as f64 * width, run.len() as f64 * width);
            let outline = outlines.entry(category).or_default();
            // writing to a String cannot fail
            let _ = write!(outline, "M{x:.2} {TOP}h{run_width:.2}v{height}h-{run_width:.2}z");
        }
        column += run.len();
    }
    outlines
}

/// The item that a column shows. Its place among the column's items differs from column to column, or an
/// order with a period would show only some of its categories.
fn sample(column: usize, columns: usize, items: usize) -> usize {
    let [start, end] = [column, column + 1].map(|c| c * items / columns);
    start + (column as f64 * GOLDEN_FRACTION % 1.0 * (end - start) as f64) as usize
}

/// The mean difficulty along the order; None without a difficulty.
fn curve(items: &[OrderItem<'_>]) -> Option<Markup> {
    let width = items.len().div_ceil(POINTS).max(1);
    let mean = |(chunk, items): (usize, &[OrderItem<'_>])| {
        let known: Vec<f64> = items.iter().filter_map(|i| i.difficulty).collect();
        let middle = (chunk * width) as f64 + items.len() as f64 / 2.0;
        (!known.is_empty()).then(|| (middle, known.iter().sum::<f64>() / known.len() as f64))
    };
    let points: Vec<_> = items.chunks(width).enumerate().filter_map(mean).collect();
    let y = Axis::rounded(points.iter().map(|p| p.1), CURVE_BOTTOM..=CURVE_TOP)?;
    let x = Axis::tight([0.0, items.len() as f64].into_iter(), LEFT..=WIDTH - RIGHT)?;
    let places: Vec<_> = points.iter().map(|p| format!("{} {}", x.place(p.0), y.place(p.1))).collect();
    Some(html! {
        @for (y, label) in y.ticks() {
            line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
            text x=(LEFT - 5.0) y=(y + 4.0) text-anchor="end" { (label) }
        }
        path class="line s0" d=(format!("M{}", places.join("L"))) { title { "mean difficulty" } }
    })
}

fn legend<'a>(names: impl ExactSizeIterator<Item = &'a &'a str>, flow: &mut Flow) -> Markup {
    let more = names.len().saturating_sub(NAMES);
    let mut entries = PreEscaped(String::new());
    for (i, name) in names.take(NAMES).enumerate() {
        let (x, y) = flow.place(SWATCH, name);
        let entry = html! {
            rect x=(x) y=(y - 8.0) width="9" height="9" fill=(colour(i)) {}
            text x=(x + SWATCH) y=(y) { (name) }
        };
        entries.0.push_str(&entry.0);
    }
    if more > 0 {
        let note = format!("and {more} more");
        let (x, y) = flow.place(0.0, &note);
        entries.0.push_str(&html! { text x=(x) y=(y) { (note) } }.0);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(category: &'static str, difficulty: f64) -> OrderItem<'static> {
        OrderItem { category: Some(category), difficulty: Some(difficulty) }
    }

    #[test]
    fn neighbours_of_one_category_are_one_rectangle() {
        let items = [item("a", 0.0), item("a", 1.0), item("b", 1.0), item("a", 0.0)];
        let strip = strip(&items);
        assert_eq!(strip["a"], "M52.00 26h178.00v36h-178.00zM319.00 26h89.00v36h-89.00z");
        assert_eq!(strip["b"], "M230.00 26h89.00v36h-89.00z");
    }

    #[test]
    fn the_curve_is_the_mean_along_the_order() {
        let rising: Vec<_> = (0..240).map(|i| item("a", f64::from(i))).collect();
        let svg = order_strip(&rising, "order").unwrap();
        // 120 points, each the mean of two neighbours: 0.5 at place 1 of 240, on an axis from 0 to 250
        let y = CURVE_BOTTOM - 0.5 / 250.0 * (CURVE_BOTTOM - CURVE_TOP);
        assert!(svg.contains(&format!("d=\"M{:.1} {y:.1}L", LEFT + (WIDTH - RIGHT - LEFT) / 240.0)), "{svg}");
        assert_eq!(svg.matches('L').count(), 119);
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let none = OrderItem { category: None, difficulty: None };
        assert_eq!(order_strip(&[none; 3], "t"), None);
        assert_eq!(order_strip(&[], "t"), None);
        let only_category = OrderItem { category: Some("a"), ..none };
        assert!(!order_strip(&[only_category; 3], "t").unwrap().contains("mean difficulty"));
        let only_difficulty = OrderItem { difficulty: Some(1.0), ..none };
        assert!(!order_strip(&[only_difficulty; 3], "t").unwrap().contains("<rect"));
    }

    #[test]
    fn a_million_items_make_a_small_picture() {
        let names: Vec<String> = (0..60).map(|i| format!("c{i}")).collect();
        let items: Vec<_> = (0..1_000_000usize)
            .map(|i| OrderItem { category: Some(&names[i * 7 % 60]), difficulty: Some((i % 13) as f64) })
            .collect();
        let svg = order_strip(&items, "order").unwrap();
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
        assert!(svg.contains("and 36 more"));
    }
}
