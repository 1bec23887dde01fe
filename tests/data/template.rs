//! Chat templates and templates of the user's own.

use std::fs;
use std::path::Path;

use preceptor::data::line::{Format, Line};
use preceptor::data::{Encoder, LossOn, Settings};
use serde_json::{Value, json};

use crate::model;

/// The text of a line under the template, and what of it is learned.
fn encode(folder: &Path, template: &str, format: Format, line: &Value) -> Result<(Vec<u32>, String), String> {
    let settings = Settings { format, template: template.into(), ..Settings::default() };
    let run = || {
        let encoder = Encoder::open(&settings, LossOn::Completion, 0.0, folder, model::VOCAB_SIZE)?;
        let line = Line::parse(line.to_string().as_bytes(), format)?;
        let example = encoder.encode(&line)?.examples.remove(0);
        let trained: Vec<u32> = example.losses().map(|(_, target)| target).collect();
        Ok((example.input_ids, encoder.tokenizer()?.decode(&trained, false)?))
    };
    run().map_err(|e: preceptor::base::Error| e.to_string())
}

fn conversation() -> Value {
    json!({"messages": [
        {"role": "user", "content": " an A? "},
        {"role": "assistant", "content": "the B"},
        {"role": "user", "content": "an"},
        {"role": "assistant", "content": "A "},
    ]})
}

/// What is learned of the conversation under the model's chat template `source`.
fn learned(source: &str) -> Result<String, String> {
    let folder = model::folder(true);
    fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    encode(folder.path(), "chat", Format::Messages, &conversation()).map(|(_, learned)| learned)
}

#[test]
fn the_loss_is_on_the_assistants_turns() {
    let folder = model::folder(true);
    for template in ["chat", "exam"] {
        let (ids, learned) = encode(folder.path(), template, Format::Messages, &conversation()).unwrap();
        // Transformers: apply_chat_template, then the tokenizer without special tokens; the line end after
        // the last turn is not needed, but is kept
        let expected = [
            2, 121, 119, 105, 118, 14, 267, 260, 67, 3, 14, 2, 101, 119, 119, 109, 119, 120, 267, 120, 14,
            120, 264, 261, 3, 14, 2, 121, 119, 105, 118, 14, 267, 3, 14, 2, 101, 119, 119, 109, 119, 120,
            267, 120, 14, 69, 3, 14,
        ];
        assert_eq!(ids, expected);
        assert_eq!(learned, "the B<|im_end|>A<|im_end|>");
    }
}

#[test]
fn other_formats_become_turns() {
    let folder = model::folder(true);
    let folder = folder.path();
    let learned = |format, line| encode(folder, "chat", format, &line).unwrap();
    let (ids, text) = learned(Format::PromptCompletion, json!({"prompt": "an", "completion": "A"}));
    assert_eq!(ids[..9], [2, 121, 119, 105, 118, 14, 267, 3, 14]);
    assert_eq!(text, "A<|im_end|>");
    let (_, text) = learned(Format::Mcqa, json!({"question": "Q", "options": ["x", "y"], "answer": 1}));
    assert_eq!(text, "B<|im_end|>");
    let (_, text) = learned(Format::Instruction, json!({"instruction": "Q", "input": "an", "output": "the"}));
    assert_eq!(text, "the<|im_end|>");
}

#[test]
fn a_turn_is_found_although_templates_write_the_last_one_differently() {
    let thinking = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content.split('x')[-1] }}<|im_end|>\n\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    assert_eq!(learned(thinking).unwrap(), "the B<|im_end|><think></think>A <|im_end|>");
    // the start that is offered to a generating model is not how a finished turn starts
    let offering =
        thinking.replace("<think></think>", "").replace("assistant\n{% endif", "assistant\n<think>{% endif");
    assert_eq!(learned(&offering).unwrap(), "the B<|im_end|>A <|im_end|>");
    // no end of turn in sight: the last turn's end is appended
    assert_eq!(learned("{% for m in messages %}{{ m.content }};{% endfor %}").unwrap(), "the B;A ;</s>");
}

