//! The orders against their definitions, and against golden orders of an independent implementation.

use std::collections::{BTreeMap, BTreeSet};

use preceptor::sampler::{Labels, Settings, Strategy, order};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

/// Labels that own their lists.
#[derive(Clone, Debug)]
struct Data {
    categories: Vec<String>,
    difficulties: Vec<f64>,
}

impl Data {
    fn labels(&self) -> Labels<'_> {
        Labels {
            n: self.categories.len(),
            categories: Some(&self.categories),
            difficulties: Some(&self.difficulties),
        }
    }

    fn order(&self, settings: &Settings, epoch: u32) -> Vec<u32> {
        order(settings, &self.labels(), epoch, 4).expect("labels and settings fit")
    }

    fn category(&self, i: u32) -> &str {
        &self.categories[i as usize]
    }

    fn difficulty(&self, i: u32) -> f64 {
        self.difficulties[i as usize]
    }

    /// Indices by (difficulty, index).
    fn rising(&self, mut items: Vec<u32>) -> Vec<u32> {
        items.sort_by(|&a, &b| self.difficulty(a).total_cmp(&self.difficulty(b)).then(a.cmp(&b)));
        items
    }

    /// The items of each category in the order in which `order` holds them, by name.
    fn by_category(&self, order: &[u32]) -> BTreeMap<&str, Vec<u32>> {
        let mut blocks = BTreeMap::<_, Vec<_>>::new();
        for &i in order {
            blocks.entry(self.category(i)).or_default().push(i);
        }
        blocks
    }
}

fn of(strategy: Strategy) -> Settings {
    Settings { strategy, ..Settings::default() }
}

/// Parts as dealt one by one: item counts differ by at most one and the larger parts come first.
fn array_split(items: &[u32], parts: usize) -> Vec<Vec<u32>> {
    let mut sizes = vec![0; parts];
    (0..items.len()).for_each(|i| sizes[i % parts] += 1);
    let mut rest = items.iter().copied();
    sizes.into_iter().map(|size| rest.by_ref().take(size).collect()).collect()
}

/// Few categories and few difficulty levels, so that ties and small categories are common.
fn data() -> impl Generator<Value = Data> {
    prop::collection::vec((0..5u8, 0..8u8), 0..60).prop_map(|items| Data {
        categories: items.iter().map(|(c, _)| format!("c{c}")).collect(),
        difficulties: items.iter().map(|&(_, d)| f64::from(d) / 8.0).collect(),
    })
}

