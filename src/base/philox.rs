//! Philox4x32-10: a counter-based generator, so that every random number of a run can be named.
//!
//! A number depends on (seed, purpose, counter) and on nothing else: no state is kept, none goes into a
//! checkpoint, and the order in which threads ask does not matter.
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Blocks that [`Philox::blocks`] makes at once: with fewer the compiler unrolls the loop over them and makes no
/// vectors, with more a row's end wastes some.
pub const LANES: usize = 16;

/// What random numbers are for; each purpose has a stream of its own under one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The first A of an adapter.
    AdapterInit = 1,
    /// LoRA dropout masks.
    Dropout = 2,
    /// The order of the training data.
    Order = 3,
    /// Sampling of tokens.
    Sampling = 4,
    /// The first weights of a new model.
    ModelInit = 5,
    /// First centres of a clustering.
    Clustering = 6,
    /// Bootstrap resamples.
    Resampling = 7,
}

/// One (seed, purpose): a function from a 128-bit counter to four 32-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator of `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let root = Self { key: [seed as u32, (seed >> 32) as u32] };
        let [k0, k1, ..] = root.block([purpose as u32, 0, 0, 0]);
        Self { key: [k0, k1] }
    }

    /// The key, for a kernel that makes the same numbers.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// Four uniform 32-bit numbers for `counter`.
    #[inline]
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, self.key);
        for _ in 0..ROUNDS {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
            (c0, c1, c2, c3) =
                ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        [c0, c1, c2, c3]
    }

    /// The blocks of `counter` and the [`LANES`] - 1 after it, which differ from it in their first number (which must
    /// not overflow): number i of block l is `[i][l]`.
    ///
    /// The numbers stay in 64 bits, whose upper halves are not read, because that is how vectors multiply: one
    /// narrowing at the end instead of one a round.
    #[inline(always)]
    pub fn blocks(&self, counter: [u32; 4]) -> [[u32; LANES]; 4] {
        let mut lanes = counter.map(|number| [u64::from(number); LANES]);
        for (l, c0) in lanes[0].iter_mut().enumerate() {
            *c0 += l as u64;
        }
        let [mut k0, mut k1] = self.key;
        for _ in 0..ROUNDS {
            let [c0, c1, c2, c3] = &mut lanes;
            for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
                let p0 = u64::from(MULTIPLIERS[0]) * u64::from(*c0 as u32);
                let p1 = u64::from(MULTIPLIERS[1]) * u64::from(*c2 as u32);
                *c0 = (p1 >> 32) ^ *c1 ^ u64::from(k0);
                *c1 = p1;
                *c2 = (p0 >> 32) ^ *c3 ^ u64::from(k1);
                *c3 = p0;
            }
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        lanes.map(|numbers| numbers.map(|number| number as u32))
    }

    /// An endless stream of numbers: the blocks of counters `[0.., stream...]` in order.
    pub fn stream(&self, stream: [u32; 3]) -> Stream {
        Stream { philox: *self, counter: [0, stream[0], stream[1], stream[2]], block: [0; 4], used: 4 }
    }
}

/// Numbers of one stream, one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    philox: Philox,
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The next uniform 32-bit number.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = self.philox.block(self.counter);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), with 24 bits: every value is exact in f32.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Two independent standard normal numbers.
    ///
    /// Source: Box, Muller, "A note on the generation of random normal deviates", 1958.
    pub fn next_normals(&mut self) -> [f64; 2] {
        const UNIT: f64 = 1.0 / 4_294_967_296.0; // 2^-32
        // in (0, 1], so that the logarithm is finite
        let radius = (-2.0 * ((f64::from(self.next_u32()) + 1.0) * UNIT).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * f64::from(self.next_u32()) * UNIT).sin_cos();
        [radius * cos, radius * sin]
    }

    /// Uniform in `0..n`, without bias. `n` must not be 0.
    ///
    /// Source: Lemire, "Fast random integer generation in an interval", 2019.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range has no number to draw");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        let threshold = n.wrapping_neg() % n;
        while (product as u32) < threshold {
            product = u64::from(self.next_u32()) * u64::from(n);
        }
        (product >> 32) as u32
    }

    /// Fisher-Yates shuffle. `items` must have fewer than 2^32 elements.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their library.
    #[test]
    fn known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(Philox { key }.block(counter), expected);
        }
    }

    #[test]
    fn blocks_are_those_that_are_made_alone() {
        let philox = Philox::new(5, Purpose::Dropout);
        for counter in [[0; 4], [0xFFFF_FFF0, 1, 2, 3], [77, u32::MAX, 0, 9]] {
            let blocks = philox.blocks(counter);
            for l in 0..LANES {
                let alone = philox.block([counter[0] + l as u32, counter[1], counter[2], counter[3]]);
                assert_eq!(alone, blocks.map(|numbers| numbers[l]), "{counter:?} + {l}");
            }
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_repeats() {
        let shuffled = || {
            let mut items: Vec<u32> = (0..100).collect();
            Philox::new(42, Purpose::Order).stream([0; 3]).shuffle(&mut items);
            items
        };
        let mut sorted = shuffled();
        assert_eq!(sorted, shuffled());
        assert_ne!(sorted, (0..100).collect::<Vec<_>>());
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn normals_have_the_moments_of_the_normal_distribution() {
        let mut stream = Philox::new(1, Purpose::ModelInit).stream([0; 3]);
        let numbers: Vec<f64> = (0..50_000).flat_map(|_| stream.next_normals()).collect();
        // Even moments of N(0, 1) are 1, 3, 15, ...; the mean of n values of x^k has the variance
        // (E x^2k - (E x^k)^2) / n. Five of its roots are exceeded by chance once in a million seeds.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let mean = numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;
            let bound = 5.0 * (variance / numbers.len() as f64).sqrt();
            assert!((mean - expected).abs() < bound, "moment {power} is {mean}, needed {expected}");
        }
    }

    #[test]
    fn below_is_even() {
        let mut stream = Philox::new(1, Purpose::Order).stream([0; 3]);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            counts[stream.below(5) as usize] += 1;
        }
        // chi-square with 4 degrees of freedom: 18.5 is exceeded once in a thousand seeds
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi < 18.5, "chi-square {chi}, counts {counts:?}");
    }
}