#[test]
fn a_template_that_cannot_be_cut_is_an_error() {
    let error = learned("{% for m in messages %}{{ m.role }}{% endfor %}").unwrap_err();
    assert!(
        error.contains("chat_template.jinja: the template's text cannot be cut at `messages[1]`"),
        "{error}"
    );
    let closing = "{% for m in messages %}{{ m.content }}{% if loop.last %}<|im_end|>{% else %};{% endif %}{% endfor %}";
    assert!(learned(closing).unwrap_err().contains("cannot be cut at `messages[1]`"));
}

#[test]
fn templates_run_as_they_do_in_python() {
    let turn = "{%- for m in messages %}{{ m.content }}<|im_end|>{%- endfor %}";
    let after = |text: &str| learned(&format!("{turn}{text}"));
    assert!(after("{{ raise_exception('no such turn') }}").unwrap_err().contains("no such turn"));
    assert!(after("{% endfor %}").unwrap_err().contains("chat_template.jinja:1: the template failed"));
    assert!(learned("{%}").is_err());
    // block tags vanish with their line, generation marks print nothing
    let source = "{% for m in messages %}\n  {% generation %}\n{{ m.content }}<|im_end|>\n  {% endgeneration %}\n{% endfor %}\n";
    assert_eq!(learned(source).unwrap(), "the B<|im_end|>A <|im_end|>");

    let folder = model::folder(true);
    let say = |source: &str| {
        let file = folder.path().join("prompt.jinja");
        fs::write(&file, source).unwrap();
        let line = json!({"prompt": "a<b>", "completion": "Z"});
        let (ids, _) =
            encode(folder.path(), file.to_str().unwrap(), Format::PromptCompletion, &line).unwrap();
        let tokenizer = preceptor::data::Tokenizer::open(folder.path()).unwrap();
        tokenizer.decode(&ids, true).unwrap()
    };
    assert_eq!(say("{{ {'k': [1, prompt]} | tojson }}"), r#"{"k": [1, "a<b>"]}Z"#);
    assert_eq!(say("{{ [1] | tojson(indent=2) }}"), "[\n  1\n]Z");
    assert_eq!(say("{{ strftime_now('%d %b %Y, %Y-%m-%d') }}"), "26 Jul 2024, 2024-07-26Z");
    assert_eq!(say("{{ prompt.upper().startswith('A') }}"), "TrueZ");
}

#[test]
fn a_file_of_the_users_own_writes_the_prompt() {
    let folder = model::folder(true);
    let file = folder.path().join("own.jinja");
    let source = "{{ subject }}|{{ context }}|{{ question }}\n\
        {% for option in options %}{{ letters[loop.index0] }}={{ option }};{% endfor %}>";
    fs::write(&file, source).unwrap();
    let line = json!({"question": "Q", "options": ["x", "y"], "answer": 1, "subject": "s", "context": "c"});
    let (ids, learned) = encode(folder.path(), file.to_str().unwrap(), Format::Mcqa, &line).unwrap();
    let tokenizer = preceptor::data::Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<s>s|c|Q\nA=x;B=y;> B</s>");
    assert_eq!(learned, " B</s>");

    let missing = encode(folder.path(), "examn", Format::Mcqa, &line).unwrap_err();
    assert!(missing.contains("examn: `data.template`: cannot read it"), "{missing}");
}

#[test]
fn a_model_without_a_chat_template_is_refused_by_name() {
    let folder = model::folder(true);
    let named = json!({"eos_token": "</s>", "chat_template": [
        {"name": "tool_use", "template": "x"},
        {"name": "default", "template": model::CHATML},
    ]});
    model::write(folder.path(), "tokenizer_config.json", &named);
    assert!(encode(folder.path(), "chat", Format::Messages, &conversation()).is_ok());
    model::write(folder.path(), "tokenizer_config.json", &json!({"eos_token": "</s>"}));
    let error = encode(folder.path(), "chat", Format::Messages, &conversation()).unwrap_err();
    assert!(error.contains("tokenizer_config.json: `chat_template`: missing"), "{error}");
}

#[test]
fn ends_come_from_all_of_the_models_files() {
    let folder = model::folder(true);
    let tokenizer = preceptor::data::Tokenizer::open(folder.path()).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.prefix()), (&[1, 3][..], &[0][..]));
    assert_eq!(tokenizer.token(261).as_deref(), Some("ĠB"));
}
