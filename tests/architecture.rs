//! The house rules of `src`, read from its text: who may use whom, where `unsafe` may stand, and how long a
//! file may be.

use std::path::{Path, PathBuf};
use std::{fs, iter};

/// Every top-level module of `src` and the modules it may use; a module uses only those above it.
///
/// Neighbours on one floor do not see each other, but for the one door from `model` to `adapter`.
const HOUSE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("tensor", &["base"]),
    ("device", &["base", "tensor"]),
    ("ops", &["base", "tensor", "device"]),
    ("adapter", &["base", "tensor", "device", "ops"]),
    ("model", &["base", "tensor", "device", "ops", "adapter"]),
    ("data", &["base", "tensor"]),
    ("sampler", &["base", "tensor"]),
    ("report", &["base", "tensor"]),
    ("train", &["base", "tensor", "device", "ops", "adapter", "model", "data", "sampler", "report"]),
    (
        "config",
        &["base", "tensor", "device", "ops", "adapter", "model", "data", "sampler", "report", "train"],
    ),
    (
        "recipes",
        &[
            "base", "tensor", "device", "ops", "adapter", "model", "data", "sampler", "report", "train",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "base", "tensor", "device", "ops", "adapter", "model", "data", "sampler", "report", "train",
            "config", "recipes",
        ],
    ),
    ("main", &["cli"]),
];

/// The folders in which `unsafe` may stand.
const UNSAFE: &[&str] = &["src/device/", "src/tensor/"];

/// The folders that know which devices there are; a second device adds to these alone.
const DEVICES: &[&str] = &["src/device/", "src/ops/"];
/// The names of devices.
const DEVICE_NAMES: &[&str] = &["Cpu", "cpu", "Cuda", "cuda"];

/// The longest file, in lines, that needs no reason.
const LONGEST: usize = 600;

/// The line with which a longer file gives one, among its first [`TOP`] lines.
const REASONS: &[&str] = &["// Reason for length:", "//! Reason for length:"];
const TOP: usize = 30;

#[test]
fn every_file_of_src_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 20, "found only {} files under src", files.len());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(root).expect("found under the root").display().to_string();
            check(&path, &fs::read_to_string(file).expect("a readable source file"))
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_house_stands_on_its_ground() {
    for (floor, (module, uses)) in HOUSE.iter().enumerate() {
        for used in *uses {
            let below = HOUSE[..floor].iter().any(|(name, _)| name == used);
            assert!(below, "`{module}` may use `{used}`, which is not below it");
        }
    }
}

/// The faults of the file at `path` (from the repository's root, such as `src/data/mod.rs`).
fn check(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut faults = wrong_edges(path, &tokens);
    if !UNSAFE.iter().any(|folder| path.starts_with(folder)) {
        let found = tokens.iter().filter(|t| t.text == "unsafe");
        faults.extend(found.map(|t| format!("{path}:{}: `unsafe` is allowed only in {UNSAFE:?}", t.line)));
    }
    if !DEVICES.iter().any(|folder| path.starts_with(folder)) {
        // `Device::Cpu`, `device::cpu`
        let found = tokens.windows(3).filter(|t| {
            t[0].text.eq_ignore_ascii_case("device") && t[1].text == "::" && DEVICE_NAMES.contains(&t[2].text)
        });
        faults.extend(found.map(|t| format!("{path}:{}: only {DEVICES:?} may name a device", t[0].line)));
    }
    let lines = text.lines().count();
    let has_reason = || text.lines().take(TOP).any(|l| REASONS.iter().any(|r| l.starts_with(r)));
    if lines > LONGEST && !has_reason() {
        faults.push(format!("{path}: {lines} lines; split it, or say why under `{}`", REASONS[1]));
    }
    faults
}

/// Paths from the crate's root that leave the module for one it may not use.
fn wrong_edges(path: &str, tokens: &[Token]) -> Vec<String> {
    let module = module_path(path);
    let Some(&home) = module.first() else {
        return Vec::new(); // lib.rs declares the house
    };
    let Some((_, uses)) = HOUSE.iter().find(|(name, _)| *name == home) else {
        return vec![format!("{path}: `{home}` has no row in the table of tests/architecture.rs")];
    };
    let mut faults = Vec::new();
    for (line, used) in root_names(tokens, module.len()) {
        if used != home && !uses.contains(&used) {
            faults.push(format!("{path}:{line}: `{home}` may not use `crate::{used}`"));
        }
    }
    faults
}

/// `src/data/pack.rs` is `[data, pack]`, `src/data/mod.rs` is `[data]`, `src/lib.rs` is the root, `[]`.
fn module_path(path: &str) -> Vec<&str> {
    let inner =
        path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")).expect("a path of a source file");
    let mut module: Vec<&str> = inner.split('/').collect();
    if module == ["lib"] || module.last() == Some(&"mod") {
        module.pop();
    }
    module
}

