//! Tokens and loss masks, on a tiny tokenizer. The ids were computed with Transformers 5.23; the id of a
//! byte that no merge takes is the byte plus 4.

use std::fs;

use preceptor::data::line::{Format, Line};
use preceptor::data::{Dataset, Encoder, LossOn, Settings, Tokenized};
use serde_json::{Value, json};

use crate::model;

/// An encoder of the tiny model and its settings.
struct Case {
    settings: Settings,
    loss_on: LossOn,
    prefix: bool,
}

impl Case {
    fn new(format: Format) -> Self {
        let settings = Settings { format, ..Settings::default() };
        Self { settings, loss_on: LossOn::Completion, prefix: true }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn encoder(&self) -> Encoder {
        let folder = model::folder(self.prefix);
        Encoder::open(&self.settings, self.loss_on, 0.25, folder.path(), model::VOCAB_SIZE).unwrap()
    }

    fn try_encode(&self, line: &Value) -> Result<(Vec<Tokenized>, bool), String> {
        let encoded = self.encoder().encode(&parse(self.settings.format, line)).map_err(|e| e.to_string())?;
        Ok((encoded.examples, encoded.truncated))
    }

    fn encode(&self, line: &Value) -> Tokenized {
        let (mut examples, _) = self.try_encode(line).unwrap();
        assert_eq!(examples.len(), 1);
        examples.remove(0)
    }
}

fn parse(format: Format, line: &Value) -> Line {
    Line::parse(line.to_string().as_bytes(), format).unwrap()
}

/// The targets, with their positions checked: each is the input at its own place.
fn trained(example: &Tokenized) -> Vec<u32> {
    for (label, id) in example.labels.iter().zip(&example.input_ids) {
        assert!(label.is_none_or(|label| label == *id));
    }
    example.losses().map(|(_, target)| target).collect()
}

fn question() -> Value {
    json!({"question": "the an?", "options": ["an", "é"], "answer": 1, "context": "an A"})
}

#[test]
fn a_question_is_the_exam_text_to_the_letter() {
    let case = Case::new(Format::Mcqa);
    let example = case.encode(&question());
    let text = case.encoder().tokenizer().unwrap().decode(&example.input_ids, true).unwrap();
    assert_eq!(
        text,
        "Give the letter of the best answer to the question. Use only the letters listed.\n\n\
         Context: an A\nQuestion: the an?\nA) an\nB) é\n\n### Answer: B"
    );
    assert_eq!(example.input_ids.len(), 119);
    assert_eq!(example.input_ids[..9], [0, 75, 109, 122, 105, 265, 36, 112, 105]);
    assert_eq!(
        example.input_ids[103..],
        [199, 173, 14, 14, 39, 39, 39, 260, 114, 119, 123, 105, 118, 62, 261, 1]
    );
    assert_eq!(trained(&example), [261, 1]);
    assert_eq!((example.weight, example.smoothing), (1.0, 0.25));

    let mut plain = question();
    plain["context"] = Value::Null;
    plain["smoothing"] = json!(0.5);
    let example = case.encode(&plain);
    let text = case.encoder().tokenizer().unwrap().decode(&example.input_ids, true).unwrap();
    assert!(text.contains("listed.\n\nQuestion: the an?\n"), "{text}");
    assert_eq!(example.smoothing, 0.5);
}

#[test]
fn a_completion_starts_at_the_first_token_past_the_prompt() {
    // prompt, completion, all ids after <s>, how many of them are the completion's
    let cases: [(&str, &str, &[u32], usize); 8] = [
        ("the:", " A", &[120, 264, 62, 260], 1),
        ("the: ", "A", &[120, 264, 62, 260], 1),
        ("the:  ", "A", &[120, 264, 62, 36, 260], 2),
        ("the:\n", "A", &[120, 264, 62, 14, 69], 1),
        ("the:\n ", "A", &[120, 264, 62, 14, 260], 1),
        ("th", "e A", &[120, 264, 260], 2),
        ("é", "休", &[199, 173, 232, 192, 149], 3),
        ("", "an", &[267], 1),
    ];
    let case = Case::new(Format::PromptCompletion);
    for (prompt, completion, ids, learned) in cases {
        let example = case.encode(&json!({"prompt": prompt, "completion": completion}));
        assert_eq!(example.input_ids, [&[0], ids, &[1]].concat(), "{prompt:?} {completion:?}");
        assert_eq!(
            trained(&example),
            [&ids[ids.len() - learned..], &[1]].concat(),
            "{prompt:?} {completion:?}"
        );
        let line = parse(Format::PromptCompletion, &json!({"prompt": prompt, "completion": completion}));
        let given = case.encoder().prompt(&line).unwrap();
        assert_eq!(given[0], 0);
        assert!(prompt == "th" || given == example.input_ids[..1 + ids.len() - learned], "{prompt:?}");
    }
}

#[test]
fn the_end_is_appended_once() {
    let ids = |line, append_eos| {
        let case = Case::new(Format::PromptCompletion).with(|c| c.settings.append_eos = append_eos);
        case.encode(&line).input_ids
    };
    assert_eq!(ids(json!({"prompt": "an", "completion": " A"}), true), [0, 267, 260, 1]);
    assert_eq!(ids(json!({"prompt": "an", "completion": " A"}), false), [0, 267, 260]);
    assert_eq!(ids(json!({"prompt": "an", "completion": " A</s>"}), true), [0, 267, 260, 1]);
    // any of the model's ends will do
    assert_eq!(ids(json!({"prompt": "an", "completion": " A<|im_end|>"}), true), [0, 267, 260, 3]);
}

#[test]
fn loss_on_all_leaves_out_the_first_token_and_the_special_ones() {
    let all = |prefix| {
        let case =
            Case::new(Format::PromptCompletion).with(|c| c.prefix = prefix).with(|c| c.loss_on = LossOn::All);
        trained(&case.encode(&json!({"prompt": "the:", "completion": " A"})))
    };
    assert_eq!(all(true), [120, 264, 62, 260, 1]);
    assert_eq!(all(false), [264, 62, 260, 1]);
}

#[test]
fn a_long_prompt_loses_tokens_from_its_left_and_a_completion_none() {
    let line = json!({"prompt": "the:", "completion": " A B"});
    let cut = |max, prefix| {
        let case = Case::new(Format::PromptCompletion)
            .with(|c| c.prefix = prefix)
            .with(|c| c.settings.max_seq_length = max);
        let (examples, truncated) = case.try_encode(&line)?;
        assert_eq!(trained(&examples[0]), [260, 261, 1]);
        Ok::<_, String>((examples[0].input_ids.clone(), truncated))
    };
    assert_eq!(cut(7, true), Ok((vec![0, 120, 264, 62, 260, 261, 1], false)));
    assert_eq!(cut(6, true), Ok((vec![0, 264, 62, 260, 261, 1], true)));
    assert_eq!(cut(4, true), Ok((vec![0, 260, 261, 1], true)));
    assert!(cut(3, true).unwrap_err().contains("the completion has 3 tokens and needs 1 before it"));
    // without a special token, one of the prompt must stay: nothing else predicts the completion's first
    assert_eq!(cut(4, false), Ok((vec![62, 260, 261, 1], true)));
    assert!(cut(3, false).is_err());
}

#[test]
fn instructions_and_preferences_are_prompts_with_completions() {
    let case = Case::new(Format::Instruction);
    let text = |line| {
        let example = case.encode(&line);
        let tokenizer = case.encoder();
        let tokenizer = tokenizer.tokenizer().unwrap();
        (
            tokenizer.decode(&example.input_ids, true).unwrap(),
            tokenizer.decode(&trained(&example), true).unwrap(),
        )
    };
    let line = json!({"instruction": "Do it", "input": "an", "output": "the A"});
    assert_eq!(text(line), ("Do it\n\nan\n\n### Answer: the A".into(), " the A".into()));
    let line = json!({"instruction": "Do it", "output": "the A"});
    assert_eq!(text(line), ("Do it\n\n### Answer: the A".into(), " the A".into()));

    let pair = json!({"prompt": "an:", "chosen": " A", "rejected": " B", "weight": 3});
    let (examples, _) = Case::new(Format::Preference).try_encode(&pair).unwrap();
    assert_eq!(examples.len(), 2);
    assert_eq!(trained(&examples[0]), [260, 1]);
    assert_eq!(trained(&examples[1]), [261, 1]);
    assert_eq!(examples[1].weight, 3.0);
}

#[test]
fn a_text_is_split_evenly_and_no_label_crosses() {
    let line = json!({"text": "an A B the"});
    let parts = |max, prefix| {
        let case =
            Case::new(Format::Text).with(|c| c.prefix = prefix).with(|c| c.settings.max_seq_length = max);
        let (examples, truncated) = case.try_encode(&line).unwrap();
        assert!(!truncated);
        examples.iter().map(|e| (e.input_ids.clone(), trained(e))).collect::<Vec<_>>()
    };
    assert_eq!(parts(6, true), [(vec![0, 267, 260, 261, 265, 1], vec![267, 260, 261, 265, 1])]);
    assert_eq!(
        parts(5, true),
        [(vec![0, 267, 260], vec![267, 260]), (vec![0, 261, 265, 1], vec![261, 265, 1])]
    );
    assert_eq!(parts(4, false), [(vec![267, 260], vec![260]), (vec![261, 265, 1], vec![265, 1])]);
}

#[test]
fn token_ids_stay_as_they_are() {
    let case = Case::new(Format::Tokens).with(|c| c.settings.max_seq_length = 4);
    let example = case.encode(&json!({"input_ids": [5, 6, 7], "labels": [-100, -100, 9]}));
    assert_eq!((example.input_ids, example.labels), (vec![5, 6, 7], vec![None, None, Some(9)]));
    let example = case.encode(&json!({"input_ids": [0, 5, 6, 7, 8], "labels": [0, -100, -100, 7, 8]}));
    assert_eq!((example.input_ids, example.labels), (vec![0, 6, 7, 8], vec![None, None, Some(7), Some(8)]));
    let error = case.try_encode(&json!({"input_ids": [5, 269], "labels": [5, 6]})).unwrap_err();
    assert!(error.contains("`input_ids[1]`: found 269, needed an id below the model's vocabulary size 269"));
    let error = case.try_encode(&json!({"input_ids": [5, 6], "labels": [5, 300]})).unwrap_err();
    assert!(error.contains("`labels[1]`: found 300"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let encoder = Encoder::open(&case.settings, LossOn::All, 0.0, folder.path(), 10).unwrap();
    let line = parse(Format::Tokens, &json!({"input_ids": [5, 6], "labels": [-100, 6]}));
    assert_eq!(encoder.encode(&line).unwrap().examples[0].input_ids, [5, 6]);
}

#[test]
fn an_example_that_teaches_nothing_is_an_error() {
    let case = Case::new(Format::Text).with(|c| c.prefix = false).with(|c| c.settings.append_eos = false);
    let error = case.try_encode(&json!({"text": "an"})).unwrap_err();
    assert!(error.contains("no token carries loss among 1"), "{error}");
}

#[test]
fn letters_are_compared_after_one_prompt() {
    let case = Case::new(Format::Mcqa);
    let line = parse(Format::Mcqa, &question());
    let letters = case.encoder().letters(&line, &[]).unwrap();
    let example = case.encode(&question());
    assert_eq!(letters.tokens, [260, 261]);
    assert_eq!(letters.prompt, example.input_ids[..example.input_ids.len() - 2]);

    let shot = case.encoder().letters(&line, &[&line]).unwrap();
    let mut both = example.input_ids[..example.input_ids.len() - 1].to_vec(); // without the end
    both.extend([14, 14]);
    both.extend(&letters.prompt[1..]);
    assert_eq!(shot.prompt, both);

    // cut as in training, where the letter and the end follow
    let short = Case::new(Format::Mcqa).with(|c| c.settings.max_seq_length = 50);
    let example = short.encode(&question());
    assert_eq!(short.encoder().letters(&line, &[]).unwrap().prompt, example.input_ids[..48]);

    let texts = case.encoder().option_texts(&line, &[]).unwrap();
    assert_eq!(trained(&texts[0]), [36, 267]);
    assert_eq!(trained(&texts[1]), [36, 199, 173]);
}

#[test]
fn letters_that_look_alike_to_the_tokenizer_are_refused() {
    let folder = model::folder(false);
    let words = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "</s>": 1, "A": 2}, "unk_token": "<unk>"},
    });
    model::write(folder.path(), "tokenizer.json", &words);
    let encoder = Encoder::open(&Settings::default(), LossOn::Completion, 0.0, folder.path(), 3).unwrap();
    let ask = |options: &[&str]| {
        let line = parse(Format::Mcqa, &json!({"question": "Q", "options": options, "answer": 0}));
        encoder.letters(&line, &[]).map(|l| l.tokens).map_err(|e| (e.to_string(), e.advice().is_some()))
    };
    assert_eq!(ask(&["x", "y"]), Ok(vec![2, 0]));
    let (error, advised) = ask(&["x", "y", "z"]).unwrap_err();
    assert!(error.contains("two letters begin with the same token") && advised, "{error}");
}

