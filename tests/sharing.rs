//! A forest whose examples share their prefixes gives the losses and the gradients of the same examples laid
//! out one by one.

mod golden;

use preceptor::tensor::{Forest, Site};
use preceptor::train::step::{self, SiteLoss};

use golden::{cases, cpu, gap, parts};

/// A forest by its segments' parents and lengths. Every segment that is no one's parent ends an example.
#[derive(Clone, Copy, Debug)]
struct Shape {
    segments: &'static [(Option<u32>, usize)],
    /// Whether every token carries a loss, or only those of the last segment.
    everywhere: bool,
}

const SHAPES: [Shape; 4] = [
    // a prompt and its completions, one of them a single token
    Shape { segments: &[(None, 40), (Some(0), 5), (Some(0), 1), (Some(0), 9)], everywhere: false },
    Shape { segments: &[(None, 40), (Some(0), 5), (Some(0), 1), (Some(0), 9)], everywhere: true },
    // an instruction, two questions, their answers; and an example that shares nothing
    Shape {
        segments: &[
            (None, 23),
            (Some(0), 12),
            (Some(1), 3),
            (Some(1), 7),
            (Some(0), 20),
            (Some(4), 1),
            (Some(4), 4),
            (Some(4), 2),
            (None, 15),
        ],
        everywhere: true,
    },
    // segments around attention's tile and beyond the windows of the golden cases
    Shape {
        segments: &[(None, 65), (Some(0), 64), (Some(1), 5), (Some(1), 3), (Some(0), 2)],
        everywhere: false,
    },
];

/// One example: its segments from the root on, and which of its tokens predict with a loss.
struct Example {
    chain: Vec<u32>,
    tokens: Vec<u32>,
    trained: std::ops::Range<usize>,
}

impl Shape {
    /// The shared forest, still without sites; ids are taken from `ids` in turn.
    fn shared(&self, ids: &[u32]) -> Forest {
        let mut forest = Forest::default();
        let mut ids = ids.iter().copied().cycle();
        for &(parent, len) in self.segments {
            let position = parent.map_or(0, |parent| {
                let parent = forest.segments[parent as usize];
                forest.positions[parent.start as usize] + parent.len
            });
            let tokens: Vec<u32> = ids.by_ref().take(len).collect();
            forest.push(&tokens, parent, position, 0);
        }
        forest
    }

    fn examples(&self, shared: &Forest) -> Vec<Example> {
        let leaves = (0..self.segments.len() as u32).filter(|&s| {
            let is_parent = self.segments.iter().any(|&(parent, _)| parent == Some(s));
            !is_parent
        });
        let example = |leaf: u32| {
            let chain = shared.chain(leaf);
            let ranges = chain.iter().map(|&s| shared.segments[s as usize].range());
            let tokens: Vec<u32> = ranges.flat_map(|range| shared.tokens[range].to_vec()).collect();
            // the token before the last segment predicts its first; the last token has nothing to predict
            let last = self.segments[leaf as usize].1;
            let alone = chain.len() == 1;
            let first = if self.everywhere || alone { 0 } else { tokens.len() - last - 1 };
            let trained = first..tokens.len() - 1;
            Example { chain, tokens, trained }
        };
        leaves.map(example).collect()
    }
}

/// The loss sites of examples whose token at a place stands where `token_at` says.
fn sites(examples: &[Example], token_at: impl Fn(usize, usize) -> u32) -> Vec<Site> {
    let mut sites = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        sites.extend(example.trained.clone().map(|place| Site {
            token: token_at(index, place),
            target: example.tokens[place + 1],
            weight: [1.0, 0.5, 2.0][index % 3],
            smoothing: [0.0, 0.1][index % 2],
            example: index as u32,
        }));
    }
    sites.sort_by_key(|site| (site.token, site.example));
    sites
}

/// The same examples with what they share shared, and one by one.
fn both(shape: &Shape, ids: &[u32]) -> [Forest; 2] {
    let mut shared = shape.shared(ids);
    let examples = shape.examples(&shared);
    let mut flat = Forest::of_sequences(examples.iter().map(|e| &e.tokens[..]));
    flat.sites = sites(&examples, |example, place| flat.segments[example].start + place as u32);
    shared.sites = sites(&examples, |example, place| {
        let tokens = examples[example].chain.iter().flat_map(|&s| shared.segments[s as usize].range());
        tokens.clone().nth(place).expect("a place inside the example") as u32
    });
    assert!(shared.len() < flat.len() && shared.sites.len() == flat.sites.len());
    [shared, flat]
}

/// Losses by example; inside one, both forests list them from its first place to its last.
fn by_example(mut losses: Vec<SiteLoss>) -> Vec<SiteLoss> {
    losses.sort_by_key(|l| l.example);
    losses
}

/// Each of two results is at most ten times the reference's own rounding from the truth (tests/parity.rs), so
/// they are at most twenty times it from each other; rounding grows with the gradients.
#[test]
fn shared_prefixes_do_not_change_losses_and_gradients() {
    let device = cpu(2);
    for case in cases() {
        for (shape, trained) in
            SHAPES.iter().flat_map(|shape| case.trained().iter().map(move |&trained| (shape, trained)))
        {
            let learner = case.learner(&device, trained);
            let [shared, flat] = both(shape, &case.forest(0).tokens).map(|forest| {
                let mut gradients = device.zeros(1, learner.len());
                let losses = step::gradient(&device, &learner, &[forest], None, false, &mut gradients);
                (by_example(losses), gradients.values().to_vec())
            });
            let what = format!("{}, {shape:?}", case.folder.display());
            // a loss is at most twice as far off as the logits
            let allowed = 2.0 * 20.0 * case.noise("logits");
            for (x, y) in shared.0.iter().zip(&flat.0) {
                assert_eq!((x.example, x.weight), (y.example, y.weight), "{what}");
                assert!((x.loss - y.loss).abs() <= allowed, "{what}: {x:?} {y:?} +- {allowed:e}");
            }
            let largest = flat.1.iter().fold(0.0_f64, |max, g| max.max(f64::from(g.abs())));
            let noise = trained.noise();
            let growth = (largest / case.noise(&format!("{noise}_largest"))).max(1.0);
            for (name, range) in parts(&learner) {
                let (x, y) = (&shared.1[range.clone()], &flat.1[range]);
                assert!(y.iter().any(|g| *g != 0.0), "{what}: a gradient of {name} is all zero");
                let (gap, allowed) = (gap(x, y), 20.0 * growth * case.noise(noise));
                assert!(gap <= allowed, "{what}, {name}: {gap:e} > {allowed:e}");
            }
        }
    }
}
