//! A model's own chat template, run as Transformers runs it.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, Value};

use super::{Rendered, json};
use crate::base::{Error, Result, files};
use crate::data::line::{Message, Role};
use crate::data::tokenizer::{self, Tokenizer};

/// The day that `strftime_now` tells. Tokens must not depend on when a run happens, so that it can be
/// repeated and resumed; this day is the one that templates fall back to themselves.
const DAY: [(&str, &str); 9] = [
    ("%d", "26"),
    ("%b", "Jul"),
    ("%B", "July"),
    ("%m", "07"),
    ("%Y", "2024"),
    ("%y", "24"),
    ("%A", "Friday"),
    ("%a", "Fri"),
    ("%H:%M:%S", "00:00:00"),
];

/// A chat template: messages to text.
#[derive(Debug)]
pub struct Chat {
    environment: Environment<'static>,
    file: PathBuf,
    special_texts: Vec<(String, String)>,
}

impl Chat {
    /// The template of the model in `folder`: `chat_template.jinja`, else `chat_template` of
    /// tokenizer_config.json (of a list of named ones, the one called `default`).
    pub(super) fn of_model(folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let file = folder.join("chat_template.jinja");
        if file.exists() {
            return Self::of_file(&file, tokenizer);
        }
        let file = folder.join("tokenizer_config.json");
        let config = tokenizer::object(&file)?;
        let source = match config.get("chat_template") {
            Some(serde_json::Value::Array(list)) => list
                .iter()
                .find(|named| named.get("name").and_then(|name| name.as_str()) == Some("default"))
                .and_then(|named| named.get("template")?.as_str()),
            other => other.and_then(serde_json::Value::as_str),
        };
        let source = source.ok_or_else(|| {
            Error::input("missing, needed the model's chat template")
                .file(&file)
                .key("chat_template")
                .hint("the model has none: use `data.template = \"exam\"`, or the path of a template file")
        })?;
        Self::new(source, file, tokenizer)
    }

    /// The template in a file.
    pub(super) fn of_file(file: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        Self::new(&files::read_text(file)?, file.to_path_buf(), tokenizer)
    }

    fn new(source: &str, file: PathBuf, tokenizer: &Tokenizer) -> Result<Self> {
        let environment = environment(&without_generation_tags(source), &file)?;
        Ok(Self { environment, file, special_texts: tokenizer.special_texts().to_vec() })
    }

    /// The text of `messages`, followed by the start of an answer if `add_generation_prompt`.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let texts = self.special_texts.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        let variables = texts.chain([
            ("messages", Value::from(Serde(messages))),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ]);
        render(&self.environment, Value::from_pairs(variables), &self.file)
    }

    /// A conversation, whose completions are the assistant's turns.
    ///
    /// A turn is found by rendering what precedes it, with the start of an answer, and what ends with it:
    /// both must begin the whole text. Some templates write the last turn differently; there, the turn's
    /// end is found by its content and what follows it.
    pub(super) fn conversation(&self, messages: &[Message]) -> Result<Rendered> {
        let text = self.render(messages, false)?;
        let mut completions = Vec::new();
        for (i, message) in messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant) {
            let before = self.render(&messages[..i], true)?;
            let through = self.render(&messages[..=i], false)?;
            let end = if !text.starts_with(&before) {
                None
            } else if text.starts_with(&through) {
                Some(through.len())
            } else {
                end_of_turn(&text, before.len(), message.content.trim(), &through)
            };
            let span = end.filter(|&end| end > before.len()).map(|end| before.len()..end);
            completions.push(span.ok_or_else(|| {
                Error::input(format!("the template's text cannot be cut at `messages[{i}]`"))
                    .file(&self.file)
                    .hint("use a template whose text for a conversation begins with the text for its first turns")
            })?);
        }
        Ok(Rendered { text, completions, has_special_tokens: true })
    }
}

/// Where the turn with `content` ends in `text`, if what follows the content in `through` does so there.
fn end_of_turn(text: &str, start: usize, content: &str, through: &str) -> Option<usize> {
    let (_, tail) = through.rsplit_once(content)?;
    let end = start + text[start..].find(content)? + content.len();
    text[end..].starts_with(tail).then_some(end + tail.len())
}

/// The name under which the only template of an environment is kept.
const NAME: &str = "template";

/// An environment that behaves as Transformers' does, holding the template `source`.
pub(super) fn environment(source: &str, file: &Path) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|e| failure(&e, file))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", |value: Value, options: Kwargs| json::dump(&value, &options));
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| {
        DAY.iter().fold(format, |text, (sign, value)| text.replace(sign, value))
    });
    environment.add_template_owned(NAME, source.to_owned()).map_err(|e| failure(&e, file))?;
    Ok(environment)
}

/// The text of the environment's template.
pub(super) fn render(environment: &Environment<'_>, variables: Value, file: &Path) -> Result<String> {
    let template = environment.get_template(NAME).map_err(|e| failure(&e, file))?;
    template.render(variables).map_err(|e| failure(&e, file))
}

fn failure(e: &minijinja::Error, file: &Path) -> Error {
    let line = e.line().map_or_else(String::new, |line| format!(" (line {line} of the template)"));
    Error::input(format!("the template failed: {e}{line}")).file(file)
}

/// The template without `{% generation %}` and `{% endgeneration %}`, which mark answers and print nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + len + 2];
        let word = tag[2..len].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let plain = match word {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        out.push_str(&rest[..start]);
        out.push_str(&plain);
        rest = &rest[start + len + 2..];
    }
    out + rest
}
