//! Sums of k = the group's width terms; of the gain's gradient, of k = the number of groups + 1.

use preceptor::device::Weight;
use preceptor::ops::rmsnorm::{self, Gain};

use crate::approx::{Approx, assert_close, assert_gradient, differences, dot, exact, exact_all, sum};
use crate::inputs::{KINDS, Kind, ROW_SHAPES, buffer, device, values};

const EPS: f32 = 1e-5;

/// y and 1/rms of groups as wide as `w`.
fn truth(x: &[Approx], w: &[f32], offset: f32) -> (Vec<Approx>, Vec<Approx>) {
    let (mut y, mut rrms) = (Vec::new(), Vec::new());
    for x in x.chunks(w.len()) {
        let mean = dot(x.iter().zip(x)) / exact(w.len() as f64);
        let scale = exact(1.0) / (mean + exact(EPS)).sqrt();
        y.extend(x.iter().zip(w).map(|(&x, &w)| x * scale * (exact(offset) + exact(w))));
        rrms.push(scale);
    }
    (y, rrms)
}

/// What the gradient adds to `dx`.
fn truth_gradient(x: &[Approx], w: &[f32], offset: f32, dy: &[f32], dx: &[f32]) -> Vec<Approx> {
    let (_, rrms) = truth(x, w, offset);
    let width = w.len();
    let mut out = Vec::new();
    for (i, x) in x.chunks(width).enumerate() {
        let at = i * width..(i + 1) * width;
        let pulled: Vec<Approx> =
            dy[at.clone()].iter().zip(w).map(|(&dy, &w)| exact(dy) * (exact(offset) + exact(w))).collect();
        let mean = sum(pulled.iter().zip(x).map(|(&p, &x)| p * x)) / exact(width as f64);
        let back = mean * rrms[i] * rrms[i];
        let gradients = pulled.iter().zip(x).map(|(&p, &x)| rrms[i] * (p - x * back));
        out.extend(gradients.zip(&dx[at]).map(|(g, &dx)| exact(dx) + g));
    }
    out
}

/// What the gain's gradient is, added to `dw`.
fn truth_gain_gradient(x: &[Approx], dy: &[f32], dw: &[f32]) -> Vec<Approx> {
    let width = dw.len();
    let (_, rrms) = truth(x, dw, 0.0);
    let term = |i: usize| exact(dy[i]) * (x[i] * rrms[i / width]);
    let column = |d: usize| (d..x.len()).step_by(width).map(term);
    (0..width).map(|d| sum(column(d).chain([exact(dw[d])]))).collect()
}

fn check(kind: Kind, rows: usize, width: usize, groups: usize, offset: f32) {
    let device = device();
    let what = format!("{kind:?}, {rows} rows of {groups} x {width}, offset {offset}");
    let (cols, len) = (groups * width, rows * groups * width);
    let (x, dy, dx) = (values(kind, 0, len), values(Kind::Normal, 1, len), values(Kind::Normal, 2, len));
    let w = values(Kind::Normal, 3, width);
    let weight = Weight::owned(w.clone(), 1, width);
    let gain = Gain { weight: &weight, offset, eps: EPS };

    let on_device = buffer(&device, &x, cols);
    let (mut y, mut rrms) = (device.buffer(rows, cols), device.buffer(rows, groups));
    rmsnorm::forward(&device, &on_device, gain, &mut y, &mut rrms);
    let (of_y, of_rrms) = truth(&exact_all(&x), &w, offset);
    assert_close(&what, y.values(), &of_y);
    assert_close(&what, rrms.values(), &of_rrms);

    let mut again = device.buffer(rows, cols);
    rmsnorm::again(&device, &on_device, &rrms, gain, &mut again);
    assert_eq!(again.values(), y.values(), "{what}: the same bits again");

    let mut gradient = buffer(&device, &dx, cols);
    rmsnorm::backward(&device, &buffer(&device, &dy, cols), &on_device, &rrms, gain, &mut gradient);
    assert_close(&what, gradient.values(), &truth_gradient(&exact_all(&x), &w, offset, &dy, &dx));

    let dw = values(Kind::Normal, 4, width);
    let mut gradient = buffer(&device, &dw, width);
    rmsnorm::gain_gradient(&device, &buffer(&device, &dy, cols), &on_device, &rrms, gradient.whole_mut());
    assert_close(&what, gradient.values(), &truth_gain_gradient(&exact_all(&x), &dy, &dw));
}

#[test]
fn forward_and_backward() {
    for kind in KINDS {
        for (rows, width) in ROW_SHAPES {
            check(kind, rows, width, 1, 0.0);
        }
        for (rows, width, groups) in [(1, 1, 3), (7, 13, 5), (65, 64, 9)] {
            check(kind, rows, width, groups, 1.0);
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    for (width, offset) in [(1, 0.0), (5, 0.0), (7, 1.0)] {
        let (x, w) = (values(Kind::Normal, 0, 3 * width), values(Kind::Normal, 1, width));
        let dy = values(Kind::Normal, 2, 3 * width);
        let slope = differences(&x, |x| dot(truth(x, &w, offset).0.iter().zip(&exact_all(&dy))));
        let gradient = truth_gradient(&exact_all(&x), &w, offset, &dy, &vec![0.0; x.len()]);
        assert_gradient(&format!("width {width}"), &gradient, &slope);
    }
}

#[test]
fn a_row_of_zeros_stays_zero() {
    let device = device();
    let weight = Weight::owned(vec![1.0; 5], 1, 5);
    let gain = Gain { weight: &weight, offset: 0.0, eps: EPS };
    let (mut y, mut rrms) = (device.buffer(1, 5), device.buffer(1, 1));
    rmsnorm::forward(&device, &device.zeros(1, 5), gain, &mut y, &mut rrms);
    assert_eq!(y.values(), [0.0; 5]);
    assert_eq!(rrms.values(), [(1.0 / f64::from(EPS).sqrt()) as f32]);
}
