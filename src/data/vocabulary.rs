//! A byte-level vocabulary learned from text by byte pair encoding, and the files that hold it.
//!
//! Source: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units", 2016; on
//! bytes and cut into words as in Radford et al., "Language models are unsupervised multitask learners", 2019.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::base::{Error, Result, files};

/// The one special token: it begins, ends and fills texts.
pub const END: &str = "<|endoftext|>";

/// The id of [`END`].
pub const END_ID: u32 = 0;

/// The tokens that every byte-level vocabulary has: the end and the 256 bytes.
pub const SMALLEST: usize = 257;

/// Ids are the places in `tokens`: the end, the bytes, then what each merge made.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<(u32, u32)>,
}

/// Two neighbouring ids.
type Pair = (u32, u32);

/// The words of a text, each as often as it occurs.
#[derive(Clone, Debug, Default)]
pub struct WordCounts(BTreeMap<String, u64>);

impl WordCounts {
    /// Adds the words of `text`, cut as the tokenizer will cut them.
    pub fn add(&mut self, text: &str) {
        let mut pieces = PreTokenizedString::from(text);
        byte_level().pre_tokenize(&mut pieces).expect("every text is bytes");
        for (word, ..) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *self.0.entry(word.to_owned()).or_default() += 1;
        }
    }
}

impl Vocabulary {
    /// Learns `size` tokens: each merge joins the pair that is most frequent inside words; of equals, the one
    /// with the lowest ids.
    pub fn learn(words: &WordCounts, size: usize) -> Result<Self> {
        if size < SMALLEST {
            return Err(Error::input(format!(
                "found {size}, needed at least {SMALLEST}: the bytes and an end"
            )));
        }
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let tokens: Vec<String> =
            [END.to_owned()].into_iter().chain(alphabet.iter().map(char::to_string)).collect();
        let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let mut vocabulary = Self { tokens, merges: Vec::new() };
        let spell = |word: &String| word.chars().map(|c| ids[c.encode_utf8(&mut [0; 4]) as &str]).collect();
        let mut words: Vec<(Vec<u32>, u64)> =
            words.0.iter().map(|(word, &count)| (spell(word), count)).collect();

        let mut counts: HashMap<Pair, u64> = HashMap::new();
        for (word, count) in &words {
            pairs(word).for_each(|pair| *counts.entry(pair).or_default() += count);
        }
        while vocabulary.tokens.len() < size {
            let best = counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .max_by_key(|(pair, count)| (**count, Reverse(**pair)));
            let Some((&pair, _)) = best else {
                let found = vocabulary.tokens.len();
                return Err(Error::input(format!(
                    "found {size}, but the text has words for only {found} tokens"
                ))
                .hint("give more text or ask for a smaller vocabulary"));
            };
            let text = [pair.0, pair.1].map(|id| vocabulary.tokens[id as usize].as_str()).concat();
            // two merges may spell the same token
            let id = *ids.entry(text).or_insert_with_key(|text| {
                vocabulary.tokens.push(text.clone());
                vocabulary.tokens.len() as u32 - 1
            });
            vocabulary.merges.push(pair);
            for (word, count) in words.iter_mut().filter(|(word, _)| pairs(word).any(|p| p == pair)) {
                for old in pairs(word) {
                    *counts.get_mut(&old).expect("every pair of a word is counted") -= *count;
                }
                merge(word, pair, id);
                pairs(word).for_each(|new| *counts.entry(new).or_default() += *count);
            }
        }
        Ok(vocabulary)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `folder`.
    pub fn write(&self, folder: &Path, context: usize) -> Result<()> {
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "pad_token": END,
            "model_max_length": context,
            "clean_up_tokenization_spaces": false,
        });
        write_json(&folder.join("tokenizer.json"), &self.tokenizer())?;
        write_json(&folder.join("tokenizer_config.json"), &config)
    }

    /// The tokenizer as the `tokenizers` library reads it.
    fn tokenizer(&self) -> Value {
        let token = |id: u32| &self.tokens[id as usize];
        let ids: serde_json::Map<String, Value> =
            self.tokens.iter().cloned().zip((0..).map(|id: u32| json!(id))).collect();
        let merges: Vec<[&String; 2]> =
            self.merges.iter().map(|&(left, right)| [token(left), token(right)]).collect();
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
        });
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [{
                "id": END_ID, "content": END, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }],
            "normalizer": null,
            "pre_tokenizer": byte_level,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": ids, "merges": merges,
            },
        })
    }
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, false, true)
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    word.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Replaces each `pair` of `word`, from the left, by `id`.
fn merge(word: &mut Vec<u32>, pair: Pair, id: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < word.len() {
        let joined = word.get(at + 1).is_some_and(|&next| (word[at], next) == pair);
        word[kept] = if joined { id } else { word[at] };
        at += if joined { 2 } else { 1 };
        kept += 1;
    }
    word.truncate(kept);
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value has text");
    text.push(b'\n');
    files::write_atomic(path, &text)
}
