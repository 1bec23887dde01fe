//! Lines: what each format accepts, and what an error says.

use preceptor::data::line::{Body, Format, Line};

fn parse(format: Format, text: &str) -> Result<Line, String> {
    Line::parse(text.as_bytes(), format).map_err(|e| e.to_string())
}

#[test]
fn a_question_keeps_what_it_says_and_ignores_what_it_does_not_know() {
    let line = parse(
        Format::Mcqa,
        r#"{"id": 7, "question": "Q?", "options": ["x", "y"], "answer": 1, "subject": "s", "year": [1],
            "context": null, "weight": 2, "smoothing": 0.1, "teacher": [0.33, 0.66], "source": ""}"#,
    )
    .unwrap();
    assert_eq!((line.id.as_deref(), line.weight, line.smoothing), (Some("7"), 2.0, Some(0.1)));
    assert_eq!((line.subject.as_deref(), line.source), (Some("s"), None));
    let Body::Mcqa(mcqa) = line.body else { panic!("{:?}", line.body) };
    assert_eq!((mcqa.answer, mcqa.context, mcqa.teacher), (1, None, Some(vec![0.33, 0.66])));
}

/// A wrong line and what its error must say.
const WRONG: &[(Format, &str, &str)] = &[
    (Format::Mcqa, r#"[1]"#, "found a list of 1, needed a JSON object"),
    (Format::Mcqa, r#"{"question": "Q""#, "not a JSON object: EOF while parsing an object at column 16"),
    (Format::Mcqa, r#"{"prompt": "Q"}"#, "`options`: missing; the line has `prompt`"),
    (
        Format::Mcqa,
        r#"{"question":3,"options":["a","b"],"answer":0}"#,
        "`question`: found the number 3, needed a text",
    ),
    (Format::Mcqa, r#"{"question":" ","options":["a","b"],"answer":0}"#, "`question`: found an empty text"),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":"ab","answer":0}"#,
        "`options`: found the text \"ab\", needed a list",
    ),
    (Format::Mcqa, r#"{"question":"Q","options":["a"],"answer":0}"#, "`options`: found 1, needed 2 to 26"),
    (Format::Mcqa, r#"{"question":"Q","options":["a",""],"answer":0}"#, "`options[1]`: found an empty text"),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":2}"#,
        "`answer`: found 2, needed the index of an option: 0 to 1",
    ),
    (Format::Mcqa, r#"{"question":"Q","options":["a","b"],"answer":-1}"#, "`answer`: found -1, needed"),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":"B"}"#,
        "`answer`: found the text \"B\", needed an integer",
    ),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":0.5}"#,
        "`answer`: found the number 0.5, needed an integer",
    ),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":0,"teacher":[1]}"#,
        "`teacher`: found 1 probabilities, needed one for each of 2",
    ),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":0,"teacher":[0.5,0.6]}"#,
        "`teacher`: the probabilities sum to 1.1, needed 1",
    ),
    (
        Format::Mcqa,
        r#"{"question":"Q","options":["a","b"],"answer":0,"teacher":[2,-1]}"#,
        "`teacher[0]`: found 2, needed a probability",
    ),
    (Format::Text, r#"{"text":"a","weight":-1}"#, "`weight`: found -1, needed a number above 0"),
    (Format::Text, r#"{"text":"a","weight":0}"#, "`weight`: found 0, needed a number above 0"),
    (Format::Text, r#"{"text":"a","weight":1e300}"#, "`weight`: found"),
    (Format::Text, r#"{"text":"a","weight":NaN}"#, "not a JSON object"),
    (
        Format::Text,
        r#"{"text":"a","smoothing":1}"#,
        "`smoothing`: found 1, needed a number from 0 to below 1",
    ),
    (Format::Text, r#"{"text":"a","id":1.5}"#, "`id`: found the number 1.5"),
    (Format::Text, r#"{"text":"a","id":""}"#, "`id`: found the text \"\""),
    (Format::Text, r#"{"text":"a","source":[]}"#, "`source`: found a list of 0"),
    (Format::PromptCompletion, r#"{"prompt":"a"}"#, "`completion`: missing"),
    (Format::PromptCompletion, r#"{"prompt":"a","completion":""}"#, "`completion`: found an empty text"),
    (Format::Instruction, r#"{"instruction":"a","input":1,"output":"b"}"#, "`input`: found the number 1"),
    (
        Format::Preference,
        r#"{"prompt":"a","chosen":"b","rejected":"b"}"#,
        "`rejected`: found the same text as in `chosen`",
    ),
    (Format::Messages, r#"{"messages":[]}"#, "`messages`: found no message of the role assistant"),
    (Format::Messages, r#"{"messages":["a"]}"#, "`messages[0]`: found the text \"a\", needed an object"),
    (
        Format::Messages,
        r#"{"messages":[{"role":"bot","content":"a"}]}"#,
        "`messages[0].role`: found \"bot\", needed system, user, assistant or tool",
    ),
    (
        Format::Messages,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}]}"#,
        "`messages[1].content`: found null",
    ),
    (Format::Messages, r#"{"messages":[{"role":"assistant"}]}"#, "`messages[0].content`: missing"),
    (Format::Tokens, r#"{"input_ids":[1,2],"labels":[1]}"#, "`labels`: found 1, needed 2"),
    (Format::Tokens, r#"{"input_ids":[1],"labels":[1]}"#, "`input_ids`: found 1, needed at least 2"),
    (Format::Tokens, r#"{"input_ids":[1,-2],"labels":[1,1]}"#, "`input_ids[1]`: found -2, needed a token id"),
    (
        Format::Tokens,
        r#"{"input_ids":[1,2],"labels":[1,-1]}"#,
        "`labels[1]`: found -1, needed a token id, or -100",
    ),
    (Format::Tokens, r#"{"input_ids":[1,2],"labels":[2,-100]}"#, "`labels`: found no trained token"),
    (Format::Tokens, r#"{"input_ids":[1,4294967296],"labels":[1,1]}"#, "`input_ids[1]`: found 4294967296"),
];

#[test]
fn a_wrong_line_says_which_field_what_was_found_and_what_was_needed() {
    for (format, line, expected) in WRONG {
        let error = parse(*format, line).expect_err(line);
        assert!(error.starts_with(expected), "{line}\n  says    {error}\n  expected {expected}");
    }
    let options: Vec<String> = (0..27).map(|i| i.to_string()).collect();
    let line = serde_json::json!({"question": "Q", "options": options, "answer": 0}).to_string();
    assert!(parse(Format::Mcqa, &line).unwrap_err().contains("found 27, needed 2 to 26"));
    assert!(
        Line::parse(b"{\"text\": \"\xFF\"}", Format::Text).unwrap_err().to_string().contains("at byte 10")
    );
}

#[test]
fn the_first_label_is_ignored_and_minus_100_carries_no_loss() {
    let line = parse(Format::Tokens, r#"{"input_ids":[1,2,3],"labels":[9,-100,8]}"#).unwrap();
    let Body::Tokens(tokens) = line.body else { panic!("{:?}", line.body) };
    assert_eq!(tokens.labels, [None, None, Some(8)]);
}

#[test]
fn a_format_is_told_by_its_keys() {
    let cases = [
        (r#"{"question":"","options":[],"answer":0,"text":""}"#, Format::Mcqa),
        (r#"{"prompt":"","completion":""}"#, Format::PromptCompletion),
        (r#"{"prompt":"","chosen":"","rejected":""}"#, Format::Preference),
        (r#"{"messages":[]}"#, Format::Messages),
        (r#"{"instruction":"","output":""}"#, Format::Instruction),
        (r#"{"input_ids":[],"labels":[]}"#, Format::Tokens),
        (r#"{"text":""}"#, Format::Text),
    ];
    for (line, format) in cases {
        assert_eq!(Format::detect(line.as_bytes()).unwrap(), format);
        assert_eq!(serde_json::to_value(format).unwrap(), format.to_string());
    }
    assert!(
        Format::detect(b"{}").unwrap_err().to_string().contains("prompt-completion (prompt, completion)")
    );
}
