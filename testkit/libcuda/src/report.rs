//! What the program is told: findings on stderr at once, launches and findings as JSON on request.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::launch::KernelLaunch;

/// Everything since the last [`Log::take`].
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Whether anybody wants launches without findings: they pile up until they are taken.
    pub(crate) keeps_launches: bool,
    entries: Vec<Value>,
    said: BTreeSet<String>,
}

impl Log {
    /// Something the program did wrong that is not inside a kernel. The same words are noted once.
    pub(crate) fn finding(&mut self, check: &'static str, message: &str) {
        if !self.said.insert(format!("{check}: {message}")) {
            return;
        }
        eprintln!("[libcuda] {check}: {message}");
        let finding = json!({
            "check": check, "kernel": "", "file": "", "line": 0, "lanes": 0, "block": [0, 0, 0], "warp": 0,
            "message": message,
        });
        let nowhere = [0, 0, 0];
        let entry =
            json!({"kernel": "", "grid": nowhere, "block": nowhere, "shared": 0, "findings": [finding]});
        self.entries.push(entry);
    }

    /// A kernel that ran.
    pub(crate) fn launch(&mut self, launch: &KernelLaunch, report: &ptx::Report) {
        for finding in &report.findings {
            eprintln!("[libcuda] {finding}");
        }
        if report.findings.is_empty() && !self.keeps_launches {
            return;
        }
        let plain = |value: serde_json::Result<Value>| value.expect("reports are plain data");
        self.entries.push(json!({
            "kernel": launch.kernel().name,
            "grid": launch.grid,
            "block": launch.block,
            "shared": launch.dynamic_shared,
            "findings": plain(serde_json::to_value(&report.findings)),
            "counters": plain(serde_json::to_value(&report.counters)),
        }));
    }

    /// All entries as a JSON array; they are forgotten, and from now on launches are kept.
    pub(crate) fn take(&mut self) -> String {
        let Self { entries, .. } = std::mem::replace(self, Self { keeps_launches: true, ..Self::default() });
        Value::Array(entries).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_noted_once_until_they_are_taken() {
        let mut log = Log::default();
        log.finding("leak", "one");
        log.finding("leak", "one");
        log.finding("leak", "two");
        let taken: Value = serde_json::from_str(&log.take()).expect("JSON");
        assert_eq!(taken.as_array().expect("array").len(), 2);
        assert_eq!(taken[0]["findings"][0]["check"], "leak");
        assert_eq!(log.take(), "[]");
    }
}
