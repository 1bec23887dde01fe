//! The tokenizer of a Hugging Face directory: `tokenizer.json` with the special tokens that the model's
//! other files name.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::PostProcessorWrapper;

use super::{Tokenizer, object};
use crate::base::{Error, Result};

/// Opens the tokenizer of the model in `folder`.
///
/// Truncation and padding stored in `tokenizer.json` are ignored: a trainer that cuts silently trains
/// on something else than it says.
pub(super) fn open(folder: &Path) -> Result<Tokenizer> {
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

    let names_file = folder.join("tokenizer_config.json");
    let special_texts = special_texts(&object(&names_file)?);
    let mut eos = Vec::new();
    if let Some((_, text)) = special_texts.iter().find(|(name, _)| name == "eos_token") {
        let id = inner.token_to_id(text).ok_or_else(|| {
            Error::input(format!("found the token {text:?}, needed one that tokenizer.json knows"))
                .file(&names_file)
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
    Ok(Tokenizer { inner, file, names_file, prefix, eos, special_texts })
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
