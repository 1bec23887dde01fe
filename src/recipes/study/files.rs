//! What a study leaves in its folder beside the cells.

use super::cells::Study;
use super::report::{Words, page};
use super::summary::Summary;
use super::table::csv;
use crate::base::{Result, files};

/// Writes `study.csv`, `summary.json` and `report.html`; the same cells give the same bytes.
pub fn write(study: &Study, summary: &Summary) -> Result<()> {
    let folder = study.folder();
    files::create_folder(folder)?;
    files::write_atomic(&folder.join("study.csv"), csv(summary).as_bytes())?;
    let json = serde_json::to_string_pretty(summary).expect("texts and numbers can be written as JSON");
    files::write_atomic(&folder.join("summary.json"), format!("{json}\n").as_bytes())?;
    let page = page(study, summary, &Words::of_study(summary))?;
    files::write_atomic(&folder.join("report.html"), page.as_bytes())
}
