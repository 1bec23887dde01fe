//! A model's tokenizer: `tokenizer.json` with the special tokens that the model's other files name.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::PostProcessorWrapper;

use crate::base::{Error, Result, files};

/// Text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
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
    /// Opens the tokenizer of the model in `folder`.
    ///
    /// Truncation and padding stored in `tokenizer.json` are ignored: a trainer that cuts silently trains
    /// on something else than it says.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        let bytes = std::fs::read(&file).map_err(|e| {
            Error::io("read", &file, &e).hint("a model's folder needs its tokenizer to read or write text")
        })?;
        let fail = |e: tokenizers::Error| Error::input(format!("not a tokenizer: {e}")).file(&file);
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(fail)?;
        inner.with_padding(None).with_truncation(None).map_err(fail)?;

        let probe = inner.encode("a", true).map_err(fail)?;
        let special = probe.get_special_tokens_mask().iter().take_while(|&&special| special == 1).count();
        let prefix = probe.get_ids()[..special].to_vec();
        // A post-processor adds special tokens, which are known now, and trims blanks off the offsets,
        // which would move a completion's start.
        inner.with_post_processor(None::<PostProcessorWrapper>);

        let config = object(&folder.join("tokenizer_config.json"))?;
        let special_texts = special_texts(&config);
        let mut eos = Vec::new();
        if let Some((_, text)) = special_texts.iter().find(|(name, _)| name == "eos_token") {
            let id = inner.token_to_id(text).ok_or_else(|| {
                Error::input(format!("found the token {text:?}, needed one that tokenizer.json knows"))
                    .file(folder.join("tokenizer_config.json"))
                    .key("eos_token")
            })?;
            eos.push(id);
        }
        for name in ["generation_config.json", "config.json"] {
            for id in end_ids(&object(&folder.join(name))?) {
                if !eos.contains(&id) {
                    eos.push(id);
                }
            }
        }
        Ok(Self { inner, file, prefix, eos, special_texts })
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
    /// of config.json.
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
}

/// The JSON object in a file; empty if there is no such file.
pub(super) fn object(file: &Path) -> Result<Map<String, Value>> {
    if !file.exists() {
        return Ok(Map::new());
    }
    serde_json::from_str(&files::read_text(file)?)
        .map_err(|e| Error::input(format!("not a JSON object: {e}")).file(file))
}

/// The entries `*_token` of a tokenizer_config.json: a text, or an object with `content`.
fn special_texts(config: &Map<String, Value>) -> Vec<(String, String)> {
    let named = config.iter().filter(|(key, _)| key.ends_with("_token"));
    named
        .filter_map(|(key, value)| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((key.clone(), text.to_owned()))
        })
        .collect()
}

/// `eos_token_id`: an id or a list of ids.
fn end_ids(config: &Map<String, Value>) -> Vec<u32> {
    let value = config.get("eos_token_id");
    let list = value.map_or(&[][..], |v| v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice));
    list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
