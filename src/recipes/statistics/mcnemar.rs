//! McNemar's test, for one seed or several.
//!
//! If the two are equal, a question's `d_k` is as likely to have either sign. With one seed that is McNemar's test
//! (1947): of the b + c questions on which the two differ, either is right as often as a coin decides. With several
//! seeds the answers to one question belong together, so the coin is thrown for the question, not for each
//! seed: the sign-flip test (Fisher 1935) of D = sum d_k, whose large-sample form is Durkalski's McNemar test for
//! clustered pairs (2003). Both forms are McNemar's own where S = 1.

use serde::Serialize;

use super::normal;

/// Most questions that differ for which all coins are counted.
const MOST_COUNTED: usize = 1000;

/// How a p-value was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// All ways in which the coins can fall, counted; with one seed, the binomial.
    Exact,
    /// (|D| - 1)^2 / sum d_k^2 against chi-square with one degree of freedom.
    ChiSquare,
}

/// The test's result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Two-sided p-value.
    pub p: f64,
    /// How it was computed.
    pub test: Test,
    /// Questions with d_k > 0: those that speak for the first.
    pub better: usize,
    /// Questions with d_k < 0.
    pub worse: usize,
}

/// Tests `differences`, the d_k of each question.
pub fn mcnemar(differences: &[i32]) -> McNemar {
    let discordant: Vec<i32> = differences.iter().copied().filter(|&d| d != 0).collect();
    let better = discordant.iter().filter(|&&d| d > 0).count();
    let worse = discordant.len() - better;
    let (p, test) = if discordant.len() <= MOST_COUNTED {
        (counted(&discordant), Test::Exact)
    } else {
        (chi_square(&discordant), Test::ChiSquare)
    };
    McNemar { p, test, better, worse }
}

/// P(|sum of the |d_k| with random signs| >= |D|).
fn counted(discordant: &[i32]) -> f64 {
    let sizes: Vec<usize> = discordant.iter().map(|d| d.unsigned_abs() as usize).collect();
    let total: usize = sizes.iter().sum();
    // chance[s] of the sum s - total
    let mut chance = vec![0.0; 2 * total + 1];
    chance[total] = 1.0;
    let mut reach = 0;
    for size in sizes {
        let before = chance.clone();
        chance[total - reach..=total + reach].fill(0.0);
        for s in total - reach..=total + reach {
            chance[s - size] += before[s] / 2.0;
            chance[s + size] += before[s] / 2.0;
        }
        reach += size;
    }
    let observed = discordant.iter().sum::<i32>().unsigned_abs() as usize;
    if observed == 0 {
        return 1.0;
    }
    2.0 * chance[total + observed..].iter().sum::<f64>()
}

fn chi_square(discordant: &[i32]) -> f64 {
    let sum: f64 = discordant.iter().map(|&d| f64::from(d)).sum();
    let squares: f64 = discordant.iter().map(|&d| f64::from(d).powi(2)).sum();
    normal::two_sided((sum.abs() - 1.0).max(0.0) / squares.sqrt())
}
