//! SentencePiece's pieces as byte pairs: the merges that lead to them.

use std::collections::HashMap;

use crate::base::{Error, Result};

/// More characters than any piece has; what is longer could only cost time.
const LONGEST: usize = 1024;

/// Pairs of pieces in the order in which they are merged: the pair whose whole has the highest score first.
///
/// `scored` are pieces and their scores, `ids` the id of each piece that a pair may consist of. Source:
/// Kudo and Richardson 2018; ties stand as Transformers orders them.
pub(super) fn merges<'a>(
    scored: impl IntoIterator<Item = (&'a str, f64)>,
    ids: &HashMap<&str, usize>,
) -> Result<Vec<[&'a str; 2]>> {
    struct Merge<'a> {
        pair: [&'a str; 2],
        score: f64,
        chars: [usize; 2],
    }
    let mut merges = Vec::new();
    for (piece, score) in scored {
        let chars = piece.chars().count();
        if chars > LONGEST {
            return Err(Error::input(format!(
                "found a piece of {chars} characters, needed at most {LONGEST}"
            )));
        }
        let splits = piece.char_indices().enumerate().skip(1);
        let mut of_piece: Vec<([usize; 2], Merge<'a>)> = splits
            .filter_map(|(left, (at, _))| {
                let pair = [&piece[..at], &piece[at..]];
                let ids = [*ids.get(pair[0])?, *ids.get(pair[1])?];
                Some((ids, Merge { pair, score, chars: [left, chars - left] }))
            })
            .collect();
        of_piece.sort_by_key(|(ids, _)| *ids);
        merges.extend(of_piece.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.chars.cmp(&a.chars)));
    Ok(merges.into_iter().map(|merge| merge.pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_whole_is_merged_first_and_the_longer_left_part_before_others() {
        let pieces = ["a", "b", "ab", "ba", "aba"];
        let ids = pieces.iter().enumerate().map(|(id, piece)| (*piece, id)).collect();
        let scored = [("a", -9.0), ("b", -9.0), ("ab", -2.0), ("ba", -1.0), ("aba", -2.0)];
        let found = merges(scored, &ids).unwrap();
        assert_eq!(found, [["b", "a"], ["ab", "a"], ["a", "ba"], ["a", "b"]]);
    }

    #[test]
    fn a_piece_that_would_only_cost_time_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        assert!(merges([(long.as_str(), 0.0)], &HashMap::new()).is_err());
    }
}
