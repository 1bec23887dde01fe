//! A GGUF file's metadata: typed values by key, which stay in the file until they are asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cursor::Cursor;
use crate::base::{Error, Result};

/// The type of a value, and the number that names it in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    List,
    U64,
    I64,
    F64,
}

/// Kinds in the order of their numbers, with what they are called and their bytes; of a text the least.
const KINDS: [(Kind, &str, usize); 13] = [
    (Kind::U8, "an integer", 1),
    (Kind::I8, "an integer", 1),
    (Kind::U16, "an integer", 2),
    (Kind::I16, "an integer", 2),
    (Kind::U32, "an integer", 4),
    (Kind::I32, "an integer", 4),
    (Kind::F32, "a number", 4),
    (Kind::Bool, "true or false", 1),
    (Kind::Text, "a text", 8),
    (Kind::List, "a list", 12),
    (Kind::U64, "an integer", 8),
    (Kind::I64, "an integer", 8),
    (Kind::F64, "a number", 8),
];

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let number = cursor.u32("a type")?;
        let known = usize::try_from(number).ok().and_then(|number| KINDS.get(number));
        known.map(|(kind, ..)| *kind).ok_or_else(|| {
            Error::input(format!("found the value type {number}, needed one of 0 to {}", KINDS.len() - 1))
        })
    }

    fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    fn bytes(self) -> usize {
        KINDS[self as usize].2
    }
}

/// Where a value is: one, or the elements of a list.
#[derive(Clone, Debug)]
struct Place {
    kind: Kind,
    list: bool,
    count: u64,
    bytes: Range<usize>,
}

/// Where each key's value is.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(BTreeMap<String, Place>);

impl Index {
    /// Reads `count` keys with their values.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Self> {
        // A key's length, its type and one byte of value: nothing is allocated before the file has that much.
        cursor.room(count, 8 + 4 + 1, "metadata entries")?;
        let mut places = BTreeMap::new();
        for _ in 0..count {
            let key = cursor.name("a metadata key")?.to_owned();
            let place = Place::read(cursor).map_err(|e| e.key(&key))?;
            if places.contains_key(&key) {
                return Err(Error::input("the file has this key twice").key(key));
            }
            places.insert(key, place);
        }
        Ok(Self(places))
    }

    pub(super) fn of<'a>(&'a self, file: &'a [u8]) -> Metadata<'a> {
        Metadata { index: self, file }
    }
}

impl Place {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let kind = Kind::read(cursor)?;
        if kind != Kind::List {
            let bytes = elements(cursor, kind, 1)?;
            return Ok(Self { kind, list: false, count: 1, bytes });
        }
        let kind = Kind::read(cursor)?;
        if kind == Kind::List {
            return Err(Error::input("found a list of lists, needed a list of values"));
        }
        let count = cursor.u64("a list's length")?;
        cursor.room(count, kind.bytes(), "list elements")?;
        let bytes = elements(cursor, kind, count)?;
        Ok(Self { kind, list: true, count, bytes })
    }

    /// What it is, for errors.
    fn describe(&self) -> String {
        if self.list { format!("a list of {}", self.count) } else { self.kind.name().to_owned() }
    }
}

/// The bytes of `count` elements of `kind`, which [`Cursor::room`] has let through.
fn elements(cursor: &mut Cursor<'_>, kind: Kind, count: u64) -> Result<Range<usize>> {
    if kind != Kind::Text {
        return cursor.skip(count * kind.bytes() as u64, "a value");
    }
    let start = cursor.position();
    for _ in 0..count {
        cursor.text("a text")?;
    }
    Ok(start..cursor.position())
}

