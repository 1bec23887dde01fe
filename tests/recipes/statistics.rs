//! The statistics of studies against scipy and statsmodels, on the cases of `tests/golden/statistics.json`.

use preceptor::recipes::statistics::{Test, bootstrap, detectable, holm, mcnemar, seeds};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../golden/statistics.json")).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(cases.len() >= 2, "{name}");
    cases
}

fn list<T: serde::de::DeserializeOwned>(case: &Value, key: &str) -> Vec<T> {
    serde_json::from_value(case[key].clone()).unwrap()
}

fn close(found: f64, expected: f64, relative: f64) {
    assert!((found - expected).abs() <= relative * expected.abs(), "found {found}, needed {expected}");
}

/// Sums of at most some thousand rounded terms: 1e-11 is far above their error.
const ROUNDING: f64 = 1e-11;

#[test]
fn with_one_seed_the_test_is_mcnemars() {
    for case in cases("mcnemar") {
        let [better, worse] = ["better", "worse"].map(|key| case[key].as_u64().unwrap() as usize);
        let differences = [vec![1; better], vec![0; 20], vec![-1; worse]].concat();
        let found = mcnemar(&differences);
        assert_eq!((found.better, found.worse), (better, worse));
        let kind =
            if better + worse > 1000 { (Test::ChiSquare, "chi_square") } else { (Test::Exact, "exact") };
        assert_eq!(found.test, kind.0);
        close(found.p, case[kind.1].as_f64().unwrap(), ROUNDING);
    }
}

#[test]
fn with_several_seeds_a_question_is_flipped_as_one() {
    for case in cases("sign_flip") {
        let found = mcnemar(&list::<i32>(&case, "differences"));
        close(found.p, case["p"].as_f64().unwrap(), ROUNDING);
    }
}

#[test]
fn holm_is_that_of_statsmodels() {
    for case in cases("holm") {
        for (found, expected) in
            holm(&list::<f64>(&case, "p")).into_iter().zip(list::<f64>(&case, "adjusted"))
        {
            close(found, expected, ROUNDING);
        }
    }
}

/// Both sides draw at random: an end lies within five standard errors of both quantiles together. A quantile's is
/// sqrt(q (1 - q) / B) / f, the density f being that of a normal with the resampled means' deviation. Means of n
/// questions and S seeds are multiples of 1 / (n S), so a quantile may sit one such step further.
fn within_monte_carlo_error(case: &Value, differences: &[Vec<i8>]) {
    let number = |key: &str| case[key].as_f64().unwrap();
    let found = bootstrap::interval(differences, bootstrap::RESAMPLES, 1);
    let density_at_the_quantile = 0.058_445 / number("sigma");
    let variance = |resamples: f64| 0.025 * 0.975 / resamples / density_at_the_quantile.powi(2);
    let error = (variance(f64::from(bootstrap::RESAMPLES)) + variance(number("resamples"))).sqrt();
    let step = 1.0 / (differences.len() * differences[0].len()) as f64;
    for (found, expected) in found.into_iter().zip([number("low"), number("high")]) {
        assert!((found - expected).abs() <= 5.0 * error + step, "{found}, needed {expected} +- {error}");
    }
}

#[test]
fn with_one_seed_the_bootstrap_is_scipys() {
    for case in cases("bootstrap") {
        within_monte_carlo_error(&case, &[list(&case, "differences")]);
    }
}

#[test]
fn with_several_seeds_the_bootstrap_resamples_both() {
    for case in cases("bootstrap_crossed") {
        within_monte_carlo_error(&case, &list::<Vec<i8>>(&case, "differences"));
    }
}

#[test]
fn the_bootstrap_repeats_and_has_its_own_resamples_for_each_seed() {
    let differences: Vec<i8> = (0..50).map(|i| [1, 0, -1, 0, 1][i % 5]).collect();
    let interval = |seed| bootstrap::interval(std::slice::from_ref(&differences), 500, seed);
    assert_eq!(interval(1), interval(1));
    assert!((2..8).any(|seed| interval(seed) != interval(1)));
    assert_eq!(bootstrap::interval(&[vec![0; 9], vec![0; 9]], 100, 1), [0.0, 0.0]);
}

#[test]
fn what_would_have_shown_solves_connors_equation() {
    let mut unanswered = 0;
    for case in cases("detectable") {
        let [n, discordant] = ["n", "discordant"].map(|key| case[key].as_u64().unwrap() as usize);
        let differences: Vec<i32> =
            (0..n).map(|i| if i < discordant { 1 - 2 * (i as i32 % 2) } else { 0 }).collect();
        let found = detectable(&differences, 1);
        match case["difference"].as_f64() {
            Some(expected) => close(found.unwrap(), expected, 1e-9),
            None => {
                assert_eq!(found, None);
                unanswered += 1;
            }
        }
        // seeds that agree with one another are as one
        let doubled: Vec<i32> = differences.iter().map(|d| 2 * d).collect();
        assert_eq!(detectable(&doubled, 2), found);
    }
    assert_eq!(unanswered, 1, "too few that differ: no difference would show");
    assert_eq!(detectable(&[0; 40], 1), None);
}

#[test]
fn the_interval_over_seeds_is_students() {
    for case in cases("student") {
        let values = list::<f64>(&case, "values");
        let found = seeds::interval(&values).unwrap();
        for (found, expected) in found.into_iter().zip(list::<f64>(&case, "interval")) {
            assert!((found - expected).abs() < 1e-9, "{found}, needed {expected}");
        }
    }
    assert_eq!(seeds::interval(&[0.5]), None);
}
