//! A self-contained HTML page: no script, nothing loaded from anywhere, light and dark, phone to desk.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem;color:#222;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
.drawings{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;margin-top:2rem}\
svg{display:block;width:100%;height:auto}\
.wide{overflow-x:auto}table{border-collapse:collapse}\
th,td{text-align:right;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;font-variant-numeric:tabular-nums}\
th:first-child,td:first-child{text-align:left}td{white-space:nowrap}\
pre{overflow-x:auto;padding:.8rem;background:#8881;border-radius:4px;font-size:13px}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// A piece of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Section {
    /// An SVG document, as [`line_chart`](super::chart::line_chart) and
    /// [`order_strip`](fn@super::order_strip) make them. Neighbours stand side by side where there is room.
    Drawing(String),
    /// A table.
    Table(Table),
    /// Paragraphs to read, under a heading unless that is empty.
    Words {
        /// Above the paragraphs.
        heading: String,
        /// The paragraphs.
        paragraphs: Vec<String>,
    },
    /// Text as it stands, such as a configuration.
    Text {
        /// Above the text.
        heading: String,
        /// Its lines.
        text: String,
    },
}

/// Cells of text; all columns but the first are aligned to the right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Above the table.
    pub heading: String,
    /// The names of the columns; empty: no head row.
    pub columns: Vec<String>,
    /// The rows, each a cell per column.
    pub rows: Vec<Vec<String>>,
}

/// An HTML document with `sections` in their order.
pub fn page(title: &str, sections: &[Section]) -> String {
    let both_drawings =
        |a: &Section, b: &Section| matches!((a, b), (Section::Drawing(_), Section::Drawing(_)));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @for sections in sections.chunk_by(both_drawings) {
                    @match &sections[0] {
                        Section::Drawing(_) => div class="drawings" {
                            @for section in sections {
                                @if let Section::Drawing(svg) = section { div { (PreEscaped(svg)) } }
                            }
                        },
                        Section::Table(table) => (render_table(table)),
                        Section::Words { heading, paragraphs } => {
                            @if !heading.is_empty() { h2 { (heading) } }
                            @for paragraph in paragraphs { p { (paragraph) } }
                        },
                        Section::Text { heading, text } => { h2 { (heading) } pre { (text) } },
                    }
                }
            }
        }
    }
    .into_string()
}

fn render_table(table: &Table) -> Markup {
    html! {
        h2 { (table.heading) }
        div class="wide" {
            table {
                @if !table.columns.is_empty() {
                    thead { tr { @for column in &table.columns { th { (column) } } } }
                }
                tbody {
                    @for row in &table.rows { tr { @for cell in row { td { (cell) } } } }
                }
            }
        }
    }
}
