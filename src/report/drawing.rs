//! What every drawing of a report shares: its frame, its colours, the rows of its legend.
//!
//! A drawing is small (420 units wide) and scales with the page, so its text stays readable on a phone.
//! It is a whole SVG document: it can stand in a page or in a file of its own.

use maud::{Markup, PreEscaped, html};

/// Width of every drawing, in SVG units.
pub(super) const WIDTH: f64 = 420.0;
/// Where plots begin.
pub(super) const LEFT: f64 = 52.0;
/// Margin on the right of plots.
pub(super) const RIGHT: f64 = 12.0;
/// Where plots begin, under the title.
pub(super) const TOP: f64 = 26.0;
const LEGEND_ROW: f64 = 16.0;
/// Width of a character of the legend, in SVG units; a guess on the wide side of the mean.
const CHARACTER: f64 = 6.2;

/// The style of every drawing of this folder. Colours after Okabe and Ito, told apart by most readers
/// with a colour deficiency; darker on light ground, lighter on dark.
const STYLE: &str = "\
.drawing{font:11px system-ui,sans-serif;fill:#333}\
.drawing .title{font-size:13px;font-weight:600}\
.drawing .halo{paint-order:stroke;stroke:Canvas;stroke-width:3px;stroke-linejoin:round}\
.drawing .grid{stroke:#8884;stroke-width:.6}\
.drawing .line{fill:none;stroke-width:1.5;stroke-linejoin:round}\
.drawing .s0{stroke:#0067a5;color:#0067a5}.drawing .s1{stroke:#c44e00;color:#c44e00}\
.drawing .s2{stroke:#007a5a;color:#007a5a}.drawing .s3{stroke:#a8458a;color:#a8458a}\
.drawing .s4{stroke:#8a6d00;color:#8a6d00}.drawing .s5{stroke:#3b8fc2;color:#3b8fc2}\
.drawing .s6{stroke:#555;color:#555}\
.drawing .dot{fill:currentColor;stroke:none}\
@media(prefers-color-scheme:dark){.drawing{fill:#ddd}\
.drawing .s0{stroke:#5ab4f0;color:#5ab4f0}.drawing .s1{stroke:#ff9255;color:#ff9255}\
.drawing .s2{stroke:#35c79c;color:#35c79c}.drawing .s3{stroke:#e08cc4;color:#e08cc4}\
.drawing .s4{stroke:#e3c443;color:#e3c443}.drawing .s5{stroke:#9ad2f5;color:#9ad2f5}\
.drawing .s6{stroke:#bbb;color:#bbb}}";

/// The frame of a drawing: an SVG document that scales to the width it is given.
pub(super) fn drawing(height: f64, title: &str, body: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="drawing" role="img" aria-label=(title)
            viewBox=(format!("0 0 {WIDTH} {height}")) {
            style { (PreEscaped(STYLE)) }
            text class="title" x=(LEFT) y="16" { (title) }
            (body)
        }
    }
}

/// Places of legend entries: from left to right, then the next row.
pub(super) struct Flow {
    x: f64,
    y: f64,
}

impl Flow {
    /// Starts under `top`.
    pub(super) fn under(top: f64) -> Self {
        Self { x: LEFT, y: top + 10.0 }
    }

    /// Where an entry of a swatch and a name starts.
    pub(super) fn place(&mut self, swatch: f64, name: &str) -> (f64, f64) {
        let width = swatch + name.chars().count() as f64 * CHARACTER + 12.0;
        if self.x > LEFT && self.x + width > WIDTH {
            (self.x, self.y) = (LEFT, self.y + LEGEND_ROW);
        }
        let place = (self.x.round(), self.y);
        self.x += width;
        place
    }

    /// Where the row after the last entry would begin.
    pub(super) fn end(&self) -> f64 {
        self.y + 6.0
    }
}
