//! The one error type: what was found and needed, where (file, line, key), and what to do.
//!
//! An error is data, not prose in a `String`: the place is filled in by whoever knows it, so a parser
//! need not know its file's name and the message still always carries it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Whose fault it is; decides the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, key or argument is wrong: exit code 2.
    Input,
    /// The machine lacks something (device, disk space, permission to write): exit code 3.
    Environment,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Input => 2,
            Self::Environment => 3,
        }
    }
}

/// What went wrong, where, and what to do about it.
#[derive(Debug)]
pub struct Error(Box<Report>);

#[derive(Debug)]
struct Report {
    kind: Kind,
    what: String,
    file: Option<PathBuf>,
    line: Option<u64>,
    key: Option<String>,
    hint: Option<String>,
}

impl Error {
    fn new(kind: Kind, what: String) -> Self {
        Self(Box::new(Report { kind, what, file: None, line: None, key: None, hint: None }))
    }

    /// Wrong input; `what` says what was found and what was needed.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what.into())
    }

    /// The machine lacks something; `what` says what.
    pub fn environment(what: impl Into<String>) -> Self {
        Self::new(Kind::Environment, what.into())
    }

    /// An operating system's refusal to `verb` the file at `path`.
    ///
    /// A file that is missing, unreadable or of the wrong kind is the caller's to mend (input); anything
    /// else, such as a full disk, is the machine's.
    pub fn io(verb: &str, path: &Path, e: &io::Error) -> Self {
        use io::ErrorKind as K;
        let what = format!("cannot {verb} it: {e}");
        let error = match e.kind() {
            K::NotFound | K::IsADirectory | K::NotADirectory | K::InvalidData | K::InvalidInput => {
                Self::input(what)
            }
            K::PermissionDenied if verb == "read" || verb == "open" => Self::input(what),
            K::StorageFull | K::QuotaExceeded => {
                Self::environment(what).hint("free some space and run again; nothing older was touched")
            }
            _ => Self::environment(what),
        };
        error.file(path)
    }

    /// Names the file, unless a file is named already.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.file.get_or_insert_with(|| path.as_ref().to_path_buf());
        self
    }

    /// Names the line (from 1), unless a line is named already.
    pub fn line(mut self, line: u64) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// Names the configuration key, tensor or field, unless one is named already.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.key.get_or_insert_with(|| key.into());
        self
    }

    /// Says what to do, unless a hint is given already.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Names the line of a file that was being read, unless another file is at fault: then that line is
    /// told with the rest.
    pub fn at(mut self, path: &Path, line: u64) -> Self {
        match &self.0.file {
            None => self.file(path).line(line),
            Some(file) if file == path => self,
            Some(_) => {
                self.0.what = format!("{}; met at {}:{line}", self.0.what, path.display());
                self
            }
        }
    }

    /// Names `to` in place of `from`, the name that a file or a folder had while it was written.
    pub fn moved(mut self, from: &Path, to: &Path) -> Self {
        if let Some(rest) = self.0.file.as_deref().and_then(|file| file.strip_prefix(from).ok()) {
            self.0.file = Some(to.join(rest));
        }
        self
    }

    /// Names the key by what `name` makes of it, where it makes something.
    pub fn rename_key(mut self, name: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Some(named) = self.0.key.as_deref().and_then(name) {
            self.0.key = Some(named);
        }
        self
    }

    /// Whether it names a file.
    pub fn names_file(&self) -> bool {
        self.0.file.is_some()
    }

    /// The configuration key, tensor or field that it names.
    pub fn named_key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The advice that goes with the error, if any.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// `file:line: key: what`, without the hint.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { what, file, line, key, .. } = &*self.0;
        match (file, line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if let Some(key) = key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(what)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_comes_first_and_the_innermost_name_wins() {
        let e = Error::input("found 3, needed 4").file("a.json").line(7).key("x").file("outer").key("outer");
        assert_eq!(e.to_string(), "a.json:7: `x`: found 3, needed 4");
        assert_eq!(e.kind().exit_code(), 2);
    }

    #[test]
    fn another_file_at_fault_keeps_its_name() {
        let data = Path::new("d.jsonl");
        assert_eq!(Error::input("x").at(data, 3).to_string(), "d.jsonl:3: x");
        assert_eq!(Error::input("x").file(data).at(data, 3).to_string(), "d.jsonl: x");
        let e = Error::input("x").file("t.jinja").line(1).at(data, 3);
        assert_eq!(e.to_string(), "t.jinja:1: x; met at d.jsonl:3");
        let e =
            Error::input("x").file("a/.unfinished-1/f").moved(Path::new("a/.unfinished-1"), Path::new("a/b"));
        assert_eq!(e.to_string(), "a/b/f: x");
    }

    #[test]
    fn a_full_disk_is_the_machines_fault() {
        let e = Error::io("write", Path::new("f"), &io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(e.kind().exit_code(), 3);
        assert!(e.advice().is_some_and(|h| h.contains("free some space")));
    }
}
