//! The CUDA sources: those built into the program, or a folder with the same names.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::base::{Error, Result, files, hash};

/// Every file under `kernels/`: its path from there and its text.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Folders of kernels that use instructions of one compute capability alone.
const ALONE: &[(&str, u32)] = &[("hopper/", 90)];

/// The one compute capability for which the kernel file `name` is written; most are for all.
pub fn only(name: &str) -> Option<u32> {
    ALONE.iter().find(|(folder, _)| name.starts_with(folder)).map(|(_, capability)| *capability)
}

/// Where the text of the kernels comes from.
#[derive(Clone, Debug, Default)]
pub enum Sources {
    /// The program itself.
    #[default]
    Embedded,
    /// Files built into the caller: path and text of each, headers among them.
    Given(&'static [(&'static str, &'static str)]),
    /// A folder whose files replace those of the same name; headers that it lacks are the program's.
    Folder(PathBuf),
}

/// One `.cu` file and the headers that it may include.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path under `kernels/`, such as `attention/forward.cu`.
    pub path: String,
    /// Its text.
    pub text: Cow<'static, str>,
    /// Path and text of every header.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Sources {
    /// The names of all kernel files, such as `attention/forward`, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().filter_map(|(path, _)| path.strip_suffix(".cu"))
    }

    /// The kernel file `name` (a path without `.cu`) with the headers.
    pub fn read(&self, name: &str) -> Result<Source> {
        let path = format!("{name}.cu");
        let files = if let Self::Given(files) = self { files } else { EMBEDDED };
        let Some(embedded) = files.iter().find(|(known, _)| *known == path) else {
            let known: Vec<_> = files.iter().filter_map(|(path, _)| path.strip_suffix(".cu")).collect();
            return Err(Error::input(format!("there is no kernel file `{name}`, needed one of {known:?}")));
        };
        let headers = files.iter().filter(|(path, _)| path.ends_with(".cuh"));
        Ok(match self {
            Self::Embedded | Self::Given(_) => Source {
                path,
                text: Cow::Borrowed(embedded.1),
                headers: headers.map(|&(path, text)| (path, Cow::Borrowed(text))).collect(),
            },
            Self::Folder(folder) => Source {
                text: Cow::Owned(files::read_text(&folder.join(&path))?),
                path,
                headers: headers
                    .map(|&(path, text)| Ok((path, header(&folder.join(path), text)?)))
                    .collect::<Result<_>>()?,
            },
        })
    }
}

fn header(path: &Path, embedded: &'static str) -> Result<Cow<'static, str>> {
    if path.exists() { files::read_text(path).map(Cow::Owned) } else { Ok(Cow::Borrowed(embedded)) }
}

impl Source {
    /// See [`only`].
    pub fn only(&self) -> Option<u32> {
        only(&self.path)
    }

    /// SHA-256 of the text and of all headers, with their paths.
    pub fn hash(&self) -> String {
        let own = [self.path.as_str(), &self.text];
        let headers = self.headers.iter().flat_map(|(path, text)| [*path, text]);
        hash::sha256_lines(own.into_iter().chain(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_replaces_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let name = Sources::names().next().unwrap();
        let path = folder.path().join(format!("{name}.cu"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "// changed").unwrap();
        let (ours, changed) = (
            Sources::Embedded.read(name).unwrap(),
            Sources::Folder(folder.path().into()).read(name).unwrap(),
        );
        assert_eq!(changed.text, "// changed");
        assert_eq!(changed.headers, ours.headers);
        assert_ne!(changed.hash(), ours.hash());
        assert!(Sources::Embedded.read("absent").is_err());
    }
}
