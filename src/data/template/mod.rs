//! Templates: what a line says, as the text that the model reads.

mod chat;
mod exam;
mod json;

use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::{Environment, context};

pub use chat::Chat;

use super::line::{Instruction, Line, Mcqa, Message, Role, letter};
use super::{Body, Format};
use crate::base::{Error, Result};
use crate::data::tokenizer::Tokenizer;

/// A text and the parts of it that are learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// The bytes of each completion, in order.
    pub completions: Vec<Range<usize>>,
    /// Whether the text has its special tokens already.
    pub has_special_tokens: bool,
}

impl Rendered {
    /// A prompt and the one completion that follows it.
    pub fn completion(prompt: String, completion: &str) -> Self {
        let span = prompt.len()..prompt.len() + completion.len();
        Self { text: prompt + completion, completions: vec![span], has_special_tokens: false }
    }
}

/// How the lines of a data set become text.
#[derive(Debug)]
pub enum Template {
    /// The `exam` template: a plain prompt that ends with a cue.
    Exam,
    /// Turns of a conversation.
    Chat(Chat),
    /// The user's own prompt.
    Prompt(Prompt),
}

/// A minijinja file that writes the prompt; the completion follows it.
#[derive(Debug)]
pub struct Prompt {
    environment: Environment<'static>,
    file: PathBuf,
}

impl Template {
    /// The template called `name` (`exam`, `chat`, or the path of a minijinja file) for lines of `format`.
    ///
    /// `model` is the model's folder. `messages` are turns whatever the template: under `exam` they use
    /// the model's chat template, and a file must be a chat template.
    pub fn open(name: &str, format: Format, model: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        match (name, format) {
            ("chat", _) | ("exam", Format::Messages) => Chat::of_model(model, tokenizer).map(Self::Chat),
            ("exam", _) => Ok(Self::Exam),
            (file, Format::Messages) => Chat::of_file(Path::new(file), tokenizer).map(Self::Chat),
            (file, _) => Prompt::open(Path::new(file)).map(Self::Prompt),
        }
    }

    /// The text of a line with its completion, of a preference the chosen one.
    pub fn line(&self, line: &Line) -> Result<Rendered> {
        match &line.body {
            Body::Mcqa(mcqa) => self.mcqa(&[], line, &letter(mcqa.answer).to_string()),
            Body::PromptCompletion(line) => self.prompt_completion(&line.prompt, &line.completion),
            Body::Messages(messages) => self.messages(messages),
            Body::Instruction(line) => self.instruction(line),
            Body::Text(text) => Ok(Rendered::completion(text.clone(), "")),
            Body::Preference(pair) => self.prompt_completion(&pair.prompt, &pair.chosen),
            Body::Tokens(_) => Err(Error::input("found token ids, needed a text")),
        }
    }

    /// A question with `answer`, a letter or an option's text; `shots` are solved ones that precede it.
    pub(super) fn mcqa(&self, shots: &[&Line], line: &Line, answer: &str) -> Result<Rendered> {
        let mcqa = question_of(line)?;
        let solved = shots.iter().map(|shot| question_of(shot)).collect::<Result<Vec<_>>>()?;
        match self {
            Self::Exam => Ok(exam::mcqa(&solved, mcqa, answer)),
            Self::Chat(chat) => {
                let turns = |mcqa, answer: &str| exchange(exam::question(mcqa).trim_end(), answer);
                let mut messages: Vec<Message> =
                    solved.iter().flat_map(|&shot| turns(shot, &letter(shot.answer).to_string())).collect();
                messages.extend(turns(mcqa, answer));
                let mut rendered = chat.conversation(&messages)?;
                rendered.completions.drain(..solved.len()); // the shots are not learned
                Ok(rendered)
            }
            Self::Prompt(prompt) => {
                let mut text = String::new();
                for (shot, mcqa) in shots.iter().zip(solved) {
                    let shot = follow(prompt.mcqa(shot, mcqa)?, &letter(mcqa.answer).to_string());
                    text += &(shot.text + "\n\n");
                }
                Ok(follow(text + &prompt.mcqa(line, mcqa)?, answer))
            }
        }
    }

    /// An instruction with its output.
    fn instruction(&self, line: &Instruction) -> Result<Rendered> {
        let Instruction { instruction, input, output } = line;
        match self {
            Self::Exam => Ok(exam::instruction(line)),
            Self::Chat(chat) => {
                let text = format!("{instruction}\n\n{input}");
                chat.conversation(&exchange(text.trim_end(), output))
            }
            Self::Prompt(prompt) => Ok(follow(prompt.render(context! { instruction, input })?, output)),
        }
    }

    /// A prompt with its completion, as they are unless they become turns.
    pub(super) fn prompt_completion(&self, prompt: &str, completion: &str) -> Result<Rendered> {
        match self {
            Self::Exam => Ok(Rendered::completion(prompt.to_owned(), completion)),
            Self::Chat(chat) => chat.conversation(&exchange(prompt, completion)),
            Self::Prompt(file) => Ok(Rendered::completion(file.render(context! { prompt })?, completion)),
        }
    }

    /// A conversation that is to be answered: all of it, but for a last turn of an assistant's.
    pub(super) fn to_answer(&self, messages: &[Message]) -> Result<Rendered> {
        match (self, messages.last()) {
            (Self::Chat(chat), Some(last)) if last.role != Role::Assistant => {
                let (text, completions) = (chat.render(messages, true)?, Vec::new());
                Ok(Rendered { text, completions, has_special_tokens: true })
            }
            _ => self.messages(messages),
        }
    }

    /// A conversation.
    fn messages(&self, messages: &[Message]) -> Result<Rendered> {
        match self {
            Self::Chat(chat) => chat.conversation(messages),
            Self::Exam | Self::Prompt(_) => Err(Error::input("a conversation needs a chat template")
                .key("data.template")
                .hint("use `data.template = \"chat\"`")),
        }
    }
}

impl Prompt {
    fn open(file: &Path) -> Result<Self> {
        let source = crate::base::files::read_text(file).map_err(|e| {
            e.key("data.template").hint("a template is `exam`, `chat` or the path of a minijinja file")
        })?;
        Ok(Self { environment: chat::environment(&source, file)?, file: file.to_path_buf() })
    }

    fn render(&self, variables: minijinja::Value) -> Result<String> {
        chat::render(&self.environment, variables, &self.file)
    }

    fn mcqa(&self, line: &Line, mcqa: &Mcqa) -> Result<String> {
        let Mcqa { question, options, context, .. } = mcqa;
        let letters: Vec<String> = (0..options.len()).map(|i| letter(i).to_string()).collect();
        self.render(context! { question, options, letters, context, subject => line.subject.as_deref() })
    }
}

/// The completion after a prompt of the user's own: a blank parts them unless the prompt ends with one.
fn follow(prompt: String, completion: &str) -> Rendered {
    let blank = if prompt.is_empty() || prompt.ends_with(char::is_whitespace) { "" } else { " " };
    Rendered::completion(prompt, &format!("{blank}{completion}"))
}

fn exchange(prompt: &str, completion: &str) -> [Message; 2] {
    [Message::new(Role::User, prompt), Message::new(Role::Assistant, completion)]
}

fn question_of(line: &Line) -> Result<&Mcqa> {
    match &line.body {
        Body::Mcqa(mcqa) => Ok(mcqa),
        _ => Err(Error::input("found a line of another format, needed a multiple-choice question")),
    }
}
