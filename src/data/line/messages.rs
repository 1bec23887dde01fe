//! A conversation: `{"messages":[{"role","content"}]}`.

use serde::Serialize;

use super::fields::{self, Fields};
use crate::base::{Error, Result};

/// One turn of a conversation, as chat templates see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who sets the rules.
    System,
    /// Who asks.
    User,
    /// Who answers; these turns carry the loss.
    Assistant,
    /// A tool's result.
    Tool,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Vec<Message>> {
    let list = fields.list("messages")?;
    let messages = list.iter().enumerate().map(|(i, value)| message(value, i)).collect::<Result<Vec<_>>>()?;
    if !messages.iter().any(|message| message.role == Role::Assistant) {
        return Err(Error::input("found no message of the role assistant, which alone carries loss")
            .key("messages")
            .hint("add the answer to learn, or remove the line"));
    }
    Ok(messages)
}

fn message(value: &serde_json::Value, index: usize) -> Result<Message> {
    let place = format!("messages[{index}]");
    let object = value.as_object().ok_or_else(|| {
        let found = fields::describe(value);
        Error::input(format!("found {found}, needed an object with `role` and `content`")).key(&place)
    })?;
    let fields = Fields(object);
    let key = |name: &str| format!("{place}.{name}");
    let text = |name: &str| match object.get(name) {
        Some(value) => fields::text(value, &key(name)),
        None => Err(Error::input("missing").key(key(name))),
    };
    let role = match text("role")? {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let what = format!("found {other:?}, needed system, user, assistant or tool");
            return Err(Error::input(what).key(key("role")));
        }
    };
    let content = text("content")?;
    if role == Role::Assistant {
        fields.filled("content").map_err(|_| {
            Error::input("found an empty answer, needed one that says something").key(key("content"))
        })?;
    }
    Ok(Message::new(role, content))
}
