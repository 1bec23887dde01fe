//! Multiple choice: `{"question","options","answer","context"?,"teacher"?}`.

use super::fields::{self, Fields};
use crate::base::{Error, Result};

/// How far a teacher's probabilities may be from 1 in all: written with two digits, they are off by this.
const TEACHER_SUM_TOLERANCE: f64 = 0.02;

/// A multiple-choice question.
#[derive(Clone, Debug, PartialEq)]
pub struct Mcqa {
    /// The question.
    pub question: String,
    /// 2 to 26 options.
    pub options: Vec<String>,
    /// Index of the right option.
    pub answer: usize,
    /// What stands before the question, if anything.
    pub context: Option<String>,
    /// A teacher's probability of each option; they sum to 1 within rounding.
    pub teacher: Option<Vec<f32>>,
}

/// The letter of option `index`: A, B, C, ...
pub fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

impl Mcqa {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self> {
        let options = options(fields)?;
        let answer = fields.integer("answer")?;
        let answer =
            usize::try_from(answer).ok().filter(|&index| index < options.len()).ok_or_else(|| {
                let last = options.len() - 1;
                Error::input(format!("found {answer}, needed the index of an option: 0 to {last}"))
                    .key("answer")
            })?;
        Ok(Self {
            question: fields.filled("question")?.to_owned(),
            answer,
            context: Some(fields.text_or_empty("context")?)
                .filter(|text| !text.trim().is_empty())
                .map(str::to_owned),
            teacher: teacher(fields, options.len())?,
            options,
        })
    }
}

fn options(fields: &Fields<'_>) -> Result<Vec<String>> {
    let options = fields.list("options")?;
    if !(2..=26).contains(&options.len()) {
        let found = options.len();
        return Err(
            Error::input(format!("found {found}, needed 2 to 26, one for each letter")).key("options")
        );
    }
    let named = options.iter().enumerate();
    named.map(|(i, option)| fields::filled(option, &format!("options[{i}]")).map(str::to_owned)).collect()
}

fn teacher(fields: &Fields<'_>, options: usize) -> Result<Option<Vec<f32>>> {
    if fields.optional("teacher").is_none() {
        return Ok(None);
    }
    let list = fields.list("teacher")?;
    if list.len() != options {
        let found = list.len();
        return Err(Error::input(format!(
            "found {found} probabilities, needed one for each of {options} options"
        ))
        .key("teacher"));
    }
    let mut probabilities = Vec::with_capacity(options);
    for (i, value) in list.iter().enumerate() {
        let key = format!("teacher[{i}]");
        let p = fields::number(value, &key)?;
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::input(format!("found {p}, needed a probability from 0 to 1")).key(key));
        }
        probabilities.push(p);
    }
    let sum: f64 = probabilities.iter().sum();
    if (sum - 1.0).abs() > TEACHER_SUM_TOLERANCE {
        return Err(Error::input(format!("the probabilities sum to {sum}, needed 1")).key("teacher"));
    }
    Ok(Some(probabilities.into_iter().map(|p| p as f32).collect()))
}
