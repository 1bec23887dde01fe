//! No sums: a few operations a value.

use preceptor::ops::gated::{self, Activation};

use crate::approx::{Approx, assert_close, assert_gradient, differences, exact, exact_all, sum};
use crate::inputs::{KINDS, Kind, ROW_SHAPES, buffer, device, values};

const ACTIVATIONS: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

/// act(g) and act'(g)
fn activation(kind: Activation, g: Approx) -> (Approx, Approx) {
    let one = exact(1.0);
    match kind {
        Activation::Silu => {
            // 1/(1 + e^-g) in a form whose exponential cannot overflow
            let e = exact(-g.value.abs()).exp();
            let s = if g.value >= 0.0 { one / (one + e) } else { e / (one + e) };
            (g * s, s * (one + g * (one - s)))
        }
        Activation::GeluTanh => {
            let (half, root) = (exact(0.5), exact((2.0 / std::f64::consts::PI).sqrt()));
            let inner = root * (g + exact(0.044715) * g * g * g);
            let t = inner.tanh();
            let slope = root * (one + exact(3.0 * 0.044715) * g * g);
            let saturated = t == exact(t.value.signum());
            let rest = if saturated { exact(0.0) } else { one - t * t };
            (half * g * (one + t), half * (one + t) + half * g * rest * slope)
        }
    }
}

#[test]
fn forward_and_backward() {
    let device = device();
    for (kind, (n, cols)) in KINDS.into_iter().flat_map(|kind| ROW_SHAPES.map(|shape| (kind, shape))) {
        for act in ACTIVATIONS {
            let what = format!("{act:?}, {kind:?}, {n} x {cols}");
            let (g, u) = (values(kind, 0, n * cols), values(Kind::Normal, 1, n * cols));
            let dm = values(Kind::Normal, 2, n * cols);
            let (mut on_g, mut on_u) = (buffer(&device, &g, cols), buffer(&device, &u, cols));
            let mut m = device.buffer(n, cols);
            gated::forward(&device, act, &on_g, &on_u, &mut m);
            let pairs: Vec<(Approx, Approx)> = g.iter().map(|&g| activation(act, exact(g))).collect();
            let truth = |f: &dyn Fn(usize) -> Approx| (0..g.len()).map(f).collect::<Vec<_>>();
            assert_close(&what, m.values(), &truth(&|i| pairs[i].0 * exact(u[i])));

            gated::backward(&device, act, &buffer(&device, &dm, cols), &mut on_g, &mut on_u);
            assert_close(&what, on_u.values(), &truth(&|i| exact(dm[i]) * pairs[i].0));
            assert_close(&what, on_g.values(), &truth(&|i| exact(dm[i]) * exact(u[i]) * pairs[i].1));
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let g = values(Kind::Normal, 0, 31);
    for act in ACTIVATIONS {
        let slope = differences(&g, |g| sum(g.iter().map(|&g| activation(act, g).0)));
        let truth: Vec<Approx> = exact_all(&g).iter().map(|&g| activation(act, g).1).collect();
        assert_gradient(&format!("{act:?}"), &truth, &slope);
    }
}
