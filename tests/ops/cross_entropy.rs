//! Sums of k = D (logits), V (log-sum-exp, dh), S + 1 (dW) terms.

use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::{Device, Weight};
use preceptor::ops::cross_entropy::{self, Gradients, Target};

use crate::approx::{
    Approx, assert_close, assert_gradient, assert_sharp, differences, dot, exact, exact_all, sum,
};
use crate::inputs::{KINDS, Kind, buffer, device, values};

const SCALE: f32 = 0.37;

struct Case {
    width: usize,
    vocabulary: usize,
    h: Vec<f32>,
    w: Vec<f32>,
    targets: Vec<Target>,
}

impl Case {
    /// `rows` hidden states; `targets` of a row: how many it carries.
    fn new(
        rows: usize,
        width: usize,
        vocabulary: usize,
        kind: Kind,
        targets: impl Fn(usize) -> usize,
    ) -> Self {
        let mut numbers = Philox::new(9, Purpose::Sampling).stream([0; 3]);
        let mut target = |row: usize, i: usize| Target {
            row: row as u32,
            token: numbers.below(vocabulary as u32),
            weight: [1.0, 0.25, 3.0][i % 3],
            smoothing: [0.0, 0.1, 0.5][(row + i) % 3],
        };
        let targets: Vec<Target> = (0..rows)
            .flat_map(|row| (0..targets(row)).map(move |i| (row, i)))
            .map(|(r, i)| target(r, i))
            .collect();
        // large hidden states over small weights: logits in the hundreds
        let shrink = if kind == Kind::Large { 0.1 } else { 1.0 } / (width as f32).sqrt();
        let w = values(if kind == Kind::Equal { kind } else { Kind::Normal }, 1, vocabulary * width);
        Self {
            width,
            vocabulary,
            h: values(kind, 0, rows * width),
            w: w.iter().map(|w| w * shrink).collect(),
            targets,
        }
    }

    fn logits(&self, h: &[Approx]) -> Vec<Approx> {
        let w = exact_all(&self.w);
        let row = |h| w.chunks(self.width).map(|w| dot(<[Approx]>::iter(h).zip(w))).collect::<Vec<_>>();
        h.chunks(self.width).flat_map(row).collect()
    }

    fn log_sum_exp(z: &[Approx]) -> Approx {
        let max = z.iter().map(|z| z.value).fold(f64::MIN, f64::max);
        exact(max) + sum(z.iter().map(|&z| (z - exact(max)).exp())).ln()
    }

    fn losses(&self, z: &[Approx]) -> Vec<Approx> {
        let lse: Vec<Approx> = z.chunks(self.vocabulary).map(Self::log_sum_exp).collect();
        let mean = |z: &[Approx]| sum(z.iter().copied()) / exact(z.len() as f64);
        let means: Vec<Approx> = z.chunks(self.vocabulary).map(mean).collect();
        let loss = |t: &Target| {
            let (row, eps) = (t.row as usize, exact(t.smoothing));
            let at_target = z[row * self.vocabulary + t.token as usize];
            lse[row] - (exact(1.0) - eps) * at_target - eps * means[row]
        };
        self.targets.iter().map(loss).collect()
    }

    fn loss(&self, h: &[Approx]) -> Approx {
        let losses = self.losses(&self.logits(h));
        exact(SCALE) * sum(losses.iter().zip(&self.targets).map(|(&l, t)| exact(t.weight) * l))
    }

    /// dh, and dW added to `dw`.
    fn gradients(&self, z: &[Approx], dw: &[f32]) -> [Vec<Approx>; 2] {
        let (mut dh, mut all_dz) = (Vec::new(), Vec::new());
        for (row, z) in z.chunks(self.vocabulary).enumerate() {
            let lse = Self::log_sum_exp(z);
            let mut dz = vec![exact(0.0); z.len()];
            for t in self.targets.iter().filter(|t| t.row as usize == row) {
                let (w, eps) = (exact(t.weight) * exact(SCALE), exact(t.smoothing));
                let spread = eps / exact(z.len() as f64);
                for (v, (dz, &z)) in dz.iter_mut().zip(z).enumerate() {
                    let hit = if v == t.token as usize { exact(1.0) - eps } else { exact(0.0) };
                    *dz = *dz + w * ((z - lse).exp() - hit - spread);
                }
            }
            let column = |d: usize| self.w[d..].iter().step_by(self.width);
            dh.extend((0..self.width).map(|d| sum(dz.iter().zip(column(d)).map(|(&dz, &w)| dz * exact(w)))));
            all_dz.extend(dz);
        }
        let of_head = |i: usize| {
            let (v, d) = (i / self.width, i % self.width);
            let (dz, h) =
                (all_dz[v..].iter().step_by(self.vocabulary), self.h[d..].iter().step_by(self.width));
            sum(dz.zip(h).map(|(&dz, &h)| dz * exact(h)).chain([exact(dw[i])]))
        };
        [dh, (0..dw.len()).map(of_head).collect()]
    }

