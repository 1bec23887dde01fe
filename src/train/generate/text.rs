//! Tokens to text as they come: whole characters only, and nothing that may be a stop string's start.

use super::Drawn;
use crate::base::Result;
use crate::data::Tokenizer;

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model wrote an end-of-sequence token.
    Eos,
    /// The text came to a stop string.
    Stop,
    /// It has as many tokens as it may have.
    Length,
}

impl Finish {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// One continuation as it is written.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Its tokens, the one that ended it included.
    pub drawn: Vec<Drawn>,
    /// Its text up to the stop string, without special tokens and whole characters only until it ends.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// The end of the prompt and the tokens of the text.
    ids: Vec<u32>,
    /// Tokens before `read` are in the text. Those from `context` on are decoded again with what follows, since
    /// some tokenizers write a token as its neighbours ask.
    context: usize,
    read: usize,
    /// Bytes of the text that were given out.
    told: usize,
}

/// Tokens of the prompt's end that decide how the first token of the text is written.
const CONTEXT: usize = 6;

impl Transcript {
    /// The start of a continuation of the prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        let (drawn, text, read) = (Vec::new(), String::new(), ids.len());
        Self { drawn, text, finish: Finish::Length, ids, context: 0, read, told: 0 }
    }

    /// Takes the next token; returns whether the text goes on. After `false` nothing may follow.
    pub fn push(&mut self, tokenizer: &Tokenizer, stop: &[String], drawn: Drawn) -> Result<bool> {
        self.drawn.push(drawn);
        if tokenizer.eos().contains(&drawn.token) {
            self.finish = Finish::Eos;
            self.flush(tokenizer, stop)?;
            return Ok(false);
        }
        self.ids.push(drawn.token);
        self.read(tokenizer, stop, false)?;
        Ok(self.finish != Finish::Stop)
    }

    /// Ends a text that has all its tokens: what was held back for more tokens belongs to it.
    pub fn flush(&mut self, tokenizer: &Tokenizer, stop: &[String]) -> Result<()> {
        self.read(tokenizer, stop, true)
    }

    /// What was added to the text since the last call and cannot be the start of a stop string.
    pub fn told(&mut self, stop: &[String], ended: bool) -> &str {
        let held = if ended { 0 } else { held_back(&self.text, stop) };
        let from = self.told;
        self.told = (self.text.len() - held).max(from);
        &self.text[from..self.told]
    }

    /// Adds the text of the tokens that are not read yet, unless they end inside a character and more may
    /// come; cuts the text at the first stop string.
    fn read(&mut self, tokenizer: &Tokenizer, stop: &[String], last: bool) -> Result<()> {
        let before = tokenizer.decode(&self.ids[self.context..self.read], true)?;
        let with = tokenizer.decode(&self.ids[self.context..], true)?;
        if !last && with.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(());
        }
        let known = before.chars().zip(with.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8());
        let new = &with[known.sum::<usize>()..];
        // a stop string may begin in the text that was there
        let longest = stop.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text += new;
        (self.context, self.read) = (self.read, self.ids.len());
        if let Some(at) = stop.iter().filter_map(|stop| self.text[from..].find(stop.as_str())).min() {
            self.text.truncate(from + at);
            self.finish = Finish::Stop;
        }
        Ok(())
    }
}

/// Bytes at the text's end that a stop string may begin with.
fn held_back(text: &str, stop: &[String]) -> usize {
    let of_one = |stop: &String| {
        let lengths = (1..stop.len()).rev().filter(|&n| stop.is_char_boundary(n));
        lengths.into_iter().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
    };
    stop.iter().map(of_one).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_stop_string_is_held_back() {
        let stop = ["\n\n".to_owned(), "END.".to_owned(), "né".to_owned()];
        for (text, held) in [("", 0), ("a", 0), ("a\n", 1), ("a EN", 2), ("a END", 3), ("n", 1), ("EéE", 1)]
        {
            assert_eq!(held_back(text, &stop), held, "{text:?}");
        }
    }
}
