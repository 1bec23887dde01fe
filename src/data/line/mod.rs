//! One line of a dataset: a JSON object in one of seven formats.
//!
//! Fields that a format does not name are allowed: real data carries its own. A field that is `null`
//! counts as absent.

mod fields;
mod format;
mod mcqa;
mod messages;
mod texts;
mod tokens;

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

pub use format::Format;
pub use mcqa::{Mcqa, letter};
pub use messages::{Message, Role};
pub use texts::{Instruction, Preference, PromptCompletion};
pub use tokens::Tokens;

use crate::base::{Error, Result};
use fields::Fields;

/// A line, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its `id`, if it has one; an integer as text.
    pub id: Option<String>,
    /// Weight of its losses, above 0; 1 where the line has none.
    pub weight: f32,
    /// Label smoothing in [0, 1), if the line sets its own.
    pub smoothing: Option<f32>,
    /// Its subject, if it has one that is not empty.
    pub subject: Option<String>,
    /// Where it comes from, if it says so.
    pub source: Option<String>,
    /// What its format asks for.
    pub body: Body,
}

/// What a format asks of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// `{"question","options","answer",...}`
    Mcqa(Mcqa),
    /// `{"prompt","completion"}`
    PromptCompletion(PromptCompletion),
    /// `{"messages":[{"role","content"}]}`
    Messages(Vec<Message>),
    /// `{"instruction","input","output"}`
    Instruction(Instruction),
    /// `{"text"}`
    Text(String),
    /// `{"prompt","chosen","rejected"}`
    Preference(Preference),
    /// `{"input_ids","labels"}`
    Tokens(Tokens),
}

impl Line {
    /// A line that has nothing but its body.
    pub fn plain(body: Body) -> Self {
        Self { id: None, weight: 1.0, smoothing: None, subject: None, source: None, body }
    }

    /// Reads one line; errors name the key, the caller adds the file and the line.
    pub fn parse(text: &[u8], format: Format) -> Result<Self> {
        let object = object(text)?;
        let fields = Fields(&object);
        Ok(Self {
            id: fields.id()?,
            weight: fields.weight()?,
            smoothing: fields.smoothing()?,
            subject: fields.label("subject")?,
            source: fields.label("source")?,
            body: match format {
                Format::Mcqa => Body::Mcqa(Mcqa::read(&fields)?),
                Format::PromptCompletion => Body::PromptCompletion(PromptCompletion::read(&fields)?),
                Format::Messages => Body::Messages(messages::read(&fields)?),
                Format::Instruction => Body::Instruction(Instruction::read(&fields)?),
                Format::Text => Body::Text(fields.filled("text")?.to_owned()),
                Format::Preference => Body::Preference(Preference::read(&fields)?),
                Format::Tokens => Body::Tokens(Tokens::read(&fields)?),
            },
        })
    }
}

/// The text or number of column `key` of a line, as text; `None` where it is absent or empty.
pub(super) fn text_column(line: &[u8], key: &str) -> Result<Option<String>> {
    Fields(&object_with(line, key)?).label(key)
}

/// The finite number of column `key` of a line; `None` where it is absent.
pub(super) fn number_column(line: &[u8], key: &str) -> Result<Option<f64>> {
    Fields(&object_with(line, key)?).number(key)
}

/// The line's JSON object.
pub(super) fn object(line: &[u8]) -> Result<Map<String, Value>> {
    let text = text(line)?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Error::input(format!("found {}, needed a JSON object", fields::describe(&other)))),
        Err(e) => Err(not_json(text, &e)),
    }
}

/// The line's JSON object with no other key than `key`: a fraction of the work where one column is wanted.
fn object_with(line: &[u8], key: &str) -> Result<Map<String, Value>> {
    let text = text(line)?;
    let mut json = serde_json::Deserializer::from_str(text);
    OneKey(key).deserialize(&mut json).map_err(|e| not_json(text, &e))
}

fn text(line: &[u8]) -> Result<&str> {
    std::str::from_utf8(line)
        .map_err(|e| Error::input(format!("not UTF-8 text at byte {} of the line", e.valid_up_to())))
}

fn not_json(text: &str, error: &serde_json::Error) -> Error {
    let what = error.to_string().replace(" at line 1 column ", " at column ");
    let error = Error::input(format!("not a JSON object: {what}"));
    match ["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
        true => error.hint("JSON has no NaN and no Infinity; write null or leave the field out"),
        false => error.hint("each line must be one whole JSON object"),
    }
}

/// Reads an object of which one key is kept; of a key that stands twice the last counts, as in a [`Map`].
struct OneKey<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for OneKey<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneKey<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = fields.next_key::<Cow<'_, str>>()? {
            if key == self.0 {
                kept.insert(key.into_owned(), fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(kept)
    }
}
