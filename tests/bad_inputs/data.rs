//! Lines of data, and data that does not fit the order or the model.

use super::check;
use super::sandbox::Sandbox;

const SCORE: &str = "score --model m --data bad.jsonl";
const TRAIN: &str = "train run.toml --set data.train=bad.jsonl";
/// Reads any lines, and no model.
const ORDER: &str = "order --data bad.jsonl --strategy random";

/// One good line of token ids.
const GOOD: &str = r#"{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}"#;
/// A good question, without its closing brace.
const QUESTION: &str = r#"{"question": "1+1?", "options": ["2", "3"], "answer": 0"#;

/// A good line of token ids, then this one.
fn second(s: &Sandbox, line: &str) {
    s.write("bad.jsonl", format!("{GOOD}\n{line}\n"));
}

/// A good question, then this one.
fn question(s: &Sandbox, line: &str) {
    s.write("bad.jsonl", format!("{QUESTION}}}\n{line}\n"));
}

fn only(s: &Sandbox, line: &str) {
    s.write("bad.jsonl", format!("{line}\n"));
}

#[test]
#[rustfmt::skip] // one row, one line
fn files() {
    check(2, &[
        ("no such file", |_| (), TRAIN, &["bad.jsonl: cannot open it"]),
        ("a directory", |s| std::fs::create_dir(s.path("bad.jsonl")).unwrap(), TRAIN, &[
            "bad.jsonl: not a regular file",
            "hint: write the data to a file first",
        ]),
        ("an empty file", |s| s.write("bad.jsonl", ""), TRAIN, &[
            "bad.jsonl: found no example, needed lines of the format tokens",
        ]),
        ("an empty file of no format", |s| s.write("bad.jsonl", "\n\n"), ORDER, &[
            "bad.jsonl: found no line, needed one JSON object a line",
        ]),
        ("keys of no format", |s| only(s, r#"{"q": "1+1?", "a": "2"}"#), ORDER, &[
            "bad.jsonl:1: the line has the keys of no format",
            "mcqa (question, options, answer)",
        ]),
        ("another format than said", |s| second(s, r#"{"prompt": "a", "completion": "b"}"#), TRAIN, &[
            "bad.jsonl:2: `input_ids`: missing; the line has `prompt`, `completion`",
            "hint: `data.format` says what each line must hold",
        ]),
        ("not JSON", |s| second(s, "{'input_ids': [1, 2]}"), TRAIN, &[
            "bad.jsonl:2: not a JSON object: key must be a string at column 2",
            "hint: each line must be one whole JSON object",
        ]),
        ("a line cut short", |s| second(s, &GOOD[..30]), TRAIN, &["bad.jsonl:2: not a JSON object: EOF"]),
        ("two objects on a line", |s| second(s, &format!("{GOOD} {GOOD}")), TRAIN, &[
            "bad.jsonl:2: not a JSON object: trailing characters at column 50",
        ]),
        ("a list", |s| second(s, "[5, 6]"), TRAIN, &["bad.jsonl:2: found a list of 2, needed a JSON object"]),
        ("not UTF-8", |s| s.write("bad.jsonl", b"{\"text\": \"\xff\"}\n"), TRAIN, &[
            "bad.jsonl:1: not UTF-8 text at byte 10 of the line",
        ]),
        ("nothing but bad lines", |s| s.write("bad.jsonl", "x\ny\n"), "train run.toml --set data.train=bad.jsonl --set data.skip_bad=2", &[
            "bad.jsonl: found no example",
            "skipped a bad line (2 of at most 2)",
        ]),
        ("more bad lines than may be skipped", |s| s.write("bad.jsonl", format!("x\n{GOOD}\ny\n")), "train run.toml --set data.train=bad.jsonl --set data.skip_bad=1", &[
            "bad.jsonl:3: not a JSON object",
            "skipped a bad line (1 of at most 1): bad.jsonl:1: not a JSON object",
        ]),
        ("a bad line to evaluate on", |s| only(s, "x"), "train run.toml --set data.eval=bad.jsonl", &[
            "bad.jsonl:1: not a JSON object",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn fields_of_every_format() {
    check(2, &[
        ("an id twice", |s| s.write("bad.jsonl", GOOD.replace('{', "{\"id\": \"a\", ") + "\n" + &GOOD.replace('{', "{\"id\": \"a\", ")), TRAIN, &[
            "bad.jsonl:2: `id`: found the id \"a\" again, which line 1 has",
            "hint: ids are unique in a file",
        ]),
        ("the number of another line as id", |s| second(s, &GOOD.replace('{', "{\"id\": 1, ")), TRAIN, &[
            "bad.jsonl:2: `id`: found the id \"1\" again, which line 1 has",
        ]),
        ("an id that is none", |s| second(s, &GOOD.replace('{', "{\"id\": 1.5, ")), TRAIN, &[
            "bad.jsonl:2: `id`: found the number 1.5, needed a text that is not empty, or an integer",
        ]),
        ("a weight below 0", |s| second(s, &GOOD.replace('{', "{\"weight\": -2, ")), TRAIN, &[
            "bad.jsonl:2: `weight`: found -2, needed a number above 0",
            "hint: a line without weight has weight 1",
        ]),
        ("a weight of 0", |s| second(s, &GOOD.replace('{', "{\"weight\": 0, ")), TRAIN, &[
            "bad.jsonl:2: `weight`: found 0",
        ]),
        ("a weight that is NaN", |s| second(s, &GOOD.replace('{', "{\"weight\": NaN, ")), TRAIN, &[
            "bad.jsonl:2: not a JSON object",
            "hint: JSON has no NaN and no Infinity",
        ]),
        ("a weight that is a text", |s| second(s, &GOOD.replace('{', "{\"weight\": \"2\", ")), TRAIN, &[
            "bad.jsonl:2: `weight`: found the text \"2\", needed a number",
        ]),
        ("a weight too large for f32", |s| second(s, &GOOD.replace('{', "{\"weight\": 1e300, ")), TRAIN, &[
            "bad.jsonl:2: `weight`: found ",
        ]),
        ("a smoothing of 1", |s| second(s, &GOOD.replace('{', "{\"smoothing\": 1, ")), TRAIN, &[
            "bad.jsonl:2: `smoothing`: found 1, needed a number from 0 to below 1",
        ]),
        ("a subject that is a list", |s| second(s, &GOOD.replace('{', "{\"subject\": [], ")), TRAIN, &[
            "bad.jsonl:2: `subject`: found a list of 0, needed a text or a number",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn token_ids() {
    check(2, &[
        ("a negative id", |s| second(s, r#"{"input_ids": [5, -1], "labels": [-100, 6]}"#), TRAIN, &[
            "bad.jsonl:2: `input_ids[1]`: found -1, needed a token id",
        ]),
        ("an id that is a text", |s| second(s, r#"{"input_ids": [5, "6"], "labels": [-100, 6]}"#), TRAIN, &[
            "bad.jsonl:2: `input_ids[1]`: found the text \"6\", needed an integer",
        ]),
        ("an id above the vocabulary", |s| second(s, r#"{"input_ids": [5, 131], "labels": [-100, 6]}"#), TRAIN, &[
            "bad.jsonl:2: `input_ids[1]`: found 131, needed an id below the model's vocabulary size 131",
        ]),
        ("a label above the vocabulary", |s| second(s, r#"{"input_ids": [5, 6], "labels": [-100, 131]}"#), TRAIN, &[
            "bad.jsonl:2: `labels[1]`: found 131",
        ]),
        ("a label that is none", |s| second(s, r#"{"input_ids": [5, 6], "labels": [-100, -1]}"#), TRAIN, &[
            "bad.jsonl:2: `labels[1]`: found -1, needed a token id, or -100 for no loss",
        ]),
        ("fewer labels than ids", |s| second(s, r#"{"input_ids": [5, 6], "labels": [6]}"#), TRAIN, &[
            "bad.jsonl:2: `labels`: found 1, needed 2, as many as `input_ids`",
        ]),
        ("one id alone", |s| second(s, r#"{"input_ids": [5], "labels": [5]}"#), TRAIN, &[
            "bad.jsonl:2: `input_ids`: found 1, needed at least 2",
        ]),
        ("no trained token", |s| second(s, r#"{"input_ids": [5, 6], "labels": [5, -100]}"#), TRAIN, &[
            "bad.jsonl:2: `labels`: found no trained token",
            "hint: labels[i] is the target for input_ids[i]; labels[0] is ignored",
        ]),
        ("a completion that does not fit", |s| second(s, GOOD), "train run.toml --set data.train=bad.jsonl --set data.max_seq_length=2", &[
            "bad.jsonl:1: the completion has 2 tokens and needs 1 before it, but `data.max_seq_length` = 2",
            "a completion is never cut",
        ]),
        ("longer than the model's context", |s| second(s, &format!(r#"{{"input_ids": {0:?}, "labels": {0:?}}}"#, [9; 300])), TRAIN, &[
            "bad.jsonl: `data.max_seq_length`: the longest example has 300 tokens, the model's context 256",
            "hint: set it to at most 256",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn questions() {
    check(2, &[
        ("an answer past the options", |s| question(s, &(QUESTION.replace("\"answer\": 0", "\"answer\": 2") + "}")), SCORE, &[
            "bad.jsonl:2: `answer`: found 2, needed the index of an option: 0 to 1",
        ]),
        ("an answer that is a letter", |s| question(s, &(QUESTION.replace("\"answer\": 0", "\"answer\": \"A\"") + "}")), SCORE, &[
            "bad.jsonl:2: `answer`: found the text \"A\", needed an integer",
        ]),
        ("one option", |s| question(s, r#"{"question": "1+1?", "options": ["2"], "answer": 0}"#), SCORE, &[
            "bad.jsonl:2: `options`: found 1, needed 2 to 26, one for each letter",
        ]),
        ("27 options", |s| question(s, &format!(r#"{{"question": "1+1?", "options": {:?}, "answer": 0}}"#, ["2"; 27])), SCORE, &[
            "bad.jsonl:2: `options`: found 27",
        ]),
        ("an empty option", |s| question(s, &(QUESTION.replace("\"3\"", "\" \"") + "}")), SCORE, &[
            "bad.jsonl:2: `options[1]`: found an empty text",
        ]),
        ("an empty question", |s| question(s, &(QUESTION.replace("1+1?", "") + "}")), SCORE, &[
            "bad.jsonl:2: `question`: found an empty text",
        ]),
        ("a teacher without a probability for each option", |s| question(s, &format!("{QUESTION}, \"teacher\": [1]}}")), SCORE, &[
            "bad.jsonl:2: `teacher`: found 1 probabilities, needed one for each of 2 options",
        ]),
        ("a teacher's probability above 1", |s| question(s, &format!("{QUESTION}, \"teacher\": [1.5, -0.5]}}")), SCORE, &[
            "bad.jsonl:2: `teacher[0]`: found 1.5, needed a probability from 0 to 1",
        ]),
        ("a teacher whose probabilities do not sum to 1", |s| question(s, &format!("{QUESTION}, \"teacher\": [0.5, 0.25]}}")), SCORE, &[
            "bad.jsonl:2: `teacher`: the probabilities sum to 0.75, needed 1",
        ]),
        ("lines that are no questions", |_| (), "evaluate --model m --data d.jsonl", &[
            "d.jsonl: the lines are no multiple-choice questions",
            "hint: needed in each line: question, options, answer",
        ]),
        ("no room for a question", |_| (), "evaluate --model m --data q.jsonl --max-seq-length 1", &[
            "invalid value '1' for '--max-seq-length <N>'",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn texts() {
    check(2, &[
        ("a prompt without a completion", |s| only(s, r#"{"prompt": "a"}"#), "score --model m --data bad.jsonl --format prompt-completion", &[
            "bad.jsonl:1: `completion`: missing; the line has `prompt`",
        ]),
        ("an empty completion", |s| only(s, r#"{"prompt": "a", "completion": ""}"#), SCORE, &[
            "bad.jsonl:1: `completion`: found an empty text",
        ]),
        ("a prompt that is a number", |s| only(s, r#"{"prompt": 3, "completion": "a"}"#), SCORE, &[
            "bad.jsonl:1: `prompt`: found the number 3, needed a text",
        ]),
        ("an instruction without an output", |s| only(s, r#"{"instruction": "a", "output": null}"#), "score --model m --data bad.jsonl --format instruction", &[
            "bad.jsonl:1: `output`: missing",
        ]),
        ("an empty text", |s| only(s, r#"{"text": " "}"#), SCORE, &[
            "bad.jsonl:1: `text`: found an empty text",
        ]),
        ("a text of one token", |s| only(s, r#"{"text": "a"}"#), SCORE, &[
            "bad.jsonl:1: no token carries loss among 1: the first has nothing to predict it",
            "hint: give the line a prompt or a longer completion",
        ]),
        ("a completion beyond the tokenizer's vocabulary", |s| only(s, r#"{"prompt": "a", "completion": "éü"}"#), SCORE, &[
            "bad.jsonl:1: nothing of what is to be learned is in the tokenizer's vocabulary, 'é' neither",
            "hint: write the line in characters that the model knows, or use another model",
        ]),
        ("a text beyond the tokenizer's vocabulary", |s| only(s, r#"{"text": "éü"}"#), SCORE, &[
            "bad.jsonl:1: nothing of what is to be learned is in the tokenizer's vocabulary, 'é' neither",
        ]),
        ("chosen and rejected alike", |s| only(s, r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#), SCORE, &[
            "bad.jsonl:1: `rejected`: found the same text as in `chosen`",
        ]),
        ("messages that are no list", |s| only(s, r#"{"messages": "hello"}"#), SCORE, &[
            "bad.jsonl:1: `messages`: found the text \"hello\", needed a list",
        ]),
        ("a message without a role", |s| only(s, r#"{"messages": [{"content": "hello"}]}"#), SCORE, &[
            "bad.jsonl:1: `messages[0].role`: missing",
        ]),
        ("an unknown role", |s| only(s, r#"{"messages": [{"role": "human", "content": "hello"}]}"#), SCORE, &[
            "bad.jsonl:1: `messages[0].role`: found \"human\", needed system, user, assistant or tool",
        ]),
        ("nothing the assistant says", |s| only(s, r#"{"messages": [{"role": "user", "content": "hello"}]}"#), SCORE, &[
            "bad.jsonl:1: `messages`: found no message of the role assistant",
            "hint: add the answer to learn, or remove the line",
        ]),
        ("a character beyond the model's vocabulary", |s| {
            s.edit("m/tokenizer.json", "\"z\":94", "\"z\":131");
            only(s, r#"{"prompt": "a", "completion": "xyz"}"#);
        }, SCORE, &["bad.jsonl:1: ", "131", "vocabulary"]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn templates() {
    check(2, &[
        ("a model without a chat template", |_| (), "score --model m --data q.jsonl --template chat", &[
            "m/tokenizer_config.json: `chat_template`: missing, needed the model's chat template",
            "hint: the model has none",
        ]),
        ("a template file that is not there", |_| (), "score --model m --data q.jsonl --template t.jinja", &[
            "t.jinja: ",
            "cannot read it",
            "hint: a template is `exam`, `chat` or the path of a minijinja file",
        ]),
        ("a template with a mistake", |s| s.write("t.jinja", "{{ question }}\n{% if %}"), "score --model m --data q.jsonl --template t.jinja", &[
            "t.jinja:2: ",
            "syntax error",
        ]),
        ("a template that fails", |s| s.write("t.jinja", "{{ question.first.second }}"), "score --model m --data q.jsonl --template t.jinja", &[
            "t.jinja:1: ",
            "q.jsonl",
        ]),
        ("a chat template with a mistake", |s| s.write("m/chat_template.jinja", "{% for m in %}"), "score --model m --data q.jsonl --template chat", &[
            "m/chat_template.jinja:1: ",
            "syntax error",
        ]),
        ("a chat template that refuses the conversation", |s| s.write("m/chat_template.jinja", "{{ raise_exception('roles must alternate') }}"), "score --model m --data q.jsonl --template chat", &[
            "m/chat_template.jinja:1: ",
            "roles must alternate",
        ]),
        ("no tokenizer", |s| std::fs::remove_file(s.path("m/tokenizer.json")).unwrap(), "score --model m --data q.jsonl", &[
            "m/tokenizer.json: cannot read it",
            "hint: a model's folder needs its tokenizer to read or write text",
        ]),
        ("a broken tokenizer", |s| s.write("m/tokenizer.json", "{}"), "score --model m --data q.jsonl", &[
            "m/tokenizer.json: not a tokenizer",
        ]),
        ("an end token that the tokenizer lacks", |s| s.write("m/tokenizer_config.json", r#"{"eos_token": "<end>"}"#), "score --model m --data q.jsonl", &[
            "m/tokenizer_config.json: `eos_token`: found the token \"<end>\", needed one that tokenizer.json knows",
        ]),
        ("no end token where one is appended", |s| {
            s.write("m/tokenizer_config.json", "{}");
            s.edit("m/config.json", " \"eos_token_id\": 2,\n", "");
        }, "train run.toml --set data.train=q.jsonl --set data.format=mcqa", &[
            "m/tokenizer_config.json: found no `eos_token`, which `data.append_eos` needs",
            "or set `data.append_eos = false`",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn orders() {
    check(2, &[
        ("no difficulty", |s| second(s, &GOOD.replace('{', "{\"difficulty\": 3, ")), "order --data bad.jsonl --strategy curriculum", &[
            "bad.jsonl:1: `difficulty`: missing or empty, needed a number",
            "hint: give each line a number, or name another column by `sampler.difficulty`",
        ]),
        ("a difficulty that is a text", |s| only(s, &GOOD.replace('{', "{\"difficulty\": \"hard\", ")), "order --data bad.jsonl --strategy tiered", &[
            "bad.jsonl:1: `difficulty`: found the text \"hard\", needed a number",
        ]),
        ("no category", |s| second(s, &GOOD.replace('{', "{\"subject\": \"x\", ")), "order --data bad.jsonl --strategy blocked", &[
            "bad.jsonl:1: `subject`: missing or empty, needed a category",
            "hint: give each line one, or name another column by `sampler.category`",
        ]),
        ("a column that is not there", |_| (), "order --data d.jsonl --strategy interleaved --category topic", &[
            "d.jsonl:1: `topic`: missing or empty",
        ]),
        ("a category that is not there", |_| (), "train run.toml --set sampler.strategy=blocked --set sampler.category_order=[\"x\",\"y\",\"w\"]", &[
            "d.jsonl: `sampler.category_order`: lists `w`, which is no category of the data",
            "hint: the data's categories are: x, y, z",
        ]),
        ("a category twice", |_| (), "train run.toml --set sampler.strategy=blocked --set sampler.category_order=[\"x\",\"x\"]", &[
            "d.jsonl: `sampler.category_order`: lists `x` twice",
        ]),
        ("a category left out", |_| (), "train run.toml --set sampler.strategy=blocked --set sampler.category_order=[\"x\"]", &[
            "d.jsonl: `sampler.category_order`: does not list category `y`",
        ]),
        ("a mixture with a negative weight", |_| (), "train run.toml --set sampler.strategy=mixture --set sampler.weights.x=-1", &[
            "d.jsonl: `sampler.weights`: gives `x` -1, needed a weight of at least 0",
        ]),
        ("a mixture without a weight for a category", |_| (), "train run.toml --set sampler.strategy=mixture --set sampler.weights.x=1", &[
            "d.jsonl: `sampler.weights`: has no weight for category `y`",
            "hint: give every category a weight; 0 leaves one out",
        ]),
        ("no parts", |_| (), "order --data d.jsonl --strategy interleaved --parts 0", &[
            "invalid value '0' for '--parts <N>'",
        ]),
    ]);
}

#[test]
#[rustfmt::skip] // one row, one line
fn prompts() {
    check(2, &[
        ("a prompt without a token", |_| (), "generate --model m --prompt=", &["`--prompt`: the prompt has no token"]),
        ("no room in the context", |_| (), "generate --model m --prompt abc --max-new-tokens 254", &[
            "`--prompt`: the prompt has 3 tokens, 254 are to follow, but the model's context is 256",
            "hint: shorten the prompt, or lower --max-new-tokens",
        ]),
        ("texts, which have no prompt", |s| only(s, r#"{"text": "a"}"#), "generate --model m --data bad.jsonl", &[
            "bad.jsonl: the lines are texts, which have no prompt",
        ]),
        ("a temperature below 0", |_| (), "generate --model m --prompt a --temperature=-1", &["`--temperature`: found -1"]),
        ("a share above 1", |_| (), "generate --model m --prompt a --top-p 1.5", &["`--top-p`: found 1.5"]),
        ("an empty stop string", |_| (), "generate --model m --prompt a --stop=", &["`--stop`: found an empty text"]),
        ("more shots than questions", |_| (), "evaluate --model m --data q.jsonl --shots 7 --shots-from q.jsonl", &[
            "q.jsonl: `--shots`: found 6 questions, needed at least 7, one a shot",
        ]),
        ("shots that are the question itself", |_| (), "evaluate --model m --data q.jsonl --shots 6 --shots-from q.jsonl", &[
            "q.jsonl:1: `--shots`: found 5 other questions, needed 6",
        ]),
    ]);
}
