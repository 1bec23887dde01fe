//! Two products and an addition a value; angles are the f32 products that the op promises.

use preceptor::ops::rope::{self, Table, Turn};

use crate::approx::{Approx, assert_close, assert_gradient, differences, dot, exact_all};
use crate::inputs::{KINDS, Kind, buffer, device, values};

fn frequencies(head: usize) -> Vec<f32> {
    (0..head / 2).map(|i| 10_000.0_f32.powf(-((2 * i) as f32) / head as f32)).collect()
}

fn truth(x: &[Approx], heads: usize, head: usize, positions: &[u32], turn: Turn) -> Vec<Approx> {
    let (half, mut y) = (head / 2, Vec::new());
    for (row, &position) in x.chunks(heads * head).zip(positions) {
        for x in row.chunks(head) {
            let turned = |i: usize| {
                let angle = f64::from(position as f32 * frequencies(head)[i % half]);
                let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
                let rounded = |value: f64| Approx { value, error: f64::from(f32::EPSILON) * value.abs() };
                let (cos, sin) = (rounded(angle.cos()), rounded(sign * angle.sin()));
                if i < half { x[i] * cos - x[i + half] * sin } else { x[i] * cos + x[i - half] * sin }
            };
            y.extend((0..head).map(turned));
        }
    }
    y
}

#[test]
fn forward_and_back() {
    let device = device();
    for (kind, (n, heads, head)) in
        KINDS.into_iter().flat_map(|kind| [(1, 1, 2), (7, 3, 6), (65, 9, 64), (29, 9, 64)].map(|s| (kind, s)))
    {
        let x = values(kind, 0, n * heads * head);
        let positions: Vec<u32> = (0..n as u32).map(|i| i * 61 % 2048).collect();
        let table = Table::new(&device, &frequencies(head), 2048);
        for turn in [Turn::Forward, Turn::Back] {
            let mut y = buffer(&device, &x, heads * head);
            rope::apply(&device, &mut y, &positions, &table, turn);
            let what = format!("{kind:?}, {n} x {heads} x {head}, {turn:?}");
            assert_close(&what, y.values(), &truth(&exact_all(&x), heads, head, &positions, turn));
        }
    }
}

/// The backward pass is the turn back.
#[test]
fn the_gradient_is_the_slope() {
    let (heads, head, positions) = (2, 6, [0, 5, 1999]);
    let (x, dy) = (values(Kind::Normal, 0, 36), values(Kind::Normal, 1, 36));
    let slope = differences(&x, |x| {
        dot(truth(x, heads, head, &positions, Turn::Forward).iter().zip(&exact_all(&dy)))
    });
    assert_gradient("rope", &truth(&exact_all(&dy), heads, head, &positions, Turn::Back), &slope);
}
