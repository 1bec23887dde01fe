//! A model's own chat template, run as Transformers runs it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, Value};

use super::{Rendered, json};
use crate::base::{Error, Result, files};
use crate::data::line::{Message, Role};
use crate::data::tokenizer::{self, Tokenizer};
use crate::tensor::Gguf;

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
    /// The template of the model at `model`: `chat_template.jinja`, else `chat_template` of
    /// tokenizer_config.json (of a list of named ones, the one called `default`); that of a `.gguf` file.
    pub(super) fn of_model(model: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        if Gguf::is_named_by(model) {
            let file = Gguf::open(model)?;
            let key = "tokenizer.chat_template";
            let source = file.metadata().text(key).map_err(|e| e.file(model))?;
            return Self::new(source.ok_or_else(|| missing(model, key))?, model.to_path_buf(), tokenizer);
        }
        let file = model.join("chat_template.jinja");
        if file.exists() {
            return Self::of_file(&file, tokenizer);
        }
        let file = model.join("tokenizer_config.json");
        let config = tokenizer::object(&file)?;
        let source = match config.get("chat_template") {
            Some(serde_json::Value::Array(list)) => list
                .iter()
                .find(|named| named.get("name").and_then(|name| name.as_str()) == Some("default"))
                .and_then(|named| named.get("template")?.as_str()),
            other => other.and_then(serde_json::Value::as_str),
        };
        Self::new(source.ok_or_else(|| missing(&file, "chat_template"))?, file, tokenizer)
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
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ]);
        render(&self.environment, Value::from_pairs(variables), &self.file)
    }

    /// A conversation, whose completions are the assistant's turns.
    ///
    /// What a turn says is found by saying something else in its place: the text around it stays. A turn
    /// starts after the start of an answer that the template offers a generating model, so that what the
    /// template writes between the two is learned too; it ends where the conversation up to it ends.
    pub(super) fn conversation(&self, messages: &[Message]) -> Result<Rendered> {
        let text = self.render(messages, false)?;
        let mut completions = Vec::new();
        for (i, _) in messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant) {
            let turn = self.turn(&text, messages, i)?.ok_or_else(|| {
                Error::input(format!("the template's text cannot be cut at `messages[{i}]`"))
                    .file(&self.file)
                    .hint("use a template that writes a turn the same way whatever follows it")
            })?;
            completions.push(turn);
        }
        Ok(Rendered { text, completions, has_special_tokens: true })
    }

    /// The bytes of turn `i` in `text`, which is the whole conversation.
    fn turn(&self, text: &str, messages: &[Message], i: usize) -> Result<Option<Range<usize>>> {
        let mut marked = messages.to_vec();
        marked[i].content = MARK.to_owned();
        let around = self.render(&marked, false)?;
        let through = self.render(&marked[..=i], false)?;
        let Some((head, tail)) = around.split_once(MARK) else { return Ok(None) };
        let Some((_, closing)) = through.split_once(MARK) else { return Ok(None) };
        let content = text.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
        let (Some(content), true) = (content, tail.starts_with(closing)) else { return Ok(None) };
        // a template may refuse what no conversation ends with; then the answer itself is the start
        let offered =
            self.render(&messages[..i], true).ok().filter(|offered| head.starts_with(offered.as_str()));
        let start = offered.map_or(head.len(), |offered| offered.len());
        Ok(Some(start..head.len() + content.len() + closing.len()))
    }
}

fn missing(file: &Path, key: &str) -> Error {
    Error::input("missing, needed the model's chat template")
        .file(file)
        .key(key)
        .hint("the model has none: use `data.template = \"exam\"`, or the path of a template file")
}

/// Stands for what a turn says: private characters, which no text has.
const MARK: &str = "\u{E0F0}answer\u{E0F1}";

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
    let detail = e.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let error = Error::input(format!("the template failed: {}{detail}", e.kind())).file(file);
    match e.line() {
        Some(line) => error.line(line as u64),
        None => error,
    }
}

/// The template without `{% generation %}` and `{% endgeneration %}`, which mark answers and print nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag_on)) = rest.split_once("{%") {
        let Some((tag, after)) = tag_on.split_once("%}") else { break };
        let plain = match tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace()) {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        out += &format!("{before}{{%{plain}%}}");
        rest = after;
    }
    out + rest
}
