//! Cuts text into tokens: words, strings and single characters.

/// A piece of text and its line, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// The piece: a word (`ld.global.f32`, `%r1`, `0f3F800000`, `.reg`), a string with its quotes, or one
    /// character.
    pub text: &'t str,
    /// Its line.
    pub line: u32,
}

/// A position in a module's tokens. Errors start with the PTX line.
pub struct Tokens<'t> {
    list: Vec<Token<'t>>,
    position: usize,
}

impl<'t> Tokens<'t> {
    /// Cuts a whole module.
    pub fn new(text: &'t str) -> Result<Self, String> {
        let (mut list, mut line) = (Vec::new(), 1);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '\n' => {
                    line += 1;
                    1
                }
                _ if first.is_whitespace() || first == '\0' => first.len_utf8(),
                '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '/' if rest.starts_with("/*") => {
                    let end = rest.find("*/").ok_or(format!("PTX line {line}: comment without an end"))? + 2;
                    line += rest[..end].matches('\n').count() as u32;
                    end
                }
                '"' => {
                    let end =
                        rest[1..].find('"').ok_or(format!("PTX line {line}: string without an end"))? + 2;
                    list.push(Token { text: &rest[..end], line });
                    line += rest[..end].matches('\n').count() as u32;
                    end
                }
                _ => {
                    let end = word(rest).unwrap_or(first.len_utf8());
                    list.push(Token { text: &rest[..end], line });
                    end
                }
            };
            rest = &rest[length..];
        }
        Ok(Self { list, position: 0 })
    }

    /// The next token's text; empty at the end.
    pub fn peek(&self) -> &'t str {
        self.list.get(self.position).map_or("", |token| token.text)
    }

    /// The text of the token after the next; empty at the end.
    pub fn peek_second(&self) -> &'t str {
        self.list.get(self.position + 1).map_or("", |token| token.text)
    }

    /// The next token's line; the last line at the end.
    pub fn line(&self) -> u32 {
        self.list.get(self.position).or(self.list.last()).map_or(1, |token| token.line)
    }

    /// Whether nothing is left.
    pub fn done(&self) -> bool {
        self.position >= self.list.len()
    }

    /// Takes the next token; empty at the end.
    pub fn take(&mut self) -> &'t str {
        let text = self.peek();
        self.position += 1;
        text
    }

    /// Takes the next token if it is `text`.
    pub fn accept(&mut self, text: &str) -> bool {
        let found = !self.done() && self.peek() == text;
        self.position += usize::from(found);
        found
    }

    /// Takes the next token, which must be `text`.
    pub fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.accept(text) {
            Ok(())
        } else {
            Err(self.error(&format!("expected `{text}`, found `{}`", self.peek())))
        }
    }

    /// Takes the next token, which must be a number of an unsigned type.
    pub fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let text = self.peek();
        let number = text.parse().map_err(|_| self.error(&format!("expected a number, found `{text}`")))?;
        self.take();
        Ok(number)
    }

    /// Takes the tokens that stand on `line`.
    pub fn take_line(&mut self, line: u32) -> Vec<&'t str> {
        let mut taken = Vec::new();
        while !self.done() && self.line() == line {
            taken.push(self.take());
        }
        taken
    }

    /// Skips `{ .. }` with all that it nests.
    pub fn skip_braces(&mut self) -> Result<(), String> {
        self.expect("{")?;
        let mut depth = 1;
        while depth > 0 {
            if self.done() {
                return Err(self.error("`{` without `}`"));
            }
            match self.take() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// A message that starts with the current line.
    pub fn error(&self, message: &str) -> String {
        format!("PTX line {}: {message}", self.line())
    }
}

/// Bytes of the word that `text` starts with. `::` belongs to a word, a single colon ends it. Directives end
/// at the next dot: `.reg.b32` is two.
fn word(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let decimal = bytes[0].is_ascii_digit()
        && !text.starts_with("0x")
        && !text.starts_with("0f")
        && !text.starts_with("0d");
    let mut end = 0;
    while let Some(&byte) = bytes.get(end) {
        let exponent =
            decimal && matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
        match byte {
            b'.' if end > 0 && bytes[0] == b'.' => break,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'.' | b'%' => end += 1,
            b':' if bytes.get(end + 1) == Some(&b':') => end += 2,
            _ if exponent => end += 1,
            _ => break,
        }
    }
    (end > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        Tokens::new(text).unwrap().list.iter().map(|token| token.text).collect()
    }

    #[test]
    fn instructions_are_cut_at_punctuation() {
        assert_eq!(
            texts("@!%p1 ld.global.v2.f32 {%f1, _}, [%rd1+-8]; // why"),
            [
                "@",
                "!",
                "%p1",
                "ld.global.v2.f32",
                "{",
                "%f1",
                ",",
                "_",
                "}",
                ",",
                "[",
                "%rd1",
                "+",
                "-",
                "8",
                "]",
                ";"
            ]
        );
        assert_eq!(
            texts("$L__BB0_1: x.shared::cta.y %p|%q"),
            ["$L__BB0_1", ":", "x.shared::cta.y", "%p", "|", "%q"]
        );
        assert_eq!(texts(".reg.b32 %r<10>;"), [".reg", ".b32", "%r", "<", "10", ">", ";"]);
    }

    #[test]
    fn numbers_keep_their_exponents() {
        assert_eq!(texts("1.5e-3 0f3F80000E-1 2-1"), ["1.5e-3", "0f3F80000E", "-", "1", "2", "-", "1"]);
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let mut tokens = Tokens::new("a /* 1\n2 */ b\n\"x y\" c").unwrap();
        let mut seen = Vec::new();
        while !tokens.done() {
            let line = tokens.line();
            seen.push((line, tokens.take()));
        }
        assert_eq!(seen, [(1, "a"), (2, "b"), (3, "\"x y\""), (3, "c")]);
    }

    #[test]
    fn what_never_ends_is_an_error() {
        assert_eq!(Tokens::new("a\n/* b").err().unwrap(), "PTX line 2: comment without an end");
        assert_eq!(Tokens::new("\"b").err().unwrap(), "PTX line 1: string without an end");
        assert_eq!(Tokens::new("{ a").unwrap().skip_braces().unwrap_err(), "PTX line 1: `{` without `}`");
    }
}
