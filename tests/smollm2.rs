//! SmolLM2-135M-Instruct, the real model that `cargo xtask test` prepares, against what Transformers says of it.
//!
//! Without `PRECEPTOR_SMOLLM2` these tests print `skipped:` and pass.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a skip is told and counted, and how near we are")]

use std::io::Write;
use std::path::{Path, PathBuf};

use preceptor::data::line::{Message, PromptCompletion, Role};
use preceptor::data::{
    Body, Dataset, Encoder, Format, Line, LossOn, Settings, Template, Tokenized, Tokenizer,
};
use preceptor::device::Device;
use preceptor::model::Model;
use preceptor::model::settings::WeightStorage;
use preceptor::train::generate::{Generator, Prompt, Sampling, Transcript};
use preceptor::train::score::Scorer;
use preceptor::train::shots::Shots;
use serde_json::Value;

/// The model's folder, or a counted skip.
fn smollm2() -> Option<PathBuf> {
    let folder = std::env::var_os("PRECEPTOR_SMOLLM2").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: PRECEPTOR_SMOLLM2 names no model; `cargo xtask test` prepares one");
    }
    folder
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smollm2.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn encoder(folder: &Path, format: Format) -> Encoder {
    let settings = Settings { format, append_eos: false, max_seq_length: 2048, ..Settings::default() };
    Encoder::open(&settings, LossOn::Completion, 0.0, folder, 49_152).unwrap()
}

#[test]
fn texts_and_conversations_have_the_same_ids() {
    let Some(folder) = smollm2() else { return };
    let golden = golden();
    let tokenizer = Tokenizer::open(&folder).unwrap();
    for text in golden["texts"].as_array().unwrap() {
        let found = tokenizer.encode(text["text"].as_str().unwrap()).unwrap().ids;
        assert_eq!(found, ids(&text["ids"]), "{}", text["text"]);
    }
    let Template::Chat(chat) = Template::open("chat", Format::Messages, &folder, &tokenizer).unwrap() else {
        panic!("the model has a chat template")
    };
    for chat_case in golden["chats"].as_array().unwrap() {
        let message = |turn: &Value| {
            let role = match turn["role"].as_str().unwrap() {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => panic!("an unknown role, {other}"),
            };
            Message::new(role, turn["content"].as_str().unwrap())
        };
        let messages: Vec<Message> = chat_case["messages"].as_array().unwrap().iter().map(message).collect();
        let rendered = chat.render(&messages, chat_case["add_generation_prompt"].as_bool().unwrap()).unwrap();
        assert_eq!(rendered, chat_case["rendered"].as_str().unwrap());
        assert_eq!(tokenizer.encode(&rendered).unwrap().ids, ids(&chat_case["ids"]));
    }
}

/// Our questions and their answers by make_smollm2_answers.py, and those of a folder with `questions.jsonl` and
/// `answers.json`; without the latter, the questions are those of smollm2_exams.json, which may not be copied.
fn answers() -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = (root.join("examples/questions.jsonl"), root.join("tests/golden/smollm2_answers.json"));
    let other = std::env::var_os("PRECEPTOR_ANSWERS").map(PathBuf::from);
    let other = other.map(|folder| {
        let answers = Some(folder.join("answers.json")).filter(|path| path.exists());
        let exams = || root.join("tests/golden/smollm2_exams.json");
        (folder.join("questions.jsonl"), answers.unwrap_or_else(exams))
    });
    let read = |(questions, answers): (PathBuf, PathBuf)| {
        (questions, serde_json::from_slice(&std::fs::read(answers).unwrap()).unwrap())
    };
    [Some(own), other].into_iter().flatten().map(read).collect()
}

