//! The indexed data set: ids, bad lines, columns, and files that are not what they were.

use std::fs;

use preceptor::data::line::{Body, Format};
use preceptor::data::{Dataset, index};
use tempfile::TempDir;

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, bytes: impl AsRef<[u8]>, skip_bad: u64) -> Result<Dataset, String> {
        let path = self.0.path().join("data.jsonl");
        fs::write(&path, bytes).unwrap();
        Dataset::open(&path, Format::Text, skip_bad).map_err(|e| e.to_string())
    }
}

fn texts(dataset: &Dataset) -> Vec<String> {
    let text = |i| match dataset.line(i).unwrap().body {
        Body::Text(text) => text,
        other => panic!("{other:?}"),
    };
    (0..dataset.len()).map(text).collect()
}

#[test]
fn lines_are_found_again_whatever_their_ends() {
    let home = Home::new();
    let file = "\u{FEFF}{\"text\":\"a\"}\r\n\n  \r\n {\"text\":\"ü\",\"id\":\"x\",\"source\":\"s\"} \r\n{\"text\":\"c\",\"id\":5}";
    let dataset = home.open(file, 0).unwrap();
    assert_eq!(texts(&dataset), ["a", "ü", "c"]);
    let ids: Vec<_> = (0..3).map(|i| (dataset.id(i), dataset.line_number(i), dataset.source(i))).collect();
    assert_eq!(ids, [("1", 1, None), ("x", 4, Some("s")), ("5", 5, None)]);
    assert_eq!(index::detect_format(dataset.path()).unwrap(), Format::Text);
}

#[test]
fn two_lines_with_one_id_are_both_named() {
    let error = Home::new().open("{\"text\":\"a\",\"id\":\"2\"}\n{\"text\":\"b\"}\n", 9).unwrap_err();
    assert!(error.contains("data.jsonl:2: `id`: found the id \"2\" again, which line 1 has"), "{error}");
}

#[test]
fn bad_lines_are_skipped_as_far_as_allowed() {
    let home = Home::new();
    let file = "{\"text\":\"a\"}\nnonsense\n{\"text\":1}\n{\"text\":\"d\"}\n";
    let error = home.open(file, 0).unwrap_err();
    assert!(error.contains("data.jsonl:2: not a JSON object"), "{error}");
    let error = home.open(file, 1).unwrap_err();
    assert!(error.contains("data.jsonl:3: `text`: found the number 1"), "{error}");
    let dataset = home.open(file, 2).unwrap();
    assert_eq!((texts(&dataset), dataset.skipped()), (vec!["a".into(), "d".into()], 2));
    assert_eq!(dataset.id(1), "4");
    assert!(home.open("\n\n", 0).unwrap_err().contains("found no example"));
}

/// Lines are checked a MiB at a time: of bad ones in several such stretches the first counts, and of columns' gaps too;
/// a key that stands twice has its last value.
#[test]
fn a_long_file_is_read_as_a_short_one() {
    let home = Home::new();
    let (lines, filler) = (5000, "x".repeat(1000));
    let line = |i: usize| match i {
        4200 | 4900 => "nonsense\n".to_owned(),
        i if i % 2500 == 2499 => format!("{{\"text\":\"{filler}\",\"source\":\"late\"}}\n"),
        i => format!("{{\"hard\":-1,\"text\":\"{filler}\",\"source\":\"s{}\",\"hard\":{i}}}\n", i % 3),
    };
    let file: String = (1..=lines).map(line).collect();
    let error = home.open(&file, 1).unwrap_err();
    assert!(error.contains("data.jsonl:4900: not a JSON object"), "{error}");
    let dataset = home.open(&file, 2).unwrap();
    assert_eq!((dataset.len(), dataset.skipped()), (lines - 2, 2));
    assert_eq!(
        (dataset.id(4199), dataset.source(4199), dataset.source(2498)),
        ("4201", Some("s1"), Some("late"))
    );
    let error = dataset.difficulties("hard").unwrap_err().to_string();
    assert!(error.contains("data.jsonl:2499: `hard`: missing"), "{error}");
    let whole = dataset.select((0..dataset.len()).filter(|i| dataset.source(*i) != Some("late"))).unwrap();
    let hard = whole.difficulties("hard").unwrap();
    assert_eq!((hard[0], hard[2498], hard[hard.len() - 1]), (1.0, 2500.0, 5000.0));
}

#[test]
fn a_file_that_changes_is_noticed() {
    let home = Home::new();
    let dataset = home.open("{\"text\":\"a\"}\n{\"text\":\"b\"}\n", 0).unwrap();
    fs::write(dataset.path(), "{\"text\":\"a\"}\n{\"text\":\"c\"}\n").unwrap();
    assert!(dataset.line(0).is_ok());
    let error = dataset.line(1).unwrap_err().to_string();
    assert!(error.contains("data.jsonl:2: the line is not what it was"), "{error}");
    fs::write(dataset.path(), "").unwrap();
    assert!(dataset.line(0).is_err());
}

#[test]
fn columns_have_any_name_and_must_be_whole() {
    let home = Home::new();
    let file = "{\"text\":\"a\",\"year\":2013,\"hard\":0.5}\n{\"text\":\"b\",\"year\":\"x\",\"hard\":-1}\n\
                {\"text\":\"c\",\"year\":\"\",\"hard\":\"1\"}\n";
    let dataset = home.open(file, 0).unwrap();
    let error = |e: preceptor::base::Error| (e.to_string(), e.advice().unwrap().to_owned());
    let (what, hint) = error(dataset.categories("year").unwrap_err());
    assert!(what.contains("data.jsonl:3: `year`: missing or empty"), "{what}");
    assert!(hint.contains("sampler.category"));
    let (what, hint) = error(dataset.difficulties("hard").unwrap_err());
    assert!(what.contains("data.jsonl:3: `hard`: found the text \"1\", needed a number"), "{what}");
    assert!(hint.contains("sampler.difficulty"));
    let (what, _) = error(dataset.difficulties("nothing").unwrap_err());
    assert!(what.contains("data.jsonl:1: `nothing`: missing"), "{what}");

    let dataset = home.open(&file[..file.rfind("{").unwrap()], 0).unwrap();
    assert_eq!(dataset.categories("year").unwrap(), ["2013", "x"]);
    assert_eq!(dataset.difficulties("hard").unwrap(), [0.5, -1.0]);
}

#[test]
fn what_is_no_file_of_lines_is_refused() {
    let home = Home::new();
    let error = |path| Dataset::open(path, Format::Text, 0).unwrap_err().to_string();
    assert!(error(home.0.path()).contains("not a regular file"));
    assert!(error(&home.0.path().join("absent")).contains("absent: cannot open it"));
}
