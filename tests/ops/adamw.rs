//! No sums but the norm's, of k = P terms in f64. Errors carry over from update to update.

use preceptor::ops::adamw::{self, Constants};

use crate::approx::{Approx, assert_close, dot, exact, exact_all};
use crate::inputs::{KINDS, Kind, buffer, device, values};

/// Around the blocks of 2^14 values, a prime, one.
const SIZES: [usize; 6] = [1, 101, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, 3 << 14];

#[test]
fn the_norm_and_its_clip() {
    let device = device();
    for (kind, len) in KINDS.into_iter().flat_map(|kind| SIZES.map(|len| (kind, len))) {
        let g = values(kind, 0, len);
        let norm = adamw::global_norm(&device, &buffer(&device, &g, len));
        let exact_g = exact_all(&g);
        assert_close(
            &format!("{kind:?}, {len}"),
            &[norm as f32],
            &[dot(exact_g.iter().zip(&exact_g)).sqrt()],
        );
    }
    assert_eq!(adamw::clip_factor(4.0, 0.0), 1.0, "0 is off");
    assert_eq!(adamw::clip_factor(0.5, 1.0), 1.0, "small gradients stay");
    assert_eq!(adamw::clip_factor(4.0, 1.0), (1.0 / 4.000_001) as f32);
    assert_eq!(adamw::clip_factor(0.0, 1.0), 1.0);
}

/// p, m and v in the order of the equations.
struct Truth {
    p: Vec<Approx>,
    m: Vec<Approx>,
    v: Vec<Approx>,
}

impl Truth {
    fn update(&mut self, c: &Constants, g: &[f32]) {
        let t = c.update as i32;
        let constant = |value: f64| exact(value) * exact(1.0); // it is rounded to f32, too
        let step = constant(c.learning_rate / (1.0 - c.beta1.powi(t)));
        let root = constant((1.0 - c.beta2.powi(t)).sqrt());
        let decay = constant(1.0 - c.learning_rate * c.weight_decay);
        for (i, &g) in g.iter().enumerate() {
            let g = exact(g) * exact(c.clip);
            self.m[i] = constant(c.beta1) * self.m[i] + constant(1.0 - c.beta1) * g;
            self.v[i] = constant(c.beta2) * self.v[i] + constant(1.0 - c.beta2) * g * g;
            let denominator = self.v[i].sqrt() / root + constant(c.epsilon);
            self.p[i] = self.p[i] * decay - step * self.m[i] / denominator;
        }
    }
}

#[test]
fn fifty_updates() {
    let device = device();
    for (kind, weight_decay, max_norm, epsilon) in
        [(Kind::Normal, 0.0, 1.0, 1e-8), (Kind::Large, 0.1, 0.0, 1e-8), (Kind::Equal, 0.01, 0.5, 1e-3)]
    {
        for len in [1, 101, (1 << 14) + 1] {
            let what = format!("{kind:?}, {len}, decay {weight_decay}, clip {max_norm}");
            let start = values(Kind::Normal, 100, len);
            let mut p = buffer(&device, &start, len);
            let (mut m, mut v) = (device.zeros(1, len), device.zeros(1, len));
            let zeros = vec![exact(0.0); len];
            let mut truth = Truth { p: exact_all(&start), m: zeros.clone(), v: zeros };
            for update in 1..=50 {
                let g = values(kind, update as u32, len);
                let on_device = buffer(&device, &g, len);
                let constants = Constants {
                    learning_rate: 1e-2 / update as f64,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon,
                    weight_decay,
                    update,
                    clip: adamw::clip_factor(adamw::global_norm(&device, &on_device), max_norm),
                };
                adamw::update(
                    &device,
                    &constants,
                    p.whole_mut(),
                    on_device.whole(),
                    m.whole_mut(),
                    v.whole_mut(),
                );
                truth.update(&constants, &g);
                assert_close(&format!("p, {what}, {update}"), p.values(), &truth.p);
                assert_close(&format!("m, {what}, {update}"), m.values(), &truth.m);
                assert_close(&format!("v, {what}, {update}"), v.values(), &truth.v);
            }
            let moved = start.iter().zip(p.values()).all(|(before, after)| before != after);
            assert!(moved, "{what}: every parameter moved");
        }
    }
}

/// The first update moves each parameter by the rate, whatever its gradient.
#[test]
fn the_first_update_is_the_sign() {
    let device = device();
    let mut p = device.zeros(1, 4);
    let g = buffer(&device, &[3.0, -1e-3, 1e4, -7.0], 4);
    let constants = Constants {
        learning_rate: 0.5,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 0.0,
        weight_decay: 0.0,
        update: 1,
        clip: 1.0,
    };
    let (mut m, mut v) = (device.zeros(1, 4), device.zeros(1, 4));
    adamw::update(&device, &constants, p.whole_mut(), g.whole(), m.whole_mut(), v.whole_mut());
    for (found, expected) in p.values().iter().zip([-0.5, 0.5, -0.5, 0.5]) {
        assert!((found - expected).abs() <= 4.0 * f32::EPSILON, "{found} {expected}");
    }
}