/// The metadata of an open file. Errors name the key.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    index: &'a Index,
    file: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Whether there is a value.
    pub fn has(&self, key: &str) -> bool {
        self.index.0.contains_key(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.one(key, "a text", |place| {
            (place.kind == Kind::Text).then(|| text(&self.file[place.bytes.clone()]))
        })?
        .transpose()
        .map_err(|e| e.key(key))
    }

    /// An integer that is not negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.one(key, "an integer that is not negative", |place| {
            u64::try_from(integer(place.kind, &self.file[place.bytes.clone()])?).ok()
        })
    }

    /// A number, an integer or not.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.one(key, "a number", |place| number(place.kind, &self.file[place.bytes.clone()]))
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.one(key, "true or false", |place| {
            (place.kind == Kind::Bool).then(|| self.file[place.bytes.start] != 0)
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(place) = self.list(key, "a list of texts", |kind| kind == Kind::Text)? else {
            return Ok(None);
        };
        let mut rest = &self.file[place.bytes.clone()];
        let mut texts = Vec::new();
        while let Some(len) = rest.first_chunk::<8>() {
            let (this, next) = rest.split_at(8 + u64::from_le_bytes(*len) as usize);
            texts.push(text(this).map_err(|e| e.key(format!("{key}[{}]", texts.len())))?);
            rest = next;
        }
        Ok(Some(texts))
    }

    /// A list of integers.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        let place = self.list(key, "a list of integers", |kind| kind.name() == "an integer")?;
        let Some(place) = place else { return Ok(None) };
        let bytes = self.file[place.bytes.clone()].chunks_exact(place.kind.bytes());
        let integers: Option<Vec<i64>> = bytes
            .map(|bytes| integer(place.kind, bytes).and_then(|value| i64::try_from(value).ok()))
            .collect();
        integers.map(Some).ok_or_else(|| Error::input("found an integer above 2^63").key(key))
    }

    /// A list of true and false.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        let place = self.list(key, "a list of true and false", |kind| kind == Kind::Bool)?;
        Ok(place.map(|place| self.file[place.bytes.clone()].iter().map(|&byte| byte != 0).collect()))
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let is_number = |kind: Kind| !matches!(kind, Kind::Text | Kind::Bool | Kind::List);
        let Some(place) = self.list(key, "a list of numbers", is_number)? else { return Ok(None) };
        let bytes = self.file[place.bytes.clone()].chunks_exact(place.kind.bytes());
        Ok(Some(bytes.filter_map(|bytes| number(place.kind, bytes)).collect()))
    }

    /// Whether the value is a list.
    pub fn is_list(&self, key: &str) -> bool {
        self.index.0.get(key).is_some_and(|place| place.list)
    }

    fn one<T>(&self, key: &str, needed: &str, read: impl Fn(&Place) -> Option<T>) -> Result<Option<T>> {
        let Some(place) = self.index.0.get(key) else { return Ok(None) };
        let value = if place.list { None } else { read(place) };
        value.map(Some).ok_or_else(|| wrong(place, needed, key))
    }

    fn list(&self, key: &str, needed: &str, fits: impl Fn(Kind) -> bool) -> Result<Option<&'a Place>> {
        match self.index.0.get(key) {
            Some(place) if !place.list || !fits(place.kind) => Err(wrong(place, needed, key)),
            place => Ok(place),
        }
    }
}

fn wrong(found: &Place, needed: &str, key: &str) -> Error {
    Error::input(format!("found {}, needed {needed}", found.describe())).key(key)
}

/// The text after its length.
fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(&bytes[8..]).map_err(|_| Error::input("not UTF-8 text"))
}

fn integer(kind: Kind, bytes: &[u8]) -> Option<i128> {
    Some(match kind {
        Kind::U8 => bytes[0].into(),
        Kind::I8 => bytes[0].cast_signed().into(),
        Kind::U16 => bytemuck::pod_read_unaligned::<u16>(bytes).into(),
        Kind::I16 => bytemuck::pod_read_unaligned::<i16>(bytes).into(),
        Kind::U32 => bytemuck::pod_read_unaligned::<u32>(bytes).into(),
        Kind::I32 => bytemuck::pod_read_unaligned::<i32>(bytes).into(),
        Kind::U64 => bytemuck::pod_read_unaligned::<u64>(bytes).into(),
        Kind::I64 => bytemuck::pod_read_unaligned::<i64>(bytes).into(),
        Kind::F32 | Kind::F64 | Kind::Bool | Kind::Text | Kind::List => return None,
    })
}

fn number(kind: Kind, bytes: &[u8]) -> Option<f64> {
    match kind {
        Kind::F32 => Some(shortest(bytemuck::pod_read_unaligned(bytes))),
        Kind::F64 => Some(bytemuck::pod_read_unaligned(bytes)),
        _ => integer(kind, bytes).map(|value| value as f64),
    }
}

/// The shortest decimal that rounds to an f32 is what the model's authors wrote: 1e-5, not 9.9999997e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().expect("a float's text is a number")
}