proptest! {
    // A failing case is printed; files of old failures would only hide which seed found it.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_epoch_holds_each_example_once(data in data(), seed: u64, epoch in 0..3u32) {
        for strategy in Strategy::ALL.into_iter().filter(|s| s.is_permutation()) {
            let mut order = data.order(&Settings { seed, ..of(strategy) }, epoch);
            order.sort_unstable();
            prop_assert_eq!(&order, &(0..data.categories.len() as u32).collect::<Vec<_>>(), "{}", strategy);
        }
    }

    #[test]
    fn a_curriculum_is_the_stable_sort(data in data()) {
        let all = (0..data.categories.len() as u32).collect();
        prop_assert_eq!(data.order(&of(Strategy::Curriculum), 0), data.rising(all));
    }

    #[test]
    fn blocked_changes_category_once_less_than_there_are(data in data(), seed: u64) {
        let curriculum = data.order(&of(Strategy::BlockedCurriculum), 0);
        let blocked = data.order(&Settings { seed, ..of(Strategy::Blocked) }, 0);
        let blocks = data.by_category(&blocked);
        prop_assert_eq!(&blocked, &blocks.values().flatten().copied().collect::<Vec<_>>());
        let rising = blocks.into_values().flat_map(|block| data.rising(block)).collect::<Vec<_>>();
        prop_assert_eq!(curriculum, rising);
    }

    #[test]
    fn interleaved_deals_the_parts_of_the_blocks(data in data(), seed: u64, parts in 1..8u64) {
        for (blocked, interleaved) in [
            (Strategy::Blocked, Strategy::Interleaved),
            (Strategy::BlockedCurriculum, Strategy::InterleavedCurriculum),
        ] {
            let settings = |strategy| Settings { seed, parts, ..of(strategy) };
            let blocked = data.order(&settings(blocked), 1);
            let split = data.by_category(&blocked).into_values()
                .map(|block| array_split(&block, parts as usize)).collect::<Vec<_>>();
            let expected = (0..parts as usize)
                .flat_map(|part| split.iter().flat_map(move |s| s[part].clone())).collect::<Vec<_>>();
            prop_assert_eq!(data.order(&settings(interleaved), 1), expected);
        }
    }

    #[test]
    fn tiers_are_thirds_of_the_stable_sort(data in data(), seed: u64) {
        let thirds = array_split(&data.rising((0..data.categories.len() as u32).collect()), 3);
        for strategy in [Strategy::Tiered, Strategy::InterleavedTiered] {
            let order = data.order(&Settings { seed, ..of(strategy) }, 0);
            let mut rest = order.iter().copied();
            for third in &thirds {
                let tier: Vec<u32> = rest.by_ref().take(third.len()).collect();
                prop_assert_eq!(tier.iter().collect::<BTreeSet<_>>(), third.iter().collect::<BTreeSet<_>>());
                if strategy == Strategy::InterleavedTiered {
                    let blocks = data.by_category(&tier).into_values().flatten().collect::<Vec<_>>();
                    prop_assert_eq!(tier, blocks);
                }
            }
        }
    }

    #[test]
    fn competence_draws_distinct_items_from_the_open_pool(data in data(), seed: u64, batch in 1..9usize) {
        let n = data.categories.len();
        let settings = Settings { seed, ..of(Strategy::Competence) };
        let order = order(&settings, &data.labels(), 0, batch).unwrap();
        prop_assert_eq!(order.len(), n);
        let easiest_first = data.rising((0..n as u32).collect());
        let updates = n.div_ceil(batch) as f64;
        for (t, update) in order.chunks(batch).enumerate() {
            let share = (t as f64 * (1.0 - 0.0001) / updates + 0.0001).sqrt().min(1.0);
            let open = ((share * n as f64).floor() as usize).clamp(batch.min(n), n);
            let distinct: BTreeSet<_> = update.iter().collect();
            prop_assert_eq!(distinct.len(), update.len());
            prop_assert!(update.iter().all(|i| easiest_first[..open].contains(i)), "update {}", t);
        }
    }

    #[test]
    fn a_mixture_uses_a_category_up_before_it_repeats(data in data(), seed: u64) {
        let order = data.order(&Settings { seed, ..of(Strategy::Mixture) }, 0);
        prop_assert_eq!(order.len(), data.categories.len());
        let sizes: BTreeMap<_, _> = data.by_category(&(0..order.len() as u32).collect::<Vec<_>>())
            .into_iter().map(|(name, items)| (name, items.len())).collect();
        for (name, items) in data.by_category(&order) {
            for pass in items.chunks(sizes[name]) {
                prop_assert_eq!(pass.iter().collect::<BTreeSet<_>>().len(), pass.len());
            }
        }
    }
}

/// Twelve examples of three categories with ties in difficulty.
fn twelve() -> Data {
    Data {
        categories: ["S", "M", "M", "P", "S", "M", "P", "M", "S", "M", "P", "M"].map(str::to_owned).to_vec(),
        difficulties: vec![0.5, 0.9, 0.1, 0.4, 0.2, 0.5, 0.5, 0.3, 0.8, 0.1, 0.6, 0.7],
    }
}

