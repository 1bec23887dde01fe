//! The parameters of a kernel, read from its source: what a launch's arguments are held against.
//!
//! The driver knows a parameter's size at best. The source says more: the element type of each pointer and
//! whether the kernel may write through it.

use crate::base::{Error, Result};

/// A type that crosses the border between Rust and a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Rust's names of the same types")]
pub enum Type {
    Bf16,
    F32,
    F64,
    U8,
    I32,
    U32,
    I64,
    U64,
}

impl Type {
    /// The type that CUDA calls `name`.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bf16" => Self::Bf16,
            "float" => Self::F32,
            "double" => Self::F64,
            "unsigned char" => Self::U8,
            "int" => Self::I32,
            "unsigned" | "unsigned int" => Self::U32,
            "long long" => Self::I64,
            "unsigned long long" => Self::U64,
            _ => return None,
        })
    }
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `T* x` or, if it is not writable, `const T* x`.
    Pointer {
        /// T.
        to: Type,
        /// Whether the kernel may write there.
        writable: bool,
    },
    /// A value.
    Value(Type),
    /// `const __grid_constant__ tensor_map x`: a matrix and its tiles.
    TensorMap,
}

/// The parameters of the entry `name` in the text of a `.cu` file.
///
/// The list stands there in full, `extern "C" __global__ ... name(parameters)`, or in a macro with arguments
/// that the file defines and uses at the start of a line.
pub fn parameters(text: &str, name: &str) -> Result<Vec<Parameter>> {
    let text = plain(text);
    let list = list_of(&text, name).ok_or_else(|| {
        Error::input(format!("there is no `extern \"C\" __global__` entry with that name: `{name}`"))
            .hint("write the entry in the file itself, by a macro at most that is defined there")
    })?;
    list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(parameter).collect()
}

/// The names of all entries in the text of a `.cu` file, in order.
pub fn entries(text: &str) -> Vec<String> {
    let text = plain(text);
    entry_heads(&text).filter_map(|head| head_name(head).map(str::to_owned)).collect()
}

/// What follows each `__global__`.
fn entry_heads(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("__global__").map(|(at, word)| &text[at + word.len()..])
}

/// The name in `void __launch_bounds__(...) name(...)`.
fn head_name(head: &str) -> Option<&str> {
    let rest = skip_launch_bounds(head);
    let open = rest.find('(')?;
    rest[..open].split_whitespace().next_back()
}

fn list_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let head = entry_heads(text).find(|head| head_name(head) == Some(name))?;
    let rest = skip_launch_bounds(head);
    rest[rest.find('(')? + 1..].split(')').next()
}

/// The text after `__launch_bounds__(...)`, if that comes before the entry's name.
fn skip_launch_bounds(head: &str) -> &str {
    let Some((before, after)) = head.split_once("__launch_bounds__") else { return head };
    if before.contains('(') {
        return head;
    }
    let mut open = 0;
    let end = after.find(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open == 0 && c == ')'
    });
    end.map_or(after, |end| &after[end + 1..])
}

fn parameter(text: &str) -> Result<Parameter> {
    let unknown = || Error::input(format!("a kernel's parameter of a kind that is not known: `{text}`"));
    let (before, pointer) = match text.split_once('*') {
        Some((before, _)) => (before, true),
        // the last word is the parameter's name
        None => (text.trim_end().rsplit_once(char::is_whitespace).ok_or_else(unknown)?.0, false),
    };
    let constant = before.split_whitespace().any(|word| word == "const");
    let qualifiers = ["const", "__grid_constant__"];
    let name: Vec<&str> = before.split_whitespace().filter(|word| !qualifiers.contains(word)).collect();
    let name = name.join(" ");
    // A pointer to vectors is a pointer to their elements, better aligned.
    if name == "tensor_map" && !pointer {
        return Ok(Parameter::TensorMap);
    }
    let name = if pointer { vector_element(&name).unwrap_or(&name) } else { &name };
    let to = Type::named(name).ok_or_else(unknown)?;
    Ok(if pointer { Parameter::Pointer { to, writable: !constant } } else { Parameter::Value(to) })
}

/// `unsigned` of `uint4`, and so on.
fn vector_element(name: &str) -> Option<&str> {
    let element = name.strip_suffix(['2', '4'])?;
    match element {
        "uint" => Some("unsigned"),
        "int" | "float" => Some(element),
        _ => None,
    }
}

