//! The demo's questions are what `assets/demo/README.md` says they are.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use preceptor::data::line::Mcqa;
use preceptor::data::{Body, Dataset, Format};
use serde_json::Value;

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo").join(name)
}

/// The lines of a file as the program reads them: it refuses an answer out of range and an id found twice.
fn questions(name: &str) -> Vec<Mcqa> {
    let dataset = Dataset::open(&asset(name), Format::Mcqa, 0).unwrap_or_else(|e| panic!("{e}"));
    let read = |i| match dataset.line(i).unwrap().body {
        Body::Mcqa(question) => question,
        other => panic!("{other:?}"),
    };
    (0..dataset.len()).map(read).collect()
}

/// One wording of a fact.
struct Wording {
    id: String,
    subject: String,
    difficulty: f64,
    fact: String,
    wording: String,
    question: Mcqa,
}

impl Wording {
    fn right(&self) -> &str {
        &self.question.options[self.question.answer]
    }
}

fn wordings() -> Vec<Wording> {
    let text = fs::read_to_string(asset("questions.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let questions = questions("questions.jsonl");
    assert_eq!(text.lines().count(), questions.len());
    let wording = |(line, question): (Value, Mcqa)| {
        let field = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("`{key}`: {line}")).to_owned();
        Wording {
            id: field("id"),
            subject: field("subject"),
            difficulty: line["difficulty"].as_f64().unwrap(),
            fact: field("fact"),
            wording: field("wording"),
            question,
        }
    };
    lines.zip(questions).map(wording).collect()
}

/// The wordings of each fact, in the order of the file, which keeps them together.
fn facts(wordings: &[Wording]) -> Vec<&[Wording]> {
    wordings.chunk_by(|one, next| one.fact == next.fact).collect()
}

/// How many right answers stand at each of the four places.
fn places<'a>(questions: impl IntoIterator<Item = &'a Mcqa>) -> [usize; 4] {
    let mut counts = [0; 4];
    questions.into_iter().for_each(|question| counts[question.answer] += 1);
    counts
}

fn distinct<'a, T: Ord + 'a>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

#[test]
fn each_fact_has_three_wordings_with_the_same_options_in_other_orders() {
    let wordings = wordings();
    let facts = facts(&wordings);
    assert!(facts.len() >= 300, "{} facts", facts.len());
    assert_eq!(distinct(facts.iter().map(|fact| &fact[0].fact)).len(), facts.len());
    for fact in facts {
        let first = &fact[0];
        assert_eq!(
            Vec::from_iter(fact.iter().map(|w| w.wording.as_str())),
            ["a", "b", "c"],
            "{}",
            first.fact
        );
        let options = distinct(first.question.options.iter().map(|option| option.to_lowercase()));
        assert_eq!(options.len(), 4, "{}: {options:?}", first.id);
        for w in fact {
            assert_eq!(w.id, format!("{}-{}", w.fact, w.wording));
            assert_eq!(w.subject, first.subject, "{}", w.id);
            assert_eq!(w.difficulty, first.difficulty, "{}", w.id);
            assert!((0.0..=1.0).contains(&w.difficulty), "{}: {}", w.id, w.difficulty);
            assert_eq!(w.right(), first.right(), "{}", w.id);
            assert_eq!(distinct(&w.question.options), distinct(&first.question.options), "{}", w.id);
        }
        assert_eq!(distinct(fact.iter().map(|w| &w.question.options)).len(), 3, "{}", first.fact);
    }
    let asked = distinct(wordings.iter().map(|w| w.question.question.to_lowercase()));
    assert_eq!(asked.len(), wordings.len(), "a question is asked twice");
}

#[test]
fn the_categories_are_many_even_and_spread_over_difficulty() {
    let wordings = wordings();
    let mut categories = BTreeMap::<_, Vec<_>>::new();
    for fact in facts(&wordings) {
        categories.entry(&fact[0].subject).or_default().push(fact[0].difficulty);
    }
    assert!(categories.len() >= 8, "{:?}", categories.keys());
    for (category, difficulties) in categories {
        assert!((28..=40).contains(&difficulties.len()), "{category}: {} facts", difficulties.len());
        assert!(difficulties.iter().any(|&d| d <= 0.2), "{category} has no easy fact");
        assert!(difficulties.iter().any(|&d| d >= 0.6), "{category} has no hard fact");
    }
}

#[test]
fn the_place_of_the_right_answer_tells_nothing() {
    let wordings = wordings();
    for name in ["a", "b", "c"] {
        let of = wordings.iter().filter(|w| w.wording == name);
        for subject in distinct(of.clone().map(|w| &w.subject)) {
            let counts = places(of.clone().filter(|w| w.subject == *subject).map(|w| &w.question));
            let n: usize = counts.iter().sum();
            assert!(
                counts.iter().all(|&c| c == n / 4 || c == n.div_ceil(4)),
                "{subject}, {name}: {counts:?}"
            );
        }
        let counts = places(of.map(|w| &w.question));
        let n: usize = counts.iter().sum();
        assert!(counts.iter().all(|c| (n * 20..=n * 30).contains(&(c * 100))), "{name}: {counts:?}");
    }
    let facts = facts(&wordings);
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let same = facts.iter().filter(|f| f[one].question.answer == f[other].question.answer).count();
        assert!((facts.len() * 20..=facts.len() * 30).contains(&(same * 100)), "{one} and {other}: {same}");
    }
}

/// Four facts share each set of options and each option is right for one of them, so neither the options nor how
/// often one is right tell the answer.
#[test]
fn the_options_tell_nothing() {
    let wordings = wordings();
    let mut rights = BTreeMap::<_, Vec<_>>::new();
    for fact in facts(&wordings) {
        let options = distinct(&fact[0].question.options);
        rights.entry((&fact[0].subject, options)).or_default().push(fact[0].right());
    }
    for ((subject, options), right) in rights {
        assert_eq!(right.len(), 4, "{subject}: {options:?}");
        assert!(options.iter().all(|option| right.contains(&option.as_str())), "{options:?}: {right:?}");
    }
}

#[test]
fn no_question_names_one_of_its_options() {
    let words = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        format!(" {} ", Vec::from_iter(words).join(" "))
    };
    for w in wordings() {
        let asked = words(&w.question.question);
        let told = w.question.options.iter().find(|option| asked.contains(&words(option)));
        assert_eq!(told, None, "{}: {asked}", w.id);
    }
}

#[test]
fn each_fact_is_told_in_one_sentence_with_its_answer() {
    let wordings = wordings();
    let facts = facts(&wordings);
    let text = fs::read_to_string(asset("facts.txt")).unwrap();
    assert_eq!(text.lines().count(), facts.len());
    for (sentence, fact) in text.lines().zip(facts) {
        let answer = fact[0].right();
        assert!(sentence.to_lowercase().contains(&answer.to_lowercase()), "{answer:?}: {sentence}");
    }
}
