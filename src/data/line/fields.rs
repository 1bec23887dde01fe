//! Typed access to the fields of one line, with errors that say what was found and what was needed.

use serde_json::{Map, Value};

use crate::base::{Error, Result};

/// The fields of one line; `null` counts as absent.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn optional(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str) -> Result<&'a Value> {
        self.optional(key).ok_or_else(|| {
            let names: Vec<String> = self.0.keys().take(12).map(|k| format!("`{k}`")).collect();
            let found = if names.is_empty() { "no field".into() } else { names.join(", ") };
            Error::input(format!("missing; the line has {found}")).key(key).hint(
                "`data.format` says what each line must hold: mcqa, prompt-completion, messages, \
                 instruction, text, preference or tokens",
            )
        })
    }

    /// A required text.
    pub(super) fn text(&self, key: &str) -> Result<&'a str> {
        text(self.required(key)?, key)
    }

    /// A required text that holds more than blanks.
    pub(super) fn filled(&self, key: &str) -> Result<&'a str> {
        filled(self.required(key)?, key)
    }

    /// An optional text; "" where it is absent.
    pub(super) fn text_or_empty(&self, key: &str) -> Result<&'a str> {
        self.optional(key).map_or(Ok(""), |value| text(value, key))
    }

    /// A required list.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value]> {
        list(self.required(key)?, key)
    }

    /// A required integer.
    pub(super) fn integer(&self, key: &str) -> Result<i64> {
        integer(self.required(key)?, key)
    }

    /// An optional finite number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key).map(|value| number(value, key)).transpose()
    }

    /// An optional text or number, as text; empty text counts as absent.
    pub(super) fn label(&self, key: &str) -> Result<Option<String>> {
        match self.optional(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(wrong(other, "a text or a number", key)),
        }
    }

    pub(super) fn id(&self) -> Result<Option<String>> {
        match self.optional("id") {
            None => Ok(None),
            Some(Value::String(id)) if !id.is_empty() => Ok(Some(id.clone())),
            Some(Value::Number(id)) if !id.is_f64() => Ok(Some(id.to_string())),
            Some(other) => Err(wrong(other, "a text that is not empty, or an integer", "id")),
        }
    }

    pub(super) fn weight(&self) -> Result<f32> {
        let weight = self.number("weight")?.unwrap_or(1.0);
        if weight > 0.0 && (weight as f32) > 0.0 && (weight as f32).is_finite() {
            return Ok(weight as f32);
        }
        Err(Error::input(format!("found {weight}, needed a number above 0"))
            .key("weight")
            .hint("a line without weight has weight 1; remove the line if it is not to be learned"))
    }

    pub(super) fn smoothing(&self) -> Result<Option<f32>> {
        match self.number("smoothing")? {
            Some(s) if !(0.0..1.0).contains(&(s as f32)) => {
                Err(Error::input(format!("found {s}, needed a number from 0 to below 1")).key("smoothing"))
            }
            smoothing => Ok(smoothing.map(|s| s as f32)),
        }
    }
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| wrong(value, "a text", key))
}

pub(super) fn filled<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    let found = text(value, key)?;
    if found.trim().is_empty() {
        return Err(Error::input("found an empty text, needed one that says something").key(key));
    }
    Ok(found)
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value]> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(value, "a list", key))
}

pub(super) fn integer(value: &Value, key: &str) -> Result<i64> {
    value.as_i64().ok_or_else(|| wrong(value, "an integer", key))
}

pub(super) fn number(value: &Value, key: &str) -> Result<f64> {
    value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| wrong(value, "a number", key))
}

fn wrong(found: &Value, needed: &str, key: &str) -> Error {
    Error::input(format!("found {}, needed {needed}", describe(found))).key(key)
}

/// What a value is, and its start.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let start: String = text.chars().take(24).collect();
            let more = if start.len() < text.len() { "..." } else { "" };
            format!("the text {start:?}{more}")
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}
