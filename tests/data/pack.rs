//! The forest of examples, against the definition: one token for each distinct prefix.

use std::collections::HashSet;

use preceptor::data::{Tokenized, pack};
use preceptor::tensor::{Forest, Site};
use proptest::prelude::*;

/// Examples over three token ids, so that prefixes meet often.
fn examples() -> impl Strategy<Value = Vec<Tokenized>> {
    let token = (0u32..3, proptest::option::of(0u32..9));
    let example = (proptest::collection::vec(token, 1..9), 1u32..4);
    proptest::collection::vec(
        example.prop_map(|(tokens, weight)| {
            let (input_ids, mut labels): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
            labels[0] = None;
            Tokenized { input_ids, labels, weight: weight as f32, smoothing: 0.125 * weight as f32 }
        }),
        0..9,
    )
}

/// The first place is not 0, as in a later micro-batch.
fn placed(examples: &[Tokenized]) -> Vec<(u32, &Tokenized)> {
    (5..).zip(examples).collect()
}

/// The tokens on the way from the root to each token, itself included.
fn prefixes(forest: &Forest) -> Vec<Vec<u32>> {
    let mut out = Vec::new();
    for (i, segment) in forest.segments.iter().enumerate() {
        let chain = forest.chain(i as u32);
        let above = chain[..chain.len() - 1].iter();
        let mut prefix: Vec<u32> =
            above.flat_map(|&s| &forest.tokens[forest.segments[s as usize].range()]).copied().collect();
        for &token in &forest.tokens[segment.range()] {
            prefix.push(token);
            out.push(prefix.clone());
        }
    }
    out
}

/// What a site says, without the row: (prefix, target, weight, smoothing, example).
type Loss = (Vec<u32>, u32, u32, u32, u32);

fn expected_losses(examples: &[(u32, &Tokenized)]) -> Vec<Loss> {
    let mut out = Vec::new();
    for &(place, example) in examples {
        for (i, label) in example.labels.iter().enumerate().skip(1) {
            if let Some(target) = *label {
                let weight = example.weight.to_bits();
                out.push((
                    example.input_ids[..i].to_vec(),
                    target,
                    weight,
                    example.smoothing.to_bits(),
                    place,
                ));
            }
        }
    }
    out.sort();
    out
}

fn distinct_prefixes(examples: &[(u32, &Tokenized)]) -> usize {
    let losses = expected_losses(examples);
    let all = losses.iter().flat_map(|loss| (1..=loss.0.len()).map(|n| &loss.0[..n]));
    all.collect::<HashSet<_>>().len()
}

fn check(examples: &[(u32, &Tokenized)], share: bool) {
    let forest = pack::forest(examples, share);
    let prefixes = prefixes(&forest);

    let mut losses: Vec<Loss> = forest
        .sites
        .iter()
        .map(|s: &Site| {
            let prefix = prefixes[s.token as usize].clone();
            (prefix, s.target, s.weight.to_bits(), s.smoothing.to_bits(), s.example)
        })
        .collect();
    losses.sort();
    assert_eq!(losses, expected_losses(examples));
    assert!(forest.sites.is_sorted_by_key(|s| (s.token, s.example)));

    if share {
        assert_eq!(forest.len(), distinct_prefixes(examples), "computed tokens");
        assert_eq!(prefixes.iter().collect::<HashSet<_>>().len(), forest.len(), "a prefix stands twice");
    } else {
        assert_eq!(forest.len(), examples.iter().map(|(_, e)| longest_prefix(e)).sum::<usize>());
        assert!(forest.segments.iter().all(|s| s.parent.is_none()));
    }

    let lengths: Vec<u32> = prefixes.iter().map(|p| p.len() as u32 - 1).collect();
    assert_eq!(forest.positions, lengths);
    pre_order(&forest);
    for (i, segment) in forest.segments.iter().enumerate() {
        for row in segment.range() {
            let first = examples.iter().find(|(place, e)| {
                (share || *place == segment.example)
                    && e.input_ids[..longest_prefix(e)].starts_with(&prefixes[row])
            });
            assert_eq!(first.map(|(place, _)| *place), Some(segment.example), "segment {i}");
        }
    }
}

/// How many inputs of the example some loss needs.
fn longest_prefix(example: &Tokenized) -> usize {
    expected_losses(&[(0, example)]).iter().map(|loss| loss.0.len()).max().unwrap_or(0)
}

/// Without gap, parents first, and each subtree one run of segments.
fn pre_order(forest: &Forest) {
    let mut next = 0;
    for (i, segment) in forest.segments.iter().enumerate() {
        assert_eq!(segment.start, next);
        assert!(segment.len > 0);
        next += segment.len;
        let previous = if i > 0 { forest.chain(i as u32 - 1) } else { Vec::new() };
        assert!(
            segment.parent.is_none_or(|parent| previous.contains(&parent)),
            "segment {i} is out of order"
        );
    }
    assert_eq!(next as usize, forest.len());
}

proptest! {
    // A failing case is printed; files of old failures would only hide which seed found it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forest_says_what_its_examples_say(examples in examples(), share: bool) {
        check(&placed(&examples), share);
    }

    #[test]
    fn micro_batches_are_consecutive_and_as_long_as_the_budget_allows(
        examples in examples(), budget in 1usize..30, share: bool,
    ) {
        let placed = placed(&examples);
        let groups = pack::micro_batches(&placed, budget, share);
        let tokens = |range: std::ops::Range<usize>| pack::forest(&placed[range], share).len();
        let mut next = 0;
        for group in groups {
            prop_assert_eq!(group.start, next);
            prop_assert!(group.len() == 1 || tokens(group.clone()) <= budget);
            if group.end < placed.len() {
                prop_assert!(tokens(group.start..group.end + 1) > budget);
            }
            next = group.end;
        }
        prop_assert_eq!(next, placed.len());
    }
}

#[test]
fn a_small_trie_is_as_drawn() {
    let example = |ids: &[u32]| Tokenized {
        labels: ids.iter().enumerate().map(|(i, &id)| (i + 1 == ids.len()).then_some(id)).collect(),
        input_ids: ids.to_vec(),
        weight: 1.0,
        smoothing: 0.0,
    };
    let examples = [example(&[1, 2, 3, 9]), example(&[1, 2, 4, 9]), example(&[7, 9]), example(&[1, 2, 3, 8])];
    let forest = pack::forest(&[0, 1, 2, 3].map(|i| (i as u32, &examples[i])), true);
    assert_eq!(forest.tokens, [1, 2, 3, 4, 7]);
    let drawn: Vec<_> = forest.segments.iter().map(|s| (s.start, s.len, s.parent, s.example)).collect();
    assert_eq!(drawn, [(0, 2, None, 0), (2, 1, Some(0), 0), (3, 1, Some(0), 1), (4, 1, None, 2)]);
    let sites: Vec<_> = forest.sites.iter().map(|s| (s.token, s.target, s.example)).collect();
    assert_eq!(sites, [(2, 9, 0), (2, 8, 3), (3, 9, 1), (4, 9, 2)]);
}

#[test]
fn an_example_without_a_loss_needs_no_token() {
    let example =
        Tokenized { input_ids: vec![1, 2], labels: vec![Some(1), None], weight: 1.0, smoothing: 0.0 };
    assert!(pack::forest(&[(0, &example)], true).is_empty());
}
