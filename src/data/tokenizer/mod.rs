//! A model's tokenizer: that of its Hugging Face directory, or the one in its GGUF file.

mod directory;
mod gguf;
mod pieces;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::{Error, Result, files};
use crate::tensor::Gguf;

/// Text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
    names_file: PathBuf,
    prefix: Vec<u32>,
    eos: Vec<u32>,
    special_texts: Vec<(String, String)>,
}

/// A text as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Token ids, `[T]`.
    pub ids: Vec<u32>,
    /// The bytes of the text that each token stands for; tokens that are pieces of one character have
    /// all of its bytes. `[T]`
    pub bytes: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Opens the tokenizer of the Hugging Face directory or the `.gguf` file at `model`.
    pub fn open(model: &Path) -> Result<Self> {
        if Gguf::is_named_by(model) {
            return gguf::open(&Gguf::open(model)?);
        }
        directory::open(model)
    }

    /// Whether the model at `model` has a tokenizer.
    pub fn exists(model: &Path) -> Result<bool> {
        if Gguf::is_named_by(model) {
            return Ok(gguf::exists(&Gguf::open(model)?));
        }
        Ok(model.join("tokenizer.json").exists())
    }

    /// The tokens of `text` alone: no special tokens are added, but those written out in it are found.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| Error::input(format!("the tokenizer refuses the text: {e}")).file(&self.file))?;
        let bytes = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Tokens { ids: encoding.get_ids().to_vec(), bytes })
    }

    /// The text of `ids`, without special tokens if `skip_special`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|e| Error::input(format!("the tokenizer refuses the ids: {e}")).file(&self.file))
    }

    /// A token as the vocabulary writes it; `None` for an id that it does not have.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The special tokens that go before a text.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The ids that end a text; the first is the one to append.
    ///
    /// `eos_token` of tokenizer_config.json comes first, then `eos_token_id` of generation_config.json and
    /// of config.json; in a GGUF file its end of a text, then its end of a turn.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Names and texts of the special tokens, as chat templates see them: `bos_token`, `eos_token`, ...
    pub fn special_texts(&self) -> &[(String, String)] {
        &self.special_texts
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file that names its special tokens.
    pub fn names_file(&self) -> &Path {
        &self.names_file
    }
}

/// The JSON object in a file; empty if there is no such file.
pub(super) fn object(file: &Path) -> Result<Map<String, Value>> {
    if !file.exists() {
        return Ok(Map::new());
    }
    serde_json::from_str(&files::read_text(file)?)
        .map_err(|e| Error::input(format!("not a JSON object: {e}")).file(file))
}
