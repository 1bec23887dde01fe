//! The safetensors files of a Hugging Face directory: one file, or shards with an index.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::stored::{Stored, StoredFile};
use crate::base::{Error, Result, files};

/// The file of all weights.
pub const SINGLE: &str = "model.safetensors";
/// Which shard has which weight, where there are several.
pub const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a directory, wherever they stand.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    files: Vec<StoredFile>,
    /// Index into `files` by tensor name.
    place: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens and checks `folder`'s `model.safetensors`, or the shards that its index names.
    pub fn open(folder: &Path) -> Result<Self> {
        check_folder(folder)?;
        let index_path = folder.join(INDEX);
        if index_path.exists() {
            return Self::sharded(folder, &index_path);
        }
        let path = folder.join(SINGLE);
        if !path.exists() {
            return Err(Error::input(format!("found neither {SINGLE} nor {INDEX}"))
                .file(folder)
                .hint("point at a Hugging Face model directory with safetensors weights"));
        }
        let file = StoredFile::open(&path)?;
        let place = file.tensors().keys().map(|name| (name.clone(), 0)).collect();
        Ok(Self { folder: folder.to_path_buf(), files: vec![file], place })
    }

    fn sharded(folder: &Path, index_path: &Path) -> Result<Self> {
        let text = files::read_text(index_path)?;
        let Index { weight_map } = serde_json::from_str(&text).map_err(|e| {
            Error::input(format!("not a safetensors index: {e}")).file(index_path).key("weight_map")
        })?;
        let mut files: Vec<StoredFile> = Vec::new();
        let mut by_shard: BTreeMap<&str, usize> = BTreeMap::new();
        let mut place = BTreeMap::new();
        for (name, shard) in &weight_map {
            let number = match by_shard.get(shard.as_str()) {
                Some(&number) => number,
                None => {
                    files.push(StoredFile::open(
                        &folder.join(plain_name(shard).map_err(|e| e.file(index_path))?),
                    )?);
                    by_shard.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            files[number].get(name).map_err(|e| e.hint(format!("{INDEX} says that it is there")))?;
            place.insert(name.clone(), number);
        }
        if files.is_empty() {
            return Err(Error::input("the index names no tensor").file(index_path).key("weight_map"));
        }
        Ok(Self { folder: folder.to_path_buf(), files, place })
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, each once.
    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// All tensor names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// The tensor called `name` and its file, if there is one.
    pub fn find(&self, name: &str) -> Option<(&StoredFile, &Stored)> {
        let file = &self.files[*self.place.get(name)?];
        file.tensors().get(name).map(|stored| (file, stored))
    }
}

/// Refuses what is no directory, before a file in it is missed.
pub fn check_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::input("found no directory, needed a Hugging Face model directory or a .gguf file")
        .file(folder))
}

/// Copies the files of the directory `from` that hold no weights, such as configuration and tokenizer, into the
/// directory `to`, but for those named in `without`.
pub fn copy_others(from: &Path, to: &Path, without: &[&str]) -> Result<()> {
    for path in files::list(from)? {
        let weights =
            path.extension().is_some_and(|e| e == "safetensors" || e == "bin" || e == "gguf" || e == "pt");
        let Some(name) = path.file_name().filter(|name| !without.iter().any(|out| name == out)) else {
            continue;
        };
        if path.is_file() && !weights {
            fs::copy(&path, to.join(name)).map_err(|e| Error::io("copy", &path, &e))?;
        }
    }
    Ok(())
}

/// A shard is a file of the directory itself: no path leads out of it.
fn plain_name(shard: &str) -> Result<&str> {
    let mut parts = Path::new(shard).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if shard.ends_with(".safetensors") => Ok(shard),
        _ => Err(Error::input(format!(
            "found shard `{shard}`, needed the name of a .safetensors file in this directory"
        ))
        .key("weight_map")),
    }
}