/// The names that follow the crate's root in any path, with their lines: after `crate::`, `preceptor::`, or
/// as many `super::` as lead out of the module, which is `depth` levels below the root at the file's top.
fn root_names<'a>(tokens: &[Token<'a>], depth: usize) -> Vec<(usize, &'a str)> {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|t: &Token| t.text == text);
    let mut names = Vec::new();
    let mut inline_modules: Vec<bool> = Vec::new(); // for each open brace, whether it is a module's
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "{" => inline_modules.push(at >= 2 && is(at - 2, "mod")),
            "}" => drop(inline_modules.pop()),
            "crate" | "preceptor" if is(at + 1, "::") => names.extend(heads(&tokens[at + 2..])),
            "crate" if is(at + 1, "as") => names.push((tokens[at].line, "as")),
            "super" => {
                let depth = depth + inline_modules.iter().filter(|m| **m).count();
                let mut levels = 1;
                while is(at + 1, "::") && is(at + 2, "super") {
                    (at, levels) = (at + 2, levels + 1);
                }
                if levels >= depth && is(at + 1, "::") {
                    names.extend(heads(&tokens[at + 2..]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    names
}

/// The first names of a path's rest: one, or in `{a::b, c::{d, e}}` one for each part (here a and c).
fn heads<'a>(rest: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let Some(first) = rest.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.line, first.text)];
    }
    let mut names = Vec::new();
    let (mut open, mut starts) = (0, false);
    for token in rest {
        match token.text {
            "{" => (open, starts) = (open + 1, open == 0),
            "}" if open == 1 => break,
            "}" => open -= 1,
            "," => starts = open == 1,
            name => {
                if starts && name != "self" {
                    names.push((token.line, name));
                }
                starts = false;
            }
        }
    }
    names
}

/// A word, `::`, or one other character of the code.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The code's tokens; comments, strings and character literals are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = comment(rest).or_else(|| literal(rest));
        let length = skipped.or_else(|| word(rest)).unwrap_or_else(|| match rest {
            _ if rest.starts_with("::") => 2,
            _ => rest.chars().next().map_or(1, char::len_utf8),
        });
        let token = &rest[..length];
        if skipped.is_none() && !token.trim().is_empty() {
            let line = 1 + text[..at].matches('\n').count();
            found.push(Token { text: token.trim_start_matches("r#"), line });
        }
        at += length;
    }
    found
}

/// The length of the word that `rest` starts with.
fn word(rest: &str) -> Option<usize> {
    let plain = rest.strip_prefix("r#").unwrap_or(rest);
    let end = plain.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(plain.len());
    (end > 0).then_some(rest.len() - plain.len() + end)
}

/// The length of the comment that `rest` starts with; block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut open, mut at) = (0, 0);
    loop {
        match rest.as_bytes().get(at..at + 2) {
            None => return Some(rest.len()),
            Some(b"/*") => (open, at) = (open + 1, at + 2),
            Some(b"*/") if open == 1 => return Some(at + 2),
            Some(b"*/") => (open, at) = (open - 1, at + 2),
            Some(_) => at += 1,
        }
    }
}

/// The length of the string or character literal that `rest` starts with; a lifetime is neither.
fn literal(rest: &str) -> Option<usize> {
    let quoted = |prefix: usize, quote: u8| {
        let mut escaped = false;
        let end = rest.bytes().skip(prefix + 1).position(|b| {
            let ends = b == quote && !escaped;
            escaped = b == b'\\' && !escaped;
            ends
        });
        end.map_or(rest.len(), |end| prefix + 1 + end + 1)
    };
    let letters = rest.find(|c: char| !matches!(c, 'b' | 'c' | 'r')).filter(|&n| n <= 2)?;
    let after = &rest[letters..];
    if rest[..letters].ends_with('r') {
        let hashes = after.bytes().take_while(|b| *b == b'#').count();
        let end: String = iter::once('"').chain(iter::repeat_n('#', hashes)).collect();
        let body = after[hashes..].strip_prefix('"')?;
        return Some(letters + hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    match after.as_bytes() {
        [b'"', ..] => Some(quoted(letters, b'"')),
        [b'\'', b'\\', ..] => Some(quoted(letters, b'\'')),
        [b'\'', ..] => {
            let one = after[1..].chars().next()?.len_utf8();
            after[1 + one..].starts_with('\'').then_some(letters + 1 + one + 1)
        }
        _ => None,
    }
}

/// The Rust files under a folder, sorted by path.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a readable folder")
        .map(|e| e.expect("a readable entry").path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => Vec::from_iter(path.extension().is_some_and(|e| e == "rs").then_some(path)),
        })
        .collect()
}

/// The checker itself: what it must refuse, and what it must not be fooled by.
mod checker {
    use super::*;

    fn faults(path: &str, text: &str) -> usize {
        check(path, text).len()
    }

