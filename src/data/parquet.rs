//! Parquet files: a row as the JSON object that a line of a JSONL file would be.
//!
//! A row is not found without decoding what stands before it in its row group, which may be the whole file. So
//! the rows are decoded once, page by page, into a JSONL file in the folder for temporary files, which has no
//! name and vanishes with the process. Memory holds a page of each column.
//!
//! A column is a text, a number or a boolean, or lists and structs of these. Others, such as pictures and dates,
//! are left out with a warning.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::iter;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Once};

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use crate::base::{Error, Result};

/// The first `most` rows of the file at `path` as a JSONL file, one line a row.
pub(super) fn lines(path: &Path, file: File, most: usize) -> Result<File> {
    let damaged =
        |e: ParquetError| Error::input(format!("not a Parquet file that can be read: {e}")).file(path);
    let reader = caught(|| SerializedFileReader::new(file)).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    let (kept, left_out): (Vec<_>, Vec<_>) = schema.get_fields().iter().cloned().partition(|c| is_json(c));
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|column| column.name()).collect();
        tracing::warn!("{}: left out the columns {names:?}: JSON has nothing like them", path.display());
    }
    if kept.is_empty() {
        return Err(Error::input("found no column of texts, numbers or lists").file(path));
    }
    let kept = Type::group_type_builder(schema.name()).with_fields(kept).build().map_err(damaged)?;
    let mut rows = caught(|| reader.get_row_iter(Some(kept))).map_err(damaged)?;
    let rows = iter::from_fn(|| caught(|| rows.next().transpose()).transpose());
    let cannot_write = |e: io::Error| {
        let folder = std::env::temp_dir();
        Error::io("write a copy of the rows to", &folder, &e)
            .hint("TMPDIR names another folder for temporary files")
    };
    let mut copy = BufWriter::with_capacity(1 << 16, tempfile::tempfile().map_err(cannot_write)?);
    for (number, row) in (1..).zip(rows.take(most)) {
        let object = row.map_err(damaged).and_then(object).map_err(|e| e.file(path).line(number))?;
        writeln!(copy, "{object}").map_err(cannot_write)?;
    }
    let mut copy = copy.into_inner().map_err(|e| cannot_write(e.into_error()))?;
    copy.rewind().map_err(cannot_write)?;
    Ok(copy)
}

/// What `read`, a call into the parquet crate, returns; an error where it panics, as it does at some damaged files.
fn caught<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> parquet::errors::Result<T> {
    thread_local!(static CATCHES: Cell<bool> = const { Cell::new(false) });
    static QUIET: Once = Once::new();
    // the message of a panic that is caught is the error's alone; other threads' panics are told as ever
    QUIET.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CATCHES.get() {
                tell(panic);
            }
        }));
    });
    CATCHES.set(true);
    let answer = panic::catch_unwind(AssertUnwindSafe(read));
    CATCHES.set(false);
    answer.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the reader gave up");
        Err(ParquetError::General(what.to_owned()))
    })
}

/// Whether JSON has values for all that a column may hold.
fn is_json(column: &Type) -> bool {
    use ConvertedType as C;
    let kind = column.get_basic_info();
    if let Type::PrimitiveType { physical_type, .. } = column {
        return match (physical_type, kind.converted_type()) {
            (Physical::BOOLEAN | Physical::FLOAT | Physical::DOUBLE, _) => true,
            (Physical::INT32 | Physical::INT64, C::NONE) => {
                matches!(kind.logical_type_ref(), None | Some(LogicalType::Integer { .. }))
            }
            (Physical::INT32, found) => {
                [C::INT_8, C::INT_16, C::INT_32, C::UINT_8, C::UINT_16, C::UINT_32].contains(&found)
            }
            (Physical::INT64, found) => [C::INT_64, C::UINT_64].contains(&found),
            (Physical::BYTE_ARRAY, found) => [C::UTF8, C::ENUM, C::JSON].contains(&found),
            _ => false,
        };
    }
    let children = column.get_fields();
    let is_shape = match kind.converted_type() {
        C::NONE => true,
        // what the reader takes for granted of a list
        C::LIST => children.len() == 1 && children[0].get_basic_info().repetition() == Repetition::REPEATED,
        _ => false,
    };
    is_shape && !children.is_empty() && children.iter().all(|child: &Arc<Type>| is_json(child))
}

fn object(row: Row) -> Result<Value> {
    let field = |(name, field): (String, Field)| {
        let value = value(field).map_err(|e| e.key(&name))?;
        Ok((name, value))
    };
    row.into_columns().into_iter().map(field).collect::<Result<Map<_, _>>>().map(Value::Object)
}

fn value(field: Field) -> Result<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => finite(value.into())?,
        Field::Double(value) => finite(value)?,
        Field::Str(value) => value.into(),
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(value).collect::<Result<_>>()?)
        }
        other => return Err(Error::input(format!("found {other}, needed a text or a number"))),
    })
}

fn finite(value: f64) -> Result<Value> {
    let number = Number::from_f64(value).map(Value::Number);
    number.ok_or_else(|| {
        Error::input(format!("found {value}, needed a number")).hint("write null where there is none")
    })
}