    fn head(&self) -> Weight {
        Weight::owned(self.w.clone(), self.vocabulary, self.width)
    }

    /// Compares, and returns the truth: losses and the gradient of h.
    fn check(&self, device: &Device, what: &str, trains_head: bool) -> [Vec<Approx>; 2] {
        let h = buffer(device, &self.h, self.width);
        let mut dh = device.buffer(h.rows(), self.width);
        let start = values(Kind::Normal, 2, if trains_head { self.w.len() } else { 0 });
        let mut dw = buffer(device, &start, self.width);
        let found = cross_entropy::forward(
            device,
            &h,
            &self.head(),
            &self.targets,
            SCALE,
            Some(Gradients { dh: &mut dh, dw: trains_head.then(|| dw.whole_mut()) }),
        );
        let alone = cross_entropy::forward(device, &h, &self.head(), &self.targets, SCALE, None);
        assert_eq!(found, alone, "{what}: the loss does not depend on whether a gradient is wanted");
        let z = self.logits(&exact_all(&self.h));
        let found: Vec<f32> = found.iter().map(|&l| l as f32).collect();
        let [of_h, of_head] = self.gradients(&z, &start);
        let truth = [self.losses(&z), of_h];
        assert_close(what, &found, &truth[0]);
        assert_close(what, dh.values(), &truth[1]);
        assert_close(what, dw.values(), &of_head);
        truth
    }
}

#[test]
fn forward_and_backward() {
    let device = device();
    for kind in KINDS {
        for (rows, width, vocabulary) in [(1, 1, 1), (63, 5, 64), (64, 64, 65), (65, 3, 63), (13, 17, 101)] {
            let case = Case::new(rows, width, vocabulary, kind, |row| [1, 3, 2, 0][row % 4]);
            case.check(&device, &format!("{kind:?}, {rows} x {width}, V {vocabulary}"), true);
        }
    }
}

#[test]
fn smollm2s_head() {
    let case = Case::new(2, 576, 49_152, Kind::Normal, |_| 1);
    for truth in case.check(&device(), "SmolLM2's head", false) {
        assert_sharp("SmolLM2's head", &truth);
    }
}

/// A chunk is 2^23 / V rows, at most 512 and at least 8.
#[test]
fn borders_of_chunks() {
    let device = device();
    for (rows, vocabulary) in [(511, 7), (512, 7), (513, 7), (1025, 7), (255, 32_768), (257, 32_768)] {
        let case = Case::new(rows, 2, vocabulary, Kind::Normal, |row| usize::from(row % 2 == 0));
        case.check(&device, &format!("{rows} rows, V {vocabulary}"), true);
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let case = Case::new(5, 3, 7, Kind::Normal, |row| row % 3);
    let z = case.logits(&exact_all(&case.h));
    let [of_h, _] = case.gradients(&z, &vec![0.0; case.w.len()]);
    assert_gradient("dh", &of_h, &differences(&case.h, |h| case.loss(h)));
}

#[test]
fn a_nan_logit_makes_its_rows_losses_nan() {
    let device = device();
    let mut case = Case::new(3, 2, 5, Kind::Normal, |_| 2);
    let of = |case: &Case| {
        let h = buffer(&device, &case.h, 2);
        cross_entropy::forward(&device, &h, &case.head(), &case.targets, 1.0, None)
    };
    case.h[3] = f32::NAN; // row 1
    let nan: Vec<bool> = of(&case).iter().map(|l| l.is_nan()).collect();
    assert_eq!(nan, [false, false, true, true, false, false]);
    case.h[3] = f32::INFINITY;
    assert!(of(&case)[2..4].iter().all(|l| l.is_nan()), "infinite logits have no loss");
    case.h[3] = 0.0;
    case.w[8] = f32::NAN; // one logit of every row
    assert!(of(&case).iter().all(|l| l.is_nan()));
}

#[test]
fn chosen_logits_are_the_same_as_all() {
    let device = device();
    let case = Case::new(13, 17, 101, Kind::Normal, |_| 0);
    let (h, truth) = (buffer(&device, &case.h, 17), case.logits(&exact_all(&case.h)));
    assert_close("all", cross_entropy::logits(&device, &h, &case.head()).values(), &truth);
    for row in [0, 12] {
        let found = cross_entropy::logits_at(&device, &h, &case.head(), row, &[100, 0, 50]);
        let truth: Vec<Approx> = [100, 0, 50].map(|token| truth[row * 101 + token]).to_vec();
        assert_close("chosen", &found, &truth);
    }
}
