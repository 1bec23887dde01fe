//! What answers are worth: accuracy with its interval, F1, calibration.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Answered, Written};

/// The normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;
/// Equal-width bins of confidence for the calibration error.
const BINS: usize = 10;

/// The measures of `evaluate`'s `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Number of questions.
    pub n: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Its 95 % Wilson interval.
    pub interval: [f64; 2],
    /// F1 of each option's index as a class, weighted by how often it is right.
    pub f1_weighted: f64,
    /// Expected calibration error: mean |accuracy - confidence| over ten equal-width bins of confidence
    /// (Guo et al. 2017). None where the answers have no probabilities.
    pub ece: Option<f64>,
    /// Mean -ln of the right option's probability among the options, if they have one.
    pub nll: Option<f64>,
    /// How many written answers name no option; they count as wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unparsed: Option<usize>,
    /// Accuracy of each subject.
    pub by_subject: BTreeMap<String, Subject>,
}

/// The answers of one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// Number of questions.
    pub n: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Its 95 % Wilson interval.
    pub interval: [f64; 2],
}

/// What is known of every answer, however it was found.
struct Choice<'a> {
    choice: Option<usize>,
    answer: usize,
    subject: Option<&'a str>,
}

impl Choice<'_> {
    fn is_right(&self) -> bool {
        self.choice == Some(self.answer)
    }
}

/// Measures of at least one answer.
pub fn report(answers: &[Answered]) -> Report {
    let choices: Vec<Choice<'_>> = answers
        .iter()
        .map(|a| Choice { choice: Some(a.choice()), answer: a.answer, subject: a.subject.as_deref() })
        .collect();
    let nll = answers.iter().map(|a| -a.probabilities[a.answer].ln()).sum::<f64>() / answers.len() as f64;
    Report { ece: Some(calibration_error(answers)), nll: Some(nll), ..of_choices(&choices) }
}

/// Measures of at least one written answer.
pub fn report_written(answers: &[Written]) -> Report {
    let choices: Vec<Choice<'_>> = answers
        .iter()
        .map(|a| Choice { choice: a.choice, answer: a.answer, subject: a.subject.as_deref() })
        .collect();
    let unparsed = answers.iter().filter(|a| a.choice.is_none()).count();
    Report { unparsed: Some(unparsed), ..of_choices(&choices) }
}

fn of_choices(choices: &[Choice<'_>]) -> Report {
    let mut by_subject: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for choice in choices {
        let (right, n) = by_subject.entry(choice.subject.unwrap_or_default()).or_default();
        *right += usize::from(choice.is_right());
        *n += 1;
    }
    let right = choices.iter().filter(|c| c.is_right()).count();
    let subject = |(name, (right, n)): (&str, (usize, usize))| {
        let accuracy = right as f64 / n as f64;
        (name.to_owned(), Subject { n, accuracy, interval: wilson(right, n) })
    };
    Report {
        n: choices.len(),
        accuracy: right as f64 / choices.len() as f64,
        interval: wilson(right, choices.len()),
        f1_weighted: f1_weighted(choices),
        ece: None,
        nll: None,
        unparsed: None,
        by_subject: by_subject.into_iter().map(subject).collect(),
    }
}

/// The 95 % score interval of the share `right` of `n` (Wilson 1927).
pub fn wilson(right: usize, n: usize) -> [f64; 2] {
    wilson_of(right as f64 / n as f64, n)
}

/// The 95 % score interval of the share `p` of `n`; p may be a mean of several such shares.
pub fn wilson_of(p: f64, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let n = n as f64;
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)]
}

fn f1_weighted(choices: &[Choice<'_>]) -> f64 {
    let classes = choices.iter().map(|c| c.answer.max(c.choice.unwrap_or(0)) + 1).max().unwrap_or(0);
    let of_class = |class: usize| {
        let count = |holds: &dyn Fn(&Choice<'_>) -> bool| choices.iter().filter(|c| holds(c)).count() as f64;
        let both = count(&|c| c.answer == class && c.is_right());
        let (is, said) = (count(&|c| c.answer == class), count(&|c| c.choice == Some(class)));
        if is + said > 0.0 { is * 2.0 * both / (is + said) } else { 0.0 }
    };
    (0..classes).map(of_class).sum::<f64>() / choices.len() as f64
}

fn calibration_error(answers: &[Answered]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS]; // (right, confidence), summed
    for answer in answers {
        let confidence = answer.probabilities[answer.choice()];
        // A bin holds its upper edge, as in the published definition.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += f64::from(u8::from(answer.choice() == answer.answer));
        bins[bin].1 += confidence;
    }
    bins.iter().map(|(right, confidence)| (right - confidence).abs()).sum::<f64>() / answers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(probabilities: &[f64], answer: usize) -> Answered {
        Answered { probabilities: probabilities.to_vec(), answer, subject: None }
    }

    #[test]
    fn wilson_equals_the_published_interval() {
        // statsmodels.stats.proportion.proportion_confint(15, 40, method="wilson")
        let [low, high] = wilson(15, 40);
        assert!((low - 0.242_229_8).abs() < 1e-7 && (high - 0.529_675_6).abs() < 1e-6, "{low} {high}");
        assert!(wilson(0, 10)[0] < 1e-12);
        assert!(wilson(10, 10)[1] > 1.0 - 1e-12);
    }

    #[test]
    fn f1_ece_and_nll_by_hand() {
        // right: 0 0 1 1, said: 0 1 1 1
        let answers = [
            answered(&[0.75, 0.25], 0),
            answered(&[0.35, 0.65], 0),
            answered(&[0.05, 0.95], 1),
            answered(&[0.35, 0.65], 1),
        ];
        let report = report(&answers);
        assert_eq!(report.accuracy, 0.75);
        // class 0: 2*1/(2+1) = 2/3; class 1: 2*2/(2+3) = 4/5; equal supports
        assert!((report.f1_weighted - (2.0 / 3.0 + 0.8) / 2.0).abs() < 1e-12);
        // bins: (0.6, 0.7]: 1 of 2 right at 0.65; (0.7, 0.8]: 1 at 0.75; (0.9, 1]: 1 at 0.95
        let ece = report.ece.expect("answers with probabilities");
        assert!((ece - (0.3 + 0.25 + 0.05) / 4.0).abs() < 1e-12, "{ece}");
        let nll = -(0.75_f64.ln() + 0.35_f64.ln() + 0.95_f64.ln() + 0.65_f64.ln()) / 4.0;
        assert!((report.nll.expect("answers with probabilities") - nll).abs() < 1e-12);
        assert_eq!(report.unparsed, None);
    }

    #[test]
    fn an_answer_that_names_no_option_is_wrong_and_counted() {
        let written = |choice, answer| Written { text: String::new(), choice, answer, subject: None };
        let report = report_written(&[written(Some(0), 0), written(None, 0), written(Some(0), 1)]);
        assert_eq!((report.unparsed, report.ece, report.nll), (Some(1), None, None));
        assert!((report.accuracy - 1.0 / 3.0).abs() < 1e-12);
        // class 0: right 2, said 2, both 1: F1 1/2; class 1: never said
        assert!((report.f1_weighted - 2.0 / 3.0 * 0.5).abs() < 1e-12);
    }
}
