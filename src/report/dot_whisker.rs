//! Dots with whiskers: a share and its interval, a row each, against lines for what they are compared with.

use maud::{Markup, html};

use super::axis::Axis;
use super::drawing::{RIGHT, TOP, WIDTH, drawing};

/// Where rows begin on the left: their names stand above their whiskers, so no room is kept beside.
const START: f64 = 16.0;
const ROW: f64 = 30.0;
/// From a row's top to its name's baseline and to its whisker.
const NAME: f64 = 12.0;
const WHISKER: f64 = 21.0;
/// Half the height of a whisker's ends.
const CAP: f64 = 4.0;
/// Room for tick labels and the axis label.
const AXIS_HEIGHT: f64 = 36.0;
/// Room for the names of the lines, one under the other.
const LINE_NAME: f64 = 14.0;

/// A row: a name, a value, its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Above the whisker, on the left.
    pub name: String,
    /// Above the whisker, on the right.
    pub note: String,
    /// Where the dot is.
    pub value: f64,
    /// Where the whisker ends.
    pub interval: [f64; 2],
}

/// A vertical line through all rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub value: f64,
}

/// An SVG document with a dot and a whisker for each of `dots`; None without one.
pub fn dot_whisker(dots: &[Dot], marks: &[Mark], title: &str, x_label: &str) -> Option<String> {
    let values = dots.iter().flat_map(|dot| [dot.value, dot.interval[0], dot.interval[1]]);
    let values = values.chain(marks.iter().map(|mark| mark.value)).filter(|v| v.is_finite());
    let x = Axis::rounded(values, START..=WIDTH - RIGHT)?;
    let top = TOP + marks.len() as f64 * LINE_NAME;
    let bottom = top + dots.len() as f64 * ROW + 4.0;
    let body = html! {
        @for (place, label) in x.ticks() {
            line class="grid" x1=(place) x2=(place) y1=(top) y2=(bottom) {}
            text x=(place) y=(bottom + 14.0) text-anchor="middle" { (label) }
        }
        text x=((START + WIDTH - RIGHT) / 2.0) y=(bottom + 29.0) text-anchor="middle" { (x_label) }
        @for (i, mark) in marks.iter().enumerate() { (line(mark, i, &x, bottom)) }
        @for (i, dot) in dots.iter().enumerate() { (row(dot, top + i as f64 * ROW, &x)) }
    };
    Some(drawing(bottom + AXIS_HEIGHT, title, &body).into_string())
}

fn line(mark: &Mark, number: usize, x: &Axis, bottom: f64) -> Markup {
    let (place, name) = (x.place(mark.value), TOP + 10.0 + number as f64 * LINE_NAME);
    // the name stands on the side that has more room
    let (shift, anchor) = if place > WIDTH / 2.0 { (-4.0, "end") } else { (4.0, "start") };
    let dashes = ["4 3", "1.5 2.5"][number % 2];
    html! {
        path class="line s6" stroke-dasharray=(dashes) d=(format!("M{place} {}V{bottom}", name - 8.0)) {}
        text class="halo" x=(place + shift) y=(name) text-anchor=(anchor) { (mark.name) }
    }
}

fn row(dot: &Dot, top: f64, x: &Axis) -> Markup {
    let [low, high] = dot.interval.map(|end| x.place(end));
    let y = top + WHISKER;
    let ends = format!("M{low} {}v{}M{low} {y}H{high}M{high} {}v{}", y - CAP, 2.0 * CAP, y - CAP, 2.0 * CAP);
    html! {
        text class="halo" x=(START) y=(top + NAME) { (dot.name) }
        text class="halo" x=(WIDTH - RIGHT) y=(top + NAME) text-anchor="end" { (dot.note) }
        path class="line s0" d=(ends) {}
        circle class="dot s0" cx=(x.place(dot.value)) cy=(y) r="3.5" {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_where_their_values_are() {
        let dot =
            |value: f64| Dot { name: "<a>".into(), note: "n".into(), value, interval: [value - 0.1, 1.0] };
        let mark = Mark { name: "guessing".into(), value: 0.0 };
        let svg = dot_whisker(&[dot(0.5), dot(0.25)], &[mark], "t", "accuracy").unwrap();
        // the axis runs from 0 to 1 over 16..=408
        for part in ["cx=\"212\"", "cx=\"114\"", "&lt;a&gt;", "H408", "guessing"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(dot_whisker(&[], &[], "t", ""), None);
    }
}
