//! The tokenizer in a GGUF file's metadata: byte-level BPE with its merges, or SentencePiece's BPE with scores.
//!
//! What the model's own tokenizer.json does with a text is not in the file as such; the file names its way
//! of cutting a text into words (`tokenizer.ggml.pre`), and the table here says what is meant by the name.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Tokenizer, pieces};
use crate::base::{Error, Result};
use crate::tensor::{Gguf, gguf::Metadata};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// What `tokenizer.ggml.token_type` says of a token; 1 is an ordinary one.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// A blank inside SentencePiece's pieces.
const BLANK: &str = "\u{2581}";

/// How a text is cut into words before pairs are merged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Words {
    /// GPT-2's expression.
    Gpt2,
    /// Each digit alone, the rest by GPT-2's expression.
    Digits,
    /// An expression of its own.
    Pattern(&'static str),
}

/// Llama 3's expression: up to three digits together.
const LLAMA3: Words = Words::Pattern(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Qwen 2's expression: each digit alone.
const QWEN2: Words = Words::Pattern(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// What a name in `tokenizer.ggml.pre` stands for.
struct Pre {
    names: &'static [&'static str],
    words: Words,
    /// Characters are composed first (NFC).
    composes: bool,
    /// A word that is a token is that token, whatever the merges say.
    whole_words: bool,
    /// A text begins with the first token unless the file says otherwise.
    begins: bool,
}

const PRES: [Pre; 4] = [
    Pre {
        names: &["gpt-2", "default"],
        words: Words::Gpt2,
        composes: false,
        whole_words: false,
        begins: false,
    },
    Pre {
        names: &["smollm", "starcoder", "refact"],
        words: Words::Digits,
        composes: false,
        whole_words: false,
        begins: false,
    },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: LLAMA3,
        composes: false,
        whole_words: true,
        begins: true,
    },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: QWEN2,
        composes: true,
        whole_words: false,
        begins: false,
    },
];

/// Whether the file has a tokenizer.
pub(super) fn exists(file: &Gguf) -> bool {
    file.metadata().has(MODEL)
}

/// The tokenizer of a file.
pub(super) fn open(file: &Gguf) -> Result<Tokenizer> {
    read(file).map_err(|e| e.file(file.path()))
}

fn read(file: &Gguf) -> Result<Tokenizer> {
    let metadata = file.metadata();
    let vocabulary = Vocabulary::read(&metadata)?;
    let (json, defaults) = match metadata.text(MODEL)? {
        Some("gpt2") => byte_level(&metadata, &vocabulary)?,
        Some("llama") => sentence_pieces(&metadata, &vocabulary)?,
        found => {
            let found = found.map_or("nothing".to_owned(), |name| format!("\"{name}\""));
            return Err(Error::input(format!("found {found}, needed \"gpt2\" or \"llama\"")).key(MODEL).hint(
                "only token ids can be used with this file; its Hugging Face directory may have a tokenizer.json",
            ));
        }
    };
    let text = serde_json::to_vec(&json).expect("a JSON value can be written");
    let inner = tokenizers::Tokenizer::from_bytes(text)
        .map_err(|e| Error::input(format!("not a tokenizer: {e}")).key(MODEL))?;

    let id = |name: &str, default: Option<u32>| vocabulary.id(&metadata, name, default);
    let bos = id("bos", defaults.bos)?;
    let eos = id("eos", defaults.eos)?;
    let begins = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.begins);
    let mut ends = Vec::from_iter(eos);
    ends.extend(id("eot", None)?.filter(|&eot| Some(eot) != eos));
    let named = [
        ("bos_token", bos),
        ("eos_token", eos),
        ("unk_token", id("unknown", defaults.unknown)?),
        ("pad_token", id("padding", None)?),
    ];
    let text =
        |(name, id): (&str, Option<u32>)| Some((name.to_owned(), vocabulary.tokens[id? as usize].to_owned()));
    Ok(Tokenizer {
        inner,
        file: file.path().to_path_buf(),
        names_file: file.path().to_path_buf(),
        prefix: bos.filter(|_| begins).into_iter().collect(),
        eos: ends,
        special_texts: named.into_iter().filter_map(text).collect(),
    })
}

/// What holds where the file does not say it.
#[derive(Default)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    begins: bool,
}

