//! Checkpoints: everything that a run needs to continue with the same bits.
//!
//! ```text
//! checkpoints/step-N/
//!   adapter_config.json  adapter_model.safetensors    the adapter, in PEFT's format; or, of full fine-tuning,
//!   model.safetensors  config.json ...                the model, in f32
//!   optimizer.safetensors                             m and v, in the layout of what is trained
//!   state.json                                        update, order, data, best evaluation, checksums
//! ```
//!
//! Order, dropout and schedule are functions of seeds and the update number, so no generator's state is
//! stored. A checkpoint appears by one rename, so it is whole or absent; checksums find later damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::learner::Learner;
use super::step::Optimizer;
use crate::base::{Error, Result, files, hash};
use crate::device::Device;
use crate::report::run::Totals;
use crate::tensor::StoredFile;
use crate::tensor::stored::{self, Draft};

const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const PREFIX: &str = "step-";

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Updates done.
    pub step: u64,
    /// Identity of the training order.
    pub order_hash: String,
    /// Identity of the training data's lines.
    pub data: String,
    /// The settings that decide the result, as TOML.
    pub config: String,
    /// The best evaluation so far: its step and its score, higher is better.
    pub best: Option<(u64, f64)>,
    /// Sums over the updates done.
    pub totals: Totals,
    /// SHA-256 of each of the checkpoint's other files.
    pub checksums: BTreeMap<String, String>,
}

/// The folder of checkpoints of one run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in `folder`, of which the newest `keep` are kept (0 = all).
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep }
    }

    /// Writes the checkpoint of `state.step`, then drops the oldest ones above the limit.
    pub fn write(
        &self,
        mut state: State,
        learner: &Learner,
        optimizer: &Optimizer,
        base: &str,
        dropout: f64,
    ) -> Result<PathBuf> {
        let path = self.folder.join(format!("{PREFIX}{}", state.step));
        if path.exists() {
            return Ok(path);
        }
        files::write_folder_atomic(&path, |folder| {
            learner.write_exact(folder, base, dropout)?;
            let moments = [("m", &optimizer.m), ("v", &optimizer.v)];
            let drafts = moments.map(|(name, b)| (name.to_owned(), Draft::f32s(b.values(), &[b.cols()])));
            stored::write(&folder.join(OPTIMIZER), drafts)?;
            for file in files::list(folder)? {
                state.checksums.insert(name_of(&file), checksum(&file)?);
            }
            let json = serde_json::to_vec_pretty(&state).expect("the state can be written as JSON");
            files::write_atomic(&folder.join(STATE), &json)
        })?;
        for (_, old) in self.list()?.iter().rev().skip(if self.keep == 0 { usize::MAX } else { self.keep }) {
            fs::remove_dir_all(old).map_err(|e| Error::io("remove", old, &e))?;
        }
        Ok(path)
    }

    /// Reads the newest whole checkpoint, if there is any, into `learner`; damaged ones are passed over with a
    /// warning.
    ///
    /// # Errors
    /// `same_run` refuses a checkpoint's state, or there are checkpoints and all are damaged.
    pub fn newest(
        &self,
        device: &Device,
        learner: &mut Learner,
        same_run: impl Fn(&State) -> Result<()>,
    ) -> Result<Option<(State, Optimizer)>> {
        let found = self.list()?;
        for (_, path) in found.iter().rev() {
            let state = match read_state(path) {
                Ok(state) => state,
                Err(error) => {
                    tracing::warn!("{error}; passing this checkpoint over");
                    continue;
                }
            };
            same_run(&state)?;
            match read_tensors(device, path, &state, learner) {
                Ok(optimizer) => return Ok(Some((state, optimizer))),
                Err(error) => tracing::warn!("{error}; passing this checkpoint over"),
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        Err(Error::input("no checkpoint can be read")
            .file(&self.folder)
            .hint("move this folder away to start the run afresh"))
    }

    /// The checkpoints by step, ascending.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let step = |path: &PathBuf| name_of(path).strip_prefix(PREFIX)?.parse::<u64>().ok();
        let mut found: Vec<_> =
            files::list(&self.folder)?.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
        found.sort();
        Ok(found)
    }
}

fn read_state(folder: &Path) -> Result<State> {
    let path = folder.join(STATE);
    serde_json::from_str(&files::read_text(&path)?)
        .map_err(|e| Error::input(format!("not a checkpoint's state: {e}")).file(&path))
}

fn read_tensors(device: &Device, folder: &Path, state: &State, learner: &mut Learner) -> Result<Optimizer> {
    for (name, expected) in &state.checksums {
        let file = folder.join(name);
        if checksum(&file)? != *expected {
            return Err(Error::input("its content is not what was written: the checksum differs").file(file));
        }
    }
    learner.read(device, folder)?;
    let file = StoredFile::open(&folder.join(OPTIMIZER))?;
    let mut optimizer = Optimizer::new(device, learner.len());
    for (name, buffer) in [("m", &mut optimizer.m), ("v", &mut optimizer.v)] {
        let values = file.f32s(name)?;
        if values.len() != learner.len() {
            let what = format!("found {} values, needed {}", values.len(), learner.len());
            return Err(Error::input(what).file(file.path()).key(name));
        }
        buffer.values_mut().copy_from_slice(&values);
    }
    Ok(optimizer)
}

fn checksum(file: &Path) -> Result<String> {
    fs::File::open(file).and_then(hash::sha256_reader).map_err(|e| Error::io("read", file, &e))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