/// The text without comments, and with macros that make entries written out.
fn plain(text: &str) -> String {
    let mut text = without_comments(text).replace("\\\n", " ");
    let is_definition = |line: &&str| line.starts_with("#define") && line.contains("__global__");
    let definitions: Vec<String> = text.lines().filter(is_definition).map(str::to_owned).collect();
    for definition in definitions {
        let used = Macro::read(&definition).map_or_else(String::new, |m| m.uses(&text));
        text = text.replacen(&definition, &used, 1);
    }
    text
}

/// `#define name(parameters) body`
struct Macro<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
    body: &'a str,
}

impl<'a> Macro<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.strip_prefix("#define")?.trim_start().split_once('(')?;
        let (parameters, body) = rest.split_once(')')?;
        Some(Self { name, parameters: parameters.split(',').map(str::trim).collect(), body })
    }

    /// The body once for each line that uses the macro.
    fn uses(&self, text: &str) -> String {
        let used = text.lines().filter_map(|line| {
            let list = line.strip_prefix(self.name)?.strip_prefix('(')?;
            Some(self.expand(&list.split(')').next()?.split(',').map(str::trim).collect::<Vec<_>>()))
        });
        used.collect::<Vec<_>>().join("\n")
    }

    /// The body with arguments in place of parameters; `##` joins its neighbours.
    fn expand(&self, arguments: &[&str]) -> String {
        let mut out = String::new();
        let mut rest = self.body;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let end = if end > 0 { end } else { rest.chars().next().map_or(1, char::len_utf8) };
            let (token, after) = rest.split_at(end);
            let at = self.parameters.iter().position(|parameter| *parameter == token);
            out.push_str(at.and_then(|at| arguments.get(at)).unwrap_or(&token));
            rest = after;
        }
        out.split("##").map(str::trim).collect()
    }
}

/// The text without `//` and `/* */` comments.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        out.push_str(&rest[..at]);
        let comment = &rest[at..];
        let end = match comment.starts_with("//") {
            true => comment.find('\n'),
            false => comment.find("*/").map(|end| end + 2),
        };
        rest = end.map_or("", |end| &comment[end..]);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::Sources;

    #[test]
    fn types_pointers_and_values_are_told_apart() {
        let text = r#"
            // extern "C" __global__ void f(int in_a_comment)
            extern "C" __global__ void __launch_bounds__(Team::MAX * (1 + 1)) f(
                bf16* __restrict__ y_ND,       // [N, D] out, of a kind
                const unsigned long long *x /* , */, const __grid_constant__ tensor_map a, float eps, const int N, unsigned seed) { g(1, 2); }
            __global__ void __launch_bounds__(32, 2) other() {}
        "#;
        let pointer = |to, writable| Parameter::Pointer { to, writable };
        let expected = [
            pointer(Type::Bf16, true),
            pointer(Type::U64, false),
            Parameter::TensorMap,
            Parameter::Value(Type::F32),
            Parameter::Value(Type::I32),
            Parameter::Value(Type::U32),
        ];
        assert_eq!(parameters(text, "f").unwrap(), expected);
        assert_eq!(parameters(text, "other").unwrap(), []);
        assert_eq!(entries(text), ["f", "other"]);
        assert!(parameters(text, "g").is_err());
        assert!(parameters("__global__ void f(half* x)", "f").is_err());
    }

    #[test]
    fn macros_of_the_same_file_make_entries() {
        let text = "\
#define ENTRY(width, element) \\
    extern \"C\" __global__ void __launch_bounds__(width) f_e##width##_bf16( \\
        element* y, const uint4* keep, int width) { f<width>(y); }
ENTRY(64, bf16)
ENTRY(128, float)
";
        assert_eq!(entries(text), ["f_e64_bf16", "f_e128_bf16"]);
        let pointer = |to, writable| Parameter::Pointer { to, writable };
        let found = parameters(text, "f_e128_bf16").unwrap();
        assert_eq!(found[..2], [pointer(Type::F32, true), pointer(Type::U32, false)]);
    }

    #[test]
    fn every_entry_of_our_kernels_is_understood() {
        for name in Sources::names() {
            let text = Sources::Embedded.read(name).unwrap().text;
            let entries = entries(&text);
            assert!(!entries.is_empty(), "{name}.cu has no entry");
            for entry in entries {
                parameters(&text, &entry).unwrap_or_else(|e| panic!("{name}.cu, {entry}: {e}"));
            }
        }
    }
}