    #[test]
    fn edges_upwards_and_sideways_are_refused_in_every_spelling() {
        for text in [
            "use crate::train::Trainer;",
            "use crate::{base::Error, train::Trainer};",
            "use crate::{\n    base::{Error, Result},\n    train,\n};",
            "pub use crate::cli as roof;",
            "fn f(x: &crate::model::Decoder) {}",
            "fn f() { let x = [0; { preceptor::sampler::PARTS }]; }",
            "use super::super::train;",
            "mod inner { mod deep { use super::super::super::super::{report}; } }",
            "use crate :: r#train :: Trainer;",
            "use crate::*;",
            "use crate as root;",
            "macro_rules! m { () => { $crate::train::Trainer } }",
            "const Q: char = '\"'; use crate::train; const R: char = '\"';",
            "const Q: &str = \"\\\\\"; use crate::train; const R: &str = \"\";",
            "/* /* */ */ use crate::train; /* */",
            "fn f<'a>(x: &'a str) -> &'a str { crate::train::f(x) } // 'a'",
            "const Q: &str = r#\"\"\"#; use crate::train; const R: &str = r#\"\"\"#;",
        ] {
            assert_eq!(faults("src/data/pack.rs", text), 1, "{text}");
        }
        assert_eq!(faults("src/data/mod.rs", "use super::train;"), 1);
        assert_eq!(faults("src/main.rs", "fn main() { preceptor::train::run() }"), 1);
        assert_eq!(faults("src/adapter/lora.rs", "use crate::model::Decoder;"), 1);
        assert_eq!(faults("src/data/pack.rs", "use crate::{train, report};\nuse crate::cli;"), 3);
    }

    #[test]
    fn edges_downwards_and_inside_are_allowed() {
        for text in [
            "use crate::base::{Error, Result};",
            "use crate::{base::{self, Error}, tensor::Forest, data::format};",
            "use super::train; use super::{report, cli};", // data::train and so on
            "mod tests { use super::*; use super::super::train; }",
            "pub(crate) fn f() {} pub(super) fn g() {} pub(in crate::data) fn h() {}",
            "fn f() { {} } use super::train;",
        ] {
            assert_eq!(check("src/data/pack.rs", text), [""; 0], "{text}");
        }
        assert_eq!(faults("src/model/decoder.rs", "use crate::adapter::Lora;"), 0);
        assert_eq!(faults("src/lib.rs", "pub mod train; pub use crate::train::Trainer;"), 0);
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for text in [
            "// use crate::train;",
            "/// See [`crate::train`].",
            "/* use crate::train; /* unsafe */ crate::train */",
            "const X: &str = \"use crate::train; \\\" unsafe\";",
            "const X: &str = r##\"\"# crate::train unsafe\"##;",
            "const X: &[u8] = b\"crate::train\";",
            "const X: (char, char) = ('\\'', '\"'); const Y: &str = \"crate::train\";",
        ] {
            assert_eq!(check("src/data/pack.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_module_without_a_row_is_refused() {
        assert_eq!(faults("src/helpers/mod.rs", ""), 1);
        assert_eq!(faults("src/helpers.rs", ""), 1);
    }

    #[test]
    fn unsafe_stands_only_where_it_may() {
        let text = "fn f(x: *const u8) -> u8 { unsafe { *x } }";
        assert_eq!(faults("src/data/pack.rs", text), 1);
        assert_eq!(faults("src/device/arena.rs", text), 0);
        assert_eq!(faults("src/data/pack.rs", "#![deny(unsafe_code)]"), 0);
    }

    #[test]
    fn a_device_is_named_only_where_it_computes() {
        let text = "fn f(d: &Device) { let Device::Cpu(_) = d; }";
        assert_eq!(faults("src/adapter/merge.rs", text), 1);
        assert_eq!(faults("src/adapter/merge.rs", "use crate::device::cpu::Mat;"), 1);
        assert_eq!(faults("src/ops/lora.rs", text), 0);
        assert_eq!(faults("src/adapter/merge.rs", "fn f(d: &Device) {}"), 0);
    }

    #[test]
    fn a_long_file_needs_a_reason_at_its_top() {
        let long = "\n".repeat(LONGEST + 1);
        assert_eq!(faults("src/data/pack.rs", &long[1..]), 0);
        assert_eq!(faults("src/data/pack.rs", &long), 1);
        assert_eq!(faults("src/data/pack.rs", &format!("//! Reason for length: a table.{long}")), 0);
        assert_eq!(faults("src/data/pack.rs", &format!("{long}// Reason for length: a table.")), 1);
    }

    #[test]
    fn a_fault_names_file_and_line() {
        let found = check("src/data/pack.rs", "//! Packing.\n\nuse crate::{\n    base,\n    train,\n};\n");
        assert_eq!(found, ["src/data/pack.rs:5: `data` may not use `crate::train`"]);
    }
}