/// In f64; `noise` is how far Transformers in f32 is from that.
#[test]
fn answers_and_continuations_are_those_of_transformers() {
    let Some(folder) = smollm2() else { return };
    let device = Device::open(&preceptor::device::Settings::default()).unwrap();
    let model = Model::open(&folder, WeightStorage::Auto).unwrap();
    let scorer = Scorer { device: &device, model: &model, adapter: None, micro_batch_tokens: 2048 };
    for (questions, answers) in answers() {
        let noise = |of: &str| answers["noise"][of].as_f64().unwrap();
        let (mut worst_letter, mut worst_text) = (0.0_f64, 0.0_f64);
        let encoder = encoder(&folder, Format::Mcqa);
        let data = Dataset::open(&questions, Format::Mcqa, 0).unwrap();
        let shots = Shots::new(&data, answers["shots"].as_u64().unwrap() as usize).unwrap();
        let place = |data: &Dataset, case: &Value| {
            let id = case["id"].as_str().unwrap();
            (0..data.len()).find(|&i| data.id(i) == id).unwrap()
        };
        for (cases, shots) in [("zero_shot", &Shots::default()), ("few_shot", &shots)] {
            let cases = answers[cases].as_array().unwrap();
            // only the questions that are asked
            let mut file = tempfile::NamedTempFile::new().unwrap();
            for line in std::fs::read_to_string(&questions).unwrap().lines() {
                let id = serde_json::from_str::<Value>(line).unwrap()["id"].take();
                if cases.iter().any(|case| case["id"] == id) {
                    writeln!(file, "{line}").unwrap();
                }
            }
            let asked = Dataset::open(file.path(), Format::Mcqa, 0).unwrap();
            let found = scorer.letters_after(&asked, &encoder, shots).unwrap();
            assert_eq!(found.len(), cases.len());
            for case in cases {
                let theirs = case["probabilities"].as_array().unwrap();
                let ours = &found[place(&asked, case)].probabilities;
                assert_eq!(theirs.len(), ours.len());
                for (theirs, ours) in theirs.iter().zip(ours) {
                    let gap = (theirs.as_f64().unwrap() - ours).abs();
                    assert!(gap <= 10.0 * noise("letters"), "{}: off by {gap:e}", case["id"]);
                    worst_letter = worst_letter.max(gap);
                }
            }
        }
        for case in answers["few_shot"].as_array().unwrap() {
            let line = data.line(place(&data, case)).unwrap();
            let before = shots.lines(&shots.before(&line).unwrap());
            let tokens = encoder.letters(&line, &before).unwrap().prompt.len();
            assert_eq!(tokens as u64, case["prompt_tokens"].as_u64().unwrap());
        }

        let cases = answers["option_texts"].as_array().unwrap();
        let texts =
            |case: &Value| encoder.option_texts(&data.line(place(&data, case)).unwrap(), &[]).unwrap();
        let examples = cases.iter().flat_map(texts).collect::<Vec<_>>();
        let theirs = cases.iter().flat_map(|case| case["options"].as_array().unwrap());
        for (theirs, ours) in theirs.zip(scorer.likelihoods(&examples)) {
            assert_eq!(theirs["tokens"].as_u64().unwrap(), ours.tokens as u64);
            let gap = ((theirs["sum_nll"].as_f64().unwrap() - ours.sum_nll) / ours.tokens as f64).abs();
            assert!(gap <= 10.0 * noise("option_texts"), "off by {gap:e} a token");
            worst_text = worst_text.max(gap);
        }
        println!(
            "{}: letters off by at most {worst_letter:e}, noise {:e}; option texts {worst_text:e} a token, noise {:e}",
            questions.display(),
            noise("letters"),
            noise("option_texts")
        );
        continuations(&device, &model, &folder, &answers["generation"]);
    }
}