#[test]
fn a_model_without_an_end_or_a_tokenizer_is_refused_by_name() {
    let folder = model::folder(true);
    model::write(folder.path(), "tokenizer_config.json", &json!({}));
    model::write(folder.path(), "generation_config.json", &json!({}));
    let open = |settings: &Settings| {
        Encoder::open(settings, LossOn::Completion, 0.0, folder.path(), 269)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let error = open(&Settings::default()).unwrap_err();
    assert!(error.contains("tokenizer_config.json: found no `eos_token`"), "{error}");
    assert_eq!(open(&Settings { append_eos: false, ..Settings::default() }), Ok(()));
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = open(&Settings::default()).unwrap_err();
    assert!(error.contains("tokenizer.json: cannot read it"), "{error}");
    let error = open(&Settings { max_seq_length: 1, ..Settings::default() }).unwrap_err();
    assert!(error.contains("`data.max_seq_length`: found 1"), "{error}");
}

#[test]
fn a_prepared_data_set_is_split_counted_and_without_bad_lines() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("texts.jsonl");
    fs::write(&path, "{\"text\":\"an A B the\",\"id\":\"x\"}\n{\"text\":\"an\"}\n").unwrap();
    let case = Case::new(Format::Text).with(|c| c.settings.max_seq_length = 3);
    let encoder = case.encoder();
    let mut dataset = Dataset::open(&path, Format::Text, 0).unwrap();
    let counts = dataset.prepare(&encoder).unwrap();
    let ids: Vec<_> = (0..dataset.len()).map(|i| dataset.id(i)).collect();
    assert_eq!(ids, ["x", "x#1", "x#2", "2"]);
    assert_eq!(dataset.tokenized(1, &encoder).unwrap()[0].input_ids, [0, 260, 261]);
    assert_eq!((counts.examples, counts.split, counts.longest, counts.tokens), (4, 1, 3, 11));

    fs::write(&path, "{\"text\":\"an A B the\",\"id\":\"x\"}\n{\"text\":\"an\",\"id\":\"x#1\"}\n").unwrap();
    let mut dataset = Dataset::open(&path, Format::Text, 0).unwrap();
    let error = dataset.prepare(&encoder).unwrap_err().to_string();
    assert!(error.contains("texts.jsonl:2: `id`: found the id \"x#1\" again"), "{error}");

    let path = home.path().join("pairs.jsonl");
    fs::write(
        &path,
        "{\"prompt\":\"an\",\"completion\":\"the A B\"}\n{\"prompt\":\"the an\",\"completion\":\" A\"}\n",
    )
    .unwrap();
    let case = Case::new(Format::PromptCompletion).with(|c| c.settings.max_seq_length = 4);
    let open = |skip_bad| Dataset::open(&path, Format::PromptCompletion, skip_bad).unwrap();
    let error = open(0).prepare(&case.encoder()).unwrap_err().to_string();
    assert!(error.contains("pairs.jsonl:1: the completion has"), "{error}");
    let mut dataset = open(1);
    let counts = dataset.prepare(&case.encoder()).unwrap();
    assert_eq!((dataset.id(0), counts.skipped, counts.truncated, counts.trained_tokens), ("2", 1, 1, 2));
}
