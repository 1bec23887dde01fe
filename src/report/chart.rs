//! Line charts as SVG: no script, nothing from outside, light and dark by the reader's preference.
//!
//! A line is told from another by colour and by dashes.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::axis::Axis;
use super::drawing::{Flow, LEFT, RIGHT, TOP, WIDTH, drawing};

const BOTTOM: f64 = TOP + 190.0;
/// Room for tick labels and the axis label.
const AXIS_HEIGHT: f64 = 34.0;
const SWATCH: f64 = 24.0;
/// Number of line colours in the drawings' style.
const COLOURS: usize = 7;
const DASHES: [&str; 4] = ["none", "6 3", "2 2", "8 3 2 3"];

/// A named line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// (x, y) by rising x. A number that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// What stands around the lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Above the plot.
    pub title: String,
    /// Under the horizontal axis.
    pub x_label: String,
    /// Whether the vertical axis starts at 0 whatever the values.
    pub from_zero: bool,
}

/// An SVG document with a line per series and, for more than one, a legend.
///
/// Where points are closer than the drawing can show, the lowest and the highest of each place are drawn.
pub fn line_chart(series: &[Series], options: &Options) -> String {
    let mut body = match Scale::of(series, options.from_zero) {
        Some(scale) => plot(series, &scale),
        None => html! { text x=(WIDTH / 2.0) y=(BOTTOM / 2.0) text-anchor="middle" { "no data" } },
    };
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let x_label = html! { text x=(middle) y=(BOTTOM + 29.0) text-anchor="middle" { (options.x_label) } };
    body.0.push_str(&x_label.0);
    let mut height = BOTTOM + AXIS_HEIGHT;
    if series.len() > 1 {
        let mut flow = Flow::under(height);
        body.0.push_str(&legend(series, &mut flow).0);
        height = flow.end();
    }
    drawing(height, &options.title, &body).into_string()
}

struct Scale {
    x: Axis,
    y: Axis,
}

impl Scale {
    /// None where there is no finite point.
    fn of(series: &[Series], from_zero: bool) -> Option<Self> {
        let finite = || series.iter().flat_map(|s| &s.points).filter(|p| is_finite(p));
        let zero = from_zero.then_some(0.0);
        let x = Axis::tight(finite().map(|p| p.0), LEFT..=WIDTH - RIGHT)?;
        let y = Axis::rounded(finite().map(|p| p.1).chain(zero), BOTTOM..=TOP)?;
        Some(Self { x, y })
    }
}

fn is_finite((x, y): &(f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

fn plot(series: &[Series], scale: &Scale) -> Markup {
    html! {
        @for (y, label) in scale.y.ticks() {
            line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
            text x=(LEFT - 5.0) y=(y + 4.0) text-anchor="end" { (label) }
        }
        @for (x, label) in scale.x.ticks() {
            line class="grid" x1=(x) x2=(x) y1=(TOP) y2=(BOTTOM) {}
            text x=(x) y=(BOTTOM + 14.0) text-anchor="middle" { (label) }
        }
        @for (i, s) in series.iter().enumerate() {
            @for run in s.points.split(|p| !is_finite(p)).filter(|run| !run.is_empty()) {
                @match thin(run, scale)[..] {
                    [(x, y)] => circle class=(format!("dot {}", colour(i))) cx=(x) cy=(y) r="2.2" {},
                    ref run => path class=(format!("line {}", colour(i))) stroke-dasharray=(dashes(i)) d=(path(run)) {},
                }
            }
        }
    }
}

fn colour(series: usize) -> String {
    format!("s{}", series % COLOURS)
}

fn dashes(series: usize) -> &'static str {
    DASHES[series % DASHES.len()]
}

/// The points in SVG units; of those within one unit of width, the lowest and the highest.
fn thin(run: &[(f64, f64)], scale: &Scale) -> Vec<(f64, f64)> {
    let placed: Vec<_> = run.iter().map(|&(x, y)| (scale.x.place(x), scale.y.place(y))).collect();
    let mut thinned = Vec::new();
    for unit in placed.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let by_height = |&a: &usize, &b: &usize| unit[a].1.total_cmp(&unit[b].1);
        let lowest = (0..unit.len()).max_by(by_height);
        let highest = (0..unit.len()).min_by(by_height);
        thinned.extend(lowest.min(highest).map(|i| unit[i]));
        thinned.extend(lowest.max(highest).filter(|_| lowest != highest).map(|i| unit[i]));
    }
    thinned
}

fn path(run: &[(f64, f64)]) -> String {
    run.iter().enumerate().fold(String::new(), |mut d, (i, (x, y))| {
        let _ = write!(d, "{}{x} {y}", if i == 0 { 'M' } else { 'L' }); // writing to a String cannot fail
        d
    })
}

fn legend(series: &[Series], flow: &mut Flow) -> Markup {
    let mut entries = PreEscaped(String::new());
    for (i, s) in series.iter().enumerate() {
        let (x, y) = flow.place(SWATCH, &s.name);
        let line = format!("M{x} {}h{}", y - 4.0, SWATCH - 4.0);
        let entry = html! {
            path class=(format!("line {}", colour(i))) stroke-dasharray=(dashes(i)) d=(line) {}
            text x=(x + SWATCH) y=(y) { (s.name) }
        };
        entries.0.push_str(&entry.0);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec() }
    }

    /// The `d` of each line, legend excluded.
    fn lines(svg: &str) -> Vec<&str> {
        svg.split(" d=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|d| !d.contains('h'))
            .collect()
    }

    #[test]
    fn a_line_runs_from_corner_to_corner() {
        let svg = line_chart(&[series("loss", &[(1.0, 3.0), (2.0, 1.0), (3.0, 2.0)])], &Options::default());
        assert_eq!(lines(&svg), ["M52 26L230 216L408 121"]);
        assert!(!svg.contains("loss"), "one line needs no legend");
    }

    #[test]
    fn what_is_not_finite_is_a_gap_and_a_lone_point_a_dot() {
        let points = [(1.0, 0.0), (2.0, 1.0), (3.0, f64::NAN), (4.0, 0.5), (5.0, f64::INFINITY)];
        let svg = line_chart(&[series("a", &points)], &Options::default());
        assert_eq!(lines(&svg).len(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(line_chart(&[], &Options::default()).contains("no data"));
        assert!(line_chart(&[series("a", &[(f64::NAN, 1.0)])], &Options::default()).contains("no data"));
    }

    #[test]
    fn many_points_keep_their_extremes_and_stay_small() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 10) / 10.0)).collect();
        points[55_555].1 = 2.0;
        let svg = line_chart(&[series("a", &points)], &Options::default());
        assert!(svg.len() < 20_000, "{} bytes", svg.len());
        assert!(lines(&svg)[0].split(['M', 'L']).any(|p| p.ends_with(" 26")), "the spike touches the top");
    }

    #[test]
    fn names_are_escaped_and_the_legend_makes_room() {
        let many: Vec<_> =
            (0..9).map(|i| series(&format!("<order {i}>"), &[(0.0, 1.0), (1.0, 2.0)])).collect();
        let svg = line_chart(&many, &Options { title: "a & b".into(), ..Options::default() });
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;order 8&gt;") && !svg.contains("<order"));
        assert!(svg.contains("viewBox=\"0 0 420 2"), "{}", &svg[..200]);
        let texts_below = |svg: &str| svg.contains(" y=\"292\"");
        assert!(texts_below(&svg), "nine names do not fit one row");
    }
}