/// Greedy tokens and their text, all prompts at once.
fn continuations(device: &Device, model: &Model, folder: &Path, cases: &Value) {
    let cases = cases.as_array().unwrap();
    let message = |turn: &Value| {
        let role = match turn["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        Message::new(role, turn["content"].as_str().unwrap())
    };
    let (plain, chat) = (encoder(folder, Format::PromptCompletion), encoder(folder, Format::Messages));
    let prompts: Vec<Vec<u32>> = cases
        .iter()
        .map(|case| {
            let found = match case["messages"].as_array() {
                Some(turns) => chat.prompt(&Line::plain(Body::Messages(turns.iter().map(message).collect()))),
                None => {
                    let (prompt, completion) = (case["prompt"].as_str().unwrap().to_owned(), String::new());
                    plain
                        .prompt(&Line::plain(Body::PromptCompletion(PromptCompletion { prompt, completion })))
                }
            };
            let found = found.unwrap();
            assert_eq!(found, ids(&case["prompt_ids"]));
            found
        })
        .collect();
    let tokenizer = plain.tokenizer().unwrap();
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["tokens"])).collect();
    let asked: Vec<Prompt<'_>> = prompts
        .iter()
        .zip(&expected)
        .map(|(tokens, expected)| Prompt { tokens, place: 0, samples: 1, most: expected.len().max(1) })
        .collect();
    let mut texts: Vec<Transcript> = prompts.iter().map(|tokens| Transcript::new(tokens)).collect();
    let generator = Generator { device, model, adapter: None, tokens_at_a_time: 512 };
    generator.run(&asked, &Sampling::GREEDY, |prompt, _, drawn| {
        let text = &mut texts[prompt];
        let goes_on = text.push(tokenizer, &[], drawn).unwrap();
        if goes_on && text.drawn.len() == expected[prompt].len() {
            text.flush(tokenizer, &[]).unwrap();
        }
        goes_on
    });
    for ((case, expected), text) in cases.iter().zip(&expected).zip(&texts) {
        let found: Vec<u32> = text.drawn.iter().map(|drawn| drawn.token).take(expected.len()).collect();
        assert_eq!(&found, expected, "{case}");
        if !expected.is_empty() {
            assert_eq!(text.text, case["text"].as_str().unwrap());
        }
    }
    let compared: usize = expected.iter().map(Vec::len).sum();
    assert!(
        cases.len() >= 20 && compared >= 10 * cases.len(),
        "{compared} tokens of {} prompts",
        cases.len()
    );
}

#[test]
fn likelihoods_and_letter_probabilities_are_those_of_transformers() {
    let Some(folder) = smollm2() else { return };
    let golden = golden();
    let device = Device::open(&preceptor::device::Settings::default()).unwrap();
    let model = Model::open(&folder, WeightStorage::Auto).unwrap();
    let scorer = Scorer { device: &device, model: &model, adapter: None, micro_batch_tokens: 512 };

    let texts = golden["texts"].as_array().unwrap();
    let examples: Vec<Tokenized> = texts
        .iter()
        .map(|text| {
            let input_ids = ids(&text["ids"]);
            let labels = input_ids.iter().enumerate().map(|(i, &id)| (i > 0).then_some(id)).collect();
            Tokenized { input_ids, labels, weight: 1.0, smoothing: 0.0 }
        })
        .collect();
    for (text, found) in texts.iter().zip(scorer.likelihoods(&examples)) {
        let gap = found.sum_nll / found.tokens as f64 - text["mean_nll"].as_f64().unwrap();
        // f32 on both sides, 30 layers: rounding moves a mean of a few tokens by about 1e-6.
        assert!(gap.abs() < 2e-5, "{}: off by {gap:e}", text["text"]);
    }

    let questions = golden["questions"].as_array().unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for question in questions {
        writeln!(file, "{}", question["line"]).unwrap();
    }
    let encoder = encoder(&folder, Format::Mcqa);
    let mut data = Dataset::open(file.path(), Format::Mcqa, 0).unwrap();
    data.prepare(&encoder).unwrap();
    for (index, question) in questions.iter().enumerate() {
        let letters = encoder.letters(&data.line(index).unwrap(), &[]).unwrap();
        assert_eq!(letters.prompt, ids(&question["prompt_ids"]));
        assert_eq!(letters.tokens, ids(&question["letter_ids"]));
    }
    let answers = scorer.letters(&data, &encoder).unwrap();
    for (question, answered) in questions.iter().zip(&answers) {
        let theirs = question["probabilities"].as_array().unwrap();
        assert_eq!(theirs.len(), answered.probabilities.len());
        for (theirs, ours) in theirs.iter().zip(&answered.probabilities) {
            let gap = theirs.as_f64().unwrap() - ours;
            assert!(gap.abs() < 2e-5, "{}: off by {gap:e}", question["line"]["id"]);
        }
    }
}

