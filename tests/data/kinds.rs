//! One data set as JSONL, CSV and Parquet: the same lines, orders and tokens.

use std::fs;
use std::path::{Path, PathBuf};

use preceptor::data::line::Format;
use preceptor::data::{Dataset, Encoder, LossOn, Settings, index};
use preceptor::sampler::{self, Labels, Strategy};
use tempfile::TempDir;

use crate::model;

/// A file that `make_parquet.py` made.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet").join(name)
}

/// All that training takes from a file but its bytes, held against a JSONL file.
fn assert_same(ours: &Path, jsonl: &Path, format: Format) {
    assert_eq!(index::detect_format(ours).unwrap(), format);
    let settings = Settings { format, max_seq_length: 2048, ..Settings::default() };
    let folder = model::folder(true);
    let encoder =
        Encoder::open(&settings, LossOn::Completion, 0.0, folder.path(), model::VOCAB_SIZE).unwrap();
    let [mut ours, mut theirs] = [ours, jsonl].map(|path| Dataset::open(path, format, 0).unwrap());
    assert_eq!(ours.len(), theirs.len());
    for i in 0..ours.len() {
        assert_eq!(ours.line(i).unwrap(), theirs.line(i).unwrap(), "line {i}");
        assert_eq!((ours.id(i), ours.source(i)), (theirs.id(i), theirs.source(i)));
        assert_eq!(ours.line_number(i), theirs.line_number(i));
    }
    assert_eq!(order_hash(&ours, format), order_hash(&theirs, format));
    assert_eq!(ours.prepare(&encoder).unwrap(), theirs.prepare(&encoder).unwrap());
    for i in 0..ours.len() {
        assert_eq!(ours.tokenized(i, &encoder).unwrap(), theirs.tokenized(i, &encoder).unwrap(), "line {i}");
    }
}

/// Of an order that hangs on every label that the format's golden has.
fn order_hash(data: &Dataset, format: Format) -> String {
    let n = data.len();
    let ids: Vec<String> = (0..n).map(|i| data.id(i).to_owned()).collect();
    let labelled = format == Format::Mcqa;
    let categories = labelled.then(|| data.categories("subject").unwrap());
    let difficulties = labelled.then(|| data.difficulties("difficulty").unwrap());
    let labels = Labels { n, categories: categories.as_deref(), difficulties: difficulties.as_deref() };
    let strategy = if labelled { Strategy::InterleavedCurriculum } else { Strategy::Random };
    let settings = sampler::Settings { strategy, ..sampler::Settings::default() };
    sampler::order_hash(&sampler::order(&settings, &labels, 0, 2).unwrap(), &ids)
}

#[test]
fn a_parquet_file_has_what_pyarrow_reads_of_it() {
    for (name, format) in [("mcqa", Format::Mcqa), ("messages", Format::Messages), ("tokens", Format::Tokens)]
    {
        assert_same(&golden(&format!("{name}.parquet")), &golden(&format!("{name}.jsonl")), format);
    }
    let questions = Dataset::open(&golden("mcqa.parquet"), Format::Mcqa, 0).unwrap();
    let error = questions.categories("picture").unwrap_err().to_string();
    assert!(error.contains("mcqa.parquet:1: `picture`: missing"), "{error}");
    assert_eq!(questions.difficulties("answer").unwrap(), [1.0, 0.0, 3.0, 0.0, 1.0]);
}

#[test]
fn what_is_wrong_with_a_parquet_file_is_named() {
    let error = |path: &Path, format| Dataset::open(path, format, 0).unwrap_err().to_string();
    let found = error(&golden("nan.parquet"), Format::Mcqa);
    assert!(found.contains("nan.parquet:2: `difficulty`: found NaN, needed a number"), "{found}");
    let found = error(&golden("messages.parquet"), Format::Mcqa);
    assert!(
        found.contains("messages.parquet:1: `options`: missing; the line has `messages`, `id`"),
        "{found}"
    );
    let home = TempDir::new().unwrap();
    let path = home.path().join("d.PARQUET");
    let whole = fs::read(golden("tokens.parquet")).unwrap();
    // the first page's type: a dictionary becomes an index, which readers pass over; at its values the parquet crate panics
    assert_eq!(whole[4..6], [0x15, 0x04]);
    let without_dictionary = [&whole[..5], &[0x02], &whole[6..]].concat();
    for (bytes, says) in [
        (b"{}".as_slice(), "not a Parquet file that can be read"),
        (&whole[..whole.len() - 9], "not a Parquet file that can be read"),
        (&[&whole[..40], &[0xFF; 600], &whole[640..]].concat(), "not a Parquet file that can be read"),
        (&without_dictionary, "can be read: Parquet error: Decoder for dict should have been set"),
    ] {
        fs::write(&path, bytes).unwrap();
        let found = error(&path, Format::Tokens);
        assert!(found.contains("d.PARQUET") && found.contains(says), "{found}");
    }
}

#[test]
fn a_csv_file_has_the_lines_of_its_jsonl_file() {
    let home = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let jsonl = write(
        "d.jsonl",
        r#"{"question": "1 + 1?", "options": ["1", "2, or \"two\""], "answer": 1, "subject": "sums", "difficulty": 0.5, "topic": "a"}
{"id": "x", "question": "Two\nlines?", "options": ["ü", "no"], "answer": 0, "subject": "7", "difficulty": 2, "teacher": [0.5, 0.5], "topic": "b"}
{"question": "42", "options": ["a", "b", "c"], "answer": 2, "source": "s", "subject": "7", "difficulty": 1, "topic": "a"}
"#,
    );
    let csv = write(
        "d.CSV",
        "\u{FEFF}id,question,options,answer,subject,difficulty,teacher,source,topic\r\n\
         ,1 + 1?,\"[\"\"1\"\", \"\"2, or \\\"\"two\\\"\"\"\"]\",1,sums,0.5,,,a\r\n\r\n\
         x,\"Two\nlines?\",\"[\"\"ü\"\", \"\"no\"\"]\",0,7,2,\"[0.5, 0.5]\",,b\r\n\
         ,42,\"[\"\"a\"\",\"\"b\"\",\"\"c\"\"]\",2,7,1,,s,a",
    );
    assert_same(&csv, &jsonl, Format::Mcqa);
    let questions = Dataset::open(&csv, Format::Mcqa, 0).unwrap();
    assert_eq!(questions.categories("topic").unwrap(), ["a", "b", "a"]);
}

#[test]
fn a_bad_csv_row_is_named_by_its_number() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("d.csv");
    for (text, says) in [
        ("text\na\n\"b\"c\n", "d.csv:2: found text after a cell's closing quote"),
        ("text,id\na,1\nb\n", "d.csv:2: found 1 cells, needed 2, one a column"),
        ("text\n\"a\n", "d.csv:1: found a quote that is not closed"),
        ("text,text\n", "d.csv: found the column name \"text\", needed one of its own"),
        ("text\n", "d.csv: found no example"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Dataset::open(&path, Format::Text, 0).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