/// The tokens of a file, and what each is.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    types: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &Metadata<'a>) -> Result<Self> {
        let tokens = metadata.texts(TOKENS)?.unwrap_or_default();
        if tokens.is_empty() {
            return Err(Error::input("found no token").key(TOKENS).hint(
                "only token ids can be used with this file; its Hugging Face directory may have a tokenizer.json",
            ));
        }
        let types = metadata.integers(TYPES)?.unwrap_or_else(|| vec![1; tokens.len()]);
        check_len(types.len(), tokens.len(), TYPES)?;
        Ok(Self { tokens, types })
    }

    /// The id of a special token; `default` counts only if there is such a token.
    fn id(&self, metadata: &Metadata<'_>, name: &str, default: Option<u32>) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let count = self.tokens.len();
        match metadata.unsigned(&key)? {
            None => Ok(default.filter(|&id| (id as usize) < count)),
            Some(id) if id < count as u64 => Ok(Some(id as u32)),
            Some(id) => {
                Err(Error::input(format!("found {id}, needed the id of one of {count} tokens")).key(key))
            }
        }
    }

    /// Tokens that are found in a text before it is cut: control tokens, and those that users defined.
    fn added(&self, write: impl Fn(usize) -> String) -> Value {
        let is_added = |kind: i64| matches!(kind, UNKNOWN | CONTROL | USER_DEFINED);
        let added = self
            .types
            .iter()
            .enumerate()
            .filter(|&(id, &kind)| is_added(kind) && !self.tokens[id].is_empty());
        added
            .map(|(id, &kind)| {
                json!({"id": id, "content": write(id), "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": kind != USER_DEFINED})
            })
            .collect()
    }
}

fn check_len(found: usize, needed: usize, key: &str) -> Result<()> {
    if found == needed {
        return Ok(());
    }
    Err(Error::input(format!("found {found} entries, needed {needed}, one a token")).key(key))
}

/// Byte-level BPE.
fn byte_level(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<(Value, Defaults)> {
    let name = metadata.text(PRE)?.unwrap_or("default");
    if name == "default" {
        tracing::warn!(
            "the file does not say how its tokenizer cuts texts (`{PRE}`); GPT-2's way is taken, so token ids may \
             differ from the model's own"
        );
    }
    let pre = PRES.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = PRES.iter().flat_map(|pre| pre.names).copied().collect();
        Error::input(format!("found \"{name}\", needed one of {}", known.join(", "))).key(PRE).hint(
            "only token ids can be used with this file; its Hugging Face directory may have a tokenizer.json",
        )
    })?;
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let cut = match pre.words {
        Words::Gpt2 => vec![byte_level(true)],
        Words::Digits => vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)],
        Words::Pattern(pattern) => vec![
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}),
            byte_level(false),
        ],
    };
    let merges = metadata.texts(MERGES)?.unwrap_or_default();
    let pair = |(i, merge): (usize, &&str)| {
        // The left part is never empty, so a blank at the start belongs to it.
        let cut = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let pair = cut.map(|at| json!([merge[..at], merge[at + 1..]]));
        pair.ok_or_else(|| {
            Error::input(format!("found {merge:?}, needed two parts with a blank between them"))
                .key(format!("{MERGES}[{i}]"))
        })
    };
    let merges = merges.iter().enumerate().map(pair).collect::<Result<Vec<Value>>>()?;
    let ids: Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let json = json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(|id| vocabulary.tokens[id].to_owned()),
        "normalizer": pre.composes.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cut},
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {"type": "BPE", "ignore_merges": pre.whole_words, "vocab": ids, "merges": merges},
    });
    Ok((json, Defaults { begins: pre.begins, ..Defaults::default() }))
}

/// SentencePiece's BPE: blanks are part of the pieces, what no piece has becomes bytes.
fn sentence_pieces(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<(Value, Defaults)> {
    let scores = metadata
        .numbers(SCORES)?
        .ok_or_else(|| Error::input("missing, needed the score of each token").key(SCORES))?;
    check_len(scores.len(), vocabulary.tokens.len(), SCORES)?;
    // A converter writes the blanks of users' tokens out; in the vocabulary they are pieces like others.
    let pieces: Vec<String> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.types)
        .map(
            |(token, &kind)| {
                if kind == USER_DEFINED { token.replace(' ', BLANK) } else { (*token).to_owned() }
            },
        )
        .collect();
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.as_str(), id)).collect();
    // Gemma's scores do not follow the order in which its pieces were learned; their places do.
    let by_place = metadata.text("general.architecture")?.is_some_and(|name| name.starts_with("gemma"));
    let known = pieces.iter().zip(&vocabulary.types).zip(&scores).enumerate();
    let scored = known.filter_map(|(id, ((piece, &kind), &score))| {
        match kind {
            UNKNOWN | CONTROL | UNUSED | BYTE => None,
            _ if by_place => Some((piece.as_str(), -(id as f64))),
            // What a user defined comes before all that was learned, whose scores are below 0.
            USER_DEFINED => Some((piece.as_str(), 0.0)),
            _ => Some((piece.as_str(), score)),
        }
    });
    let merges = pieces::merges(scored, &ids).map_err(|e| e.key(TOKENS))?;
    let unknown = vocabulary.id(metadata, "unknown", Some(0))?;
    let begins_blank = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let blank_to =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![blank_to(" ", BLANK)];
    let mut decoders = vec![blank_to(BLANK, " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if begins_blank {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": BLANK}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let json = json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(|id| pieces[id].clone()),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "unk_token": unknown.map(|id| &pieces[id as usize]), "fuse_unk": true,
                  "byte_fallback": true, "vocab": ids, "merges": merges},
    });
    Ok((json, Defaults { bos: Some(1), eos: Some(2), unknown, begins: true }))
}