/// The GGUF file that the folder was made from.
fn gguf(folder: &Path) -> PathBuf {
    folder.join("model.gguf")
}

#[test]
fn the_gguf_file_has_the_folders_tokens_and_template() {
    let Some(folder) = smollm2() else { return };
    let golden = golden();
    let (ours, theirs) = (Tokenizer::open(&gguf(&folder)).unwrap(), Tokenizer::open(&folder).unwrap());
    // every script's first characters, in words, runs and with digits between
    let mixed: Vec<String> = (0x20..0x2_FFFF_u32)
        .step_by(97)
        .filter_map(char::from_u32)
        .collect::<Vec<char>>()
        .chunks(16)
        .map(|chars| chars.iter().map(|c| format!("{c}{c} 12{c}'s\n ")).collect())
        .collect();
    let texts = golden["texts"].as_array().unwrap().iter().map(|text| text["text"].as_str().unwrap());
    for text in texts.chain(mixed.iter().map(String::as_str)) {
        assert_eq!(ours.encode(text).unwrap(), theirs.encode(text).unwrap(), "{text:?}");
    }
    for text in golden["texts"].as_array().unwrap() {
        assert_eq!(ours.encode(text["text"].as_str().unwrap()).unwrap().ids, ids(&text["ids"]));
    }
    assert_eq!((ours.prefix(), ours.eos()), (theirs.prefix(), theirs.eos()));
    let rendered = |path: &Path, tokenizer: &Tokenizer| {
        let Template::Chat(chat) = Template::open("chat", Format::Messages, path, tokenizer).unwrap() else {
            panic!("the model has a chat template")
        };
        chat.render(&[Message::new(Role::User, "Hi")], true).unwrap()
    };
    assert_eq!(rendered(&gguf(&folder), &ours), rendered(&folder, &theirs));
}

/// Against Transformers on the same file in float64: its values, unlike the folder's, were never rounded to
/// bf16. `noise` is how far Transformers in f32 is from that.
#[test]
fn the_gguf_file_has_the_likelihoods_and_probabilities_of_transformers() {
    let Some(folder) = smollm2() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smollm2_gguf.json");
    let theirs: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let bound = 10.0 * theirs["noise"].as_f64().unwrap();
    let golden = golden();
    let device = Device::open(&preceptor::device::Settings::default()).unwrap();
    let model = Model::open(&gguf(&folder), WeightStorage::Auto).unwrap();
    let scorer = Scorer { device: &device, model: &model, adapter: None, micro_batch_tokens: 512 };
    for (text, theirs) in golden["texts"].as_array().unwrap().iter().zip(theirs["texts"].as_array().unwrap())
    {
        let Some(theirs) = theirs.as_f64() else { continue };
        let input_ids = ids(&text["ids"]);
        let labels = input_ids.iter().enumerate().map(|(i, &id)| (i > 0).then_some(id)).collect();
        let found = scorer.likelihoods(&[Tokenized { input_ids, labels, weight: 1.0, smoothing: 0.0 }])[0];
        let gap = found.sum_nll / found.tokens as f64 - theirs;
        assert!(gap.abs() <= bound, "{}: off by {gap:e}, above {bound:e}", text["text"]);
    }
    let questions = golden["questions"].as_array().unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for question in questions {
        writeln!(file, "{}", question["line"]).unwrap();
    }
    let data = Dataset::open(file.path(), Format::Mcqa, 0).unwrap();
    let answers = scorer.letters(&data, &encoder(&gguf(&folder), Format::Mcqa)).unwrap();
    for (theirs, answered) in theirs["questions"].as_array().unwrap().iter().zip(&answers) {
        for (theirs, ours) in theirs.as_array().unwrap().iter().zip(&answered.probabilities) {
            let gap = theirs.as_f64().unwrap() - ours;
            assert!(gap.abs() <= bound, "off by {gap:e}, above {bound:e}");
        }
    }
}
