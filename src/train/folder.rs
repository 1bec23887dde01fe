//! The output folder: what may be written where, and what a run that is there already means.
//!
//! ```text
//! OUT/  config.resolved.toml  order.jsonl  metrics.jsonl  events.out.tfevents.*  report.html
//!       checkpoints/step-N/   best/   adapter/ or model/ (appears last: the run is finished)
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::{Error, Result, files};

/// What a folder holds before a run starts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what a run left before its first checkpoint: start afresh.
    Fresh,
    /// A run that can go on from its newest checkpoint.
    Unfinished,
    /// A finished run.
    Finished,
}

/// What a run leaves last: an adapter, or a whole model.
const RESULTS: [&str; 2] = ["adapter", "model"];

/// The output folder of a run.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens the folder for a run; without `resume` it must be absent or empty.
    pub fn open(path: &Path, resume: bool) -> Result<(Self, Found)> {
        let folder = Self(path.to_path_buf());
        if path.exists() && !path.is_dir() {
            return Err(Error::input("it is a file, needed a folder").file(path).key("output.dir"));
        }
        let empty = !path.exists() || files::list(path)?.is_empty();
        if !empty && !resume {
            return Err(Error::input("the output folder is not empty")
                .file(path)
                .key("output.dir")
                .hint("continue that run with --resume, or name another folder"));
        }
        let found = if empty {
            Found::Fresh
        } else if RESULTS.iter().any(|name| path.join(name).is_dir()) {
            Found::Finished
        } else if folder.checkpoints().is_dir() {
            Found::Unfinished
        } else {
            Found::Fresh
        };
        files::create_folder(path)?;
        if found != Found::Finished {
            folder.remove_unfinished()?;
        }
        Ok((folder, found))
    }

    /// Removes what a killed process left half-written.
    fn remove_unfinished(&self) -> Result<()> {
        let homes = [self.0.clone(), self.checkpoints(), self.bests()];
        for home in homes.iter().filter(|home| home.is_dir()) {
            for path in files::list(home)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with(files::TEMPORARY_PREFIX) {
                    continue;
                }
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(|e| Error::io("remove", &path, &e))?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings as they were resolved.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.resolved.toml")
    }

    /// The training order.
    pub fn order(&self) -> PathBuf {
        self.0.join("order.jsonl")
    }

    /// One line a logged update.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// Checkpoints, one folder each.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// What the run leaves: the adapter, or the model of full fine-tuning.
    pub fn result(&self, full: bool) -> PathBuf {
        self.0.join(RESULTS[usize::from(full)])
    }

    /// What evaluated best after update `step`.
    pub fn best(&self, step: u64) -> PathBuf {
        self.bests().join(format!("step-{step}"))
    }

    fn bests(&self) -> PathBuf {
        self.0.join("best")
    }

    /// Removes the best results of other updates than `step`.
    pub fn remove_other_bests(&self, step: u64) -> Result<()> {
        let keep = self.best(step);
        for path in files::list(&self.bests())?.iter().filter(|path| **path != keep) {
            fs::remove_dir_all(path).map_err(|e| Error::io("remove", path, &e))?;
        }
        Ok(())
    }
}
