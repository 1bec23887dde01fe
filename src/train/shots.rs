//! Few-shot prompts: which solved questions stand before a question.

use crate::base::{Error, Result};
use crate::data::{Body, Dataset, Line};

/// Solved questions to choose from.
///
/// A question gets the first `count` questions of the file that have its subject; where the file has fewer of
/// it, the first `count` of all. A question that reads like it never stands before it.
#[derive(Debug, Default)]
pub struct Shots {
    lines: Vec<Line>,
    count: usize,
}

impl Shots {
    /// `count` shots a question, from `data`, which must have as many.
    pub fn new(data: &Dataset, count: usize) -> Result<Self> {
        let lines = (0..data.len()).map(|index| data.line(index)).collect::<Result<Vec<_>>>()?;
        if lines.len() < count {
            let what = format!("found {} questions, needed at least {count}, one a shot", lines.len());
            return Err(Error::input(what).file(data.path()).key("--shots"));
        }
        Ok(Self { lines, count })
    }

    /// The places in the file of the questions that stand before `line`, ascending.
    pub fn before(&self, line: &Line) -> Result<Vec<usize>> {
        let others = || (0..self.lines.len()).filter(|&i| !same_question(&self.lines[i], line));
        let of_subject: Vec<usize> =
            others().filter(|&i| self.lines[i].subject == line.subject).take(self.count).collect();
        let chosen =
            if of_subject.len() == self.count { of_subject } else { others().take(self.count).collect() };
        if chosen.len() < self.count {
            let what = format!("found {} other questions, needed {}, one a shot", chosen.len(), self.count);
            return Err(Error::input(what).key("--shots"));
        }
        Ok(chosen)
    }

    /// The questions at these places.
    pub fn lines(&self, places: &[usize]) -> Vec<&Line> {
        places.iter().map(|&place| &self.lines[place]).collect()
    }
}

fn same_question(a: &Line, b: &Line) -> bool {
    match (&a.body, &b.body) {
        (Body::Mcqa(a), Body::Mcqa(b)) => {
            (&a.question, &a.options, &a.context) == (&b.question, &b.options, &b.context)
        }
        _ => false,
    }
}