/// Computed by a Python implementation of the definitions in `src/sampler` on numpy's `array_split`, with Philox,
/// Lemire's bounded integers and Fisher-Yates written anew. A change here changes the runs of users.
#[test]
fn golden_orders() {
    let golden: [(&str, [u32; 12]); 11] = [
        ("sequential", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("random", [6, 4, 8, 11, 3, 10, 7, 1, 2, 0, 5, 9]),
        ("curriculum", [2, 9, 4, 7, 3, 0, 5, 6, 10, 11, 8, 1]),
        ("blocked", [2, 11, 7, 1, 5, 9, 3, 10, 6, 8, 4, 0]),
        ("blocked-curriculum", [2, 9, 7, 5, 11, 1, 3, 6, 10, 4, 0, 8]),
        ("interleaved", [2, 11, 3, 8, 7, 1, 10, 4, 5, 9, 6, 0]),
        ("interleaved-curriculum", [2, 9, 3, 4, 7, 5, 6, 0, 11, 1, 10, 8]),
        ("tiered", [4, 2, 9, 7, 3, 0, 6, 5, 11, 8, 10, 1]),
        ("interleaved-tiered", [9, 2, 7, 4, 5, 3, 6, 0, 11, 1, 10, 8]),
        ("competence", [7, 4, 9, 2, 7, 4, 0, 3, 4, 5, 9, 6]),
        ("mixture", [6, 9, 5, 10, 1, 3, 7, 11, 2, 7, 0, 10]),
    ];
    for (name, expected) in golden {
        assert_eq!(twelve().order(&of(name.parse().unwrap()), 0), expected, "{name}");
    }
    let settings = Settings {
        seed: 7,
        parts: 5,
        category_order: ["S", "P", "M"].map(str::to_owned).to_vec(),
        ..of(Strategy::Interleaved)
    };
    assert_eq!(twelve().order(&settings, 3), [4, 3, 9, 11, 0, 6, 7, 8, 10, 2, 1, 5]);
    let weights = [("M", 0.0), ("P", 3.0), ("S", 1.0)].map(|(name, w)| (name.to_owned(), w)).into();
    let settings = Settings { weights, ..of(Strategy::Mixture) };
    assert_eq!(twelve().order(&settings, 1), [6, 10, 3, 6, 10, 3, 3, 6, 10, 10, 3, 6]);
}

/// What seeds, epochs and lists of categories do on data large enough that equal orders are no accident.
#[test]
fn an_order_depends_on_seed_and_epoch_where_it_is_random() {
    let data = Data {
        categories: (0..200).map(|i| format!("c{}", i % 4)).collect(),
        difficulties: (0..200).map(|i| f64::from(i * 37 % 200)).collect(),
    };
    for strategy in Strategy::ALL {
        let fixed = matches!(
            strategy,
            Strategy::Sequential
                | Strategy::Curriculum
                | Strategy::BlockedCurriculum
                | Strategy::InterleavedCurriculum
        );
        let first = data.order(&of(strategy), 0);
        assert_eq!(first, data.order(&of(strategy), 0), "{strategy}");
        assert_eq!(first == data.order(&of(strategy), 1), fixed, "{strategy}, another epoch");
        assert_eq!(
            first == data.order(&Settings { seed: 1, ..of(strategy) }, 0),
            fixed,
            "{strategy}, another seed"
        );
    }
    let runs =
        |order: &[u32]| 1 + order.windows(2).filter(|w| data.category(w[0]) != data.category(w[1])).count();
    assert_eq!(runs(&data.order(&of(Strategy::Blocked), 0)), 4);
    assert_eq!(runs(&data.order(&of(Strategy::Interleaved), 0)), 4 * 3);
}

/// The example of the definitions: parts rise inside a category.
#[test]
fn each_round_of_an_interleaved_curriculum_is_harder_than_the_last() {
    let data = twelve();
    let order = data.order(&of(Strategy::InterleavedCurriculum), 0);
    for items in data.by_category(&order).into_values() {
        let parts = array_split(&items, 3);
        for pair in parts.windows(2) {
            let hardest = pair[0].iter().map(|&i| data.difficulty(i)).fold(f64::MIN, f64::max);
            let easiest = pair[1].iter().map(|&i| data.difficulty(i)).fold(f64::MAX, f64::min);
            assert!(hardest <= easiest, "{items:?}");
        }
    }
}

#[test]
fn a_mixture_follows_its_weights() {
    let data = Data {
        categories: (0..10_000)
            .map(|i| ["a", "b", "c"][usize::from(i >= 100) + usize::from(i >= 5000)].into())
            .collect(),
        difficulties: vec![0.0; 10_000],
    };
    let share = |weights: &[(&str, f64)]| {
        let weights = weights.iter().map(|&(name, w)| (name.to_owned(), w)).collect();
        let order = data.order(&Settings { weights, ..of(Strategy::Mixture) }, 0);
        ["a", "b", "c"].map(|name| order.iter().filter(|&&i| data.category(i) == name).count() as f64)
    };
    // chi-square with 2 degrees of freedom: 13.8 is exceeded once in a thousand seeds
    for (weights, expected) in [
        (&[("a", 1.0), ("b", 2.0), ("c", 1.0)][..], [2500.0, 5000.0, 2500.0]),
        (&[], [100.0, 4900.0, 5000.0]),
    ] {
        let found = share(weights);
        let chi: f64 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2) / e).sum();
        assert!(chi < 13.8, "chi-square {chi}, counts {found:?}");
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let full = twelve();
    let fail = |settings: Settings, labels: Labels<'_>, batch_size| {
        let error = order(&settings, &labels, 0, batch_size).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        format!("{error} | {}", error.advice().unwrap_or_default())
    };
    let listing = |names: &[&str]| Settings {
        category_order: names.iter().map(|&name| name.to_owned()).collect(),
        ..of(Strategy::Blocked)
    };
    let weighing = |weights: &[(&str, f64)]| Settings {
        weights: weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect(),
        ..of(Strategy::Mixture)
    };
    let unlabelled = Labels { n: 12, ..Labels::default() };
    let infinite = Data { difficulties: vec![f64::INFINITY; 12], ..full.clone() };
    let cases = [
        (fail(Settings { parts: 0, ..of(Strategy::Interleaved) }, full.labels(), 4), "sampler.parts"),
        (fail(of(Strategy::Competence), full.labels(), 0), "batch_size"),
        (fail(of(Strategy::Blocked), unlabelled, 4), "`subject`"),
        (fail(of(Strategy::Curriculum), unlabelled, 4), "`difficulty`"),
        (fail(of(Strategy::Curriculum), infinite.labels(), 4), "example 0"),
        (fail(listing(&["S", "M"]), full.labels(), 4), "does not list category `P`"),
        (fail(listing(&["S", "M", "X"]), full.labels(), 4), "M, P, S"),
        (fail(listing(&["S", "M", "S", "P"]), full.labels(), 4), "`S` twice"),
        (fail(weighing(&[("S", 1.0), ("M", 1.0)]), full.labels(), 4), "no weight for category `P`"),
        (fail(weighing(&[("S", 1.0), ("X", 1.0)]), full.labels(), 4), "`X`"),
        (fail(weighing(&[("S", 1.0), ("M", -1.0), ("P", 1.0)]), full.labels(), 4), "`M` -1"),
        (fail(weighing(&[("S", 0.0), ("M", 0.0), ("P", 0.0)]), full.labels(), 4), "above 0"),
        (fail(weighing(&[("S", f64::NAN), ("M", 0.0), ("P", 1.0)]), full.labels(), 4), "`S` NaN"),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message:?} should contain {part:?}");
    }
}

#[test]
fn no_examples_make_an_empty_order() {
    let none = Data { categories: Vec::new(), difficulties: Vec::new() };
    for strategy in Strategy::ALL {
        assert_eq!(none.order(&of(strategy), 0), Vec::<u32>::new(), "{strategy}");
    }
}
