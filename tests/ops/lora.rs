//! Sums of k = in (xa), R + 1 (y, dx), out (dxa), N + 1 (dA, dB) terms; with and without dropout.

use std::slice;

use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::{Buffer, Device, Weight};
use preceptor::ops::linear::{self, Linear, Write};
use preceptor::ops::lora::{self, Dropout, Factors};

use crate::approx::{
    Approx, assert_close, assert_gradient, assert_sharp, differences, dot, exact, exact_all, sum,
};
use crate::dropout::mask;
use crate::inputs::{KINDS, Kind, buffer, device, values};

const SCALE: f32 = 1.7;

#[derive(Clone, Copy, Debug)]
struct Shape {
    n: usize,
    inputs: usize,
    outputs: usize,
    rank: usize,
}

/// One, around the GEMM's tiles, primes, SmolLM2's feed-forward block.
const SHAPES: [Shape; 6] = [
    Shape { n: 1, inputs: 1, outputs: 1, rank: 1 },
    Shape { n: 63, inputs: 64, outputs: 65, rank: 16 },
    Shape { n: 64, inputs: 63, outputs: 64, rank: 17 },
    Shape { n: 65, inputs: 65, outputs: 63, rank: 15 },
    Shape { n: 17, inputs: 101, outputs: 13, rank: 3 },
    Shape { n: 29, inputs: 576, outputs: 1536, rank: 16 },
];

/// x, A, B and dy, and what the sums start from.
struct Inputs {
    x: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    da: Vec<f32>,
    db: Vec<f32>,
}

impl Inputs {
    fn new(shape: Shape, kind: Kind) -> Self {
        let Shape { n, inputs, outputs, rank } = shape;
        Self {
            x: values(kind, 0, n * inputs),
            a: values(Kind::Normal, 1, rank * inputs),
            b: values(Kind::Normal, 2, outputs * rank),
            dy: values(kind, 3, n * outputs),
            y: values(kind, 4, outputs),
            dx: values(kind, 5, n * inputs),
            da: values(kind, 6, rank * inputs),
            db: values(kind, 7, outputs * rank),
        }
    }
}

fn rows(x: &[Approx], cols: usize) -> impl Iterator<Item = &[Approx]> {
    x.chunks(cols)
}

fn column(x: &[Approx], cols: usize, col: usize) -> impl Iterator<Item = &Approx> {
    x[col..].iter().step_by(cols)
}

/// z = x mask, where the mask holds 0 or 1/(1 - p).
fn masked(x: &[Approx], mask: &[f32]) -> Vec<Approx> {
    x.iter().zip(mask).map(|(&x, &m)| x * exact(m)).collect()
}

/// xa and y - y0
fn truth(shape: Shape, z: &[Approx], a: &[Approx], b: &[Approx]) -> (Vec<Approx>, Vec<Approx>) {
    let Shape { inputs, rank, .. } = shape;
    let xa: Vec<Approx> =
        rows(z, inputs).flat_map(|z| rows(a, inputs).map(move |a| dot(z.iter().zip(a)))).collect();
    let y = rows(&xa, rank)
        .flat_map(|xa| rows(b, rank).map(move |b| exact(SCALE) * dot(xa.iter().zip(b))))
        .collect();
    (xa, y)
}

/// dx, dA and dB, without what the sums start from.
fn truth_gradient(
    shape: Shape,
    mask: &[f32],
    z: &[Approx],
    a: &[Approx],
    b: &[Approx],
    dy: &[Approx],
) -> [Vec<Approx>; 3] {
    let Shape { inputs, outputs, rank, .. } = shape;
    let (xa, _) = truth(shape, z, a, b);
    let dxa: Vec<Approx> = rows(dy, outputs)
        .flat_map(|dy| (0..rank).map(move |r| exact(SCALE) * dot(dy.iter().zip(column(b, rank, r)))))
        .collect();
    let dz: Vec<Approx> = rows(&dxa, rank)
        .flat_map(|dxa| (0..inputs).map(move |i| dot(dxa.iter().zip(column(a, inputs, i)))))
        .collect();
    let da = (0..rank * inputs)
        .map(|i| dot(column(&dxa, rank, i / inputs).zip(column(z, inputs, i % inputs))))
        .collect();
    let db = (0..outputs * rank)
        .map(|i| exact(SCALE) * dot(column(dy, outputs, i / rank).zip(column(&xa, rank, i % rank))))
        .collect();
    [masked(&dz, mask), da, db]
}

fn plus(start: &[f32], added: &[Approx]) -> Vec<Approx> {
    // the start is one more term of the sum
    start.iter().zip(added).map(|(&start, &added)| sum([exact(start), added])).collect()
}

/// What the op makes of the inputs: xa, y, dx, dA, dB. The linear's own weight is zero; its bias is what y starts
/// from.
fn run(device: &Device, shape: Shape, inputs: &Inputs, dropout: Option<Dropout<'_>>) -> [Vec<f32>; 5] {
    let Shape { n, rank, .. } = shape;
    let (of_a, of_b) = (0..inputs.a.len(), inputs.a.len()..inputs.a.len() + inputs.b.len());
    let arena = |a: &[f32], b: &[f32]| device.upload(&[a, b].concat(), 1, a.len() + b.len());
    let params = arena(&inputs.a, &inputs.b);
    let factors = Factors { a: params.part(of_a.clone()), b: params.part(of_b.clone()), rank, scale: SCALE };
    let adapter = lora::Adapter { factors, dropout };
    let x = buffer(device, &inputs.x, shape.inputs);
    let mut y = device.buffer(n, shape.outputs);
    let mut xa = device.buffer(n, rank);
    lora::forward(device, &x, &[adapter], slice::from_mut(&mut xa));
    let zero = Weight::owned(vec![0.0; shape.inputs * shape.outputs], shape.outputs, shape.inputs);
    let bias = Weight::owned(inputs.y.clone(), 1, shape.outputs);
    let part = linear::Adapter { narrow: &xa, factor: factors.b, scale: SCALE };
    let linear = Linear { weight: &zero, bias: Some(&bias), adapter: Some(part) };
    linear::forward(device, &x, &[linear], slice::from_mut(&mut y));

    let dy = buffer(device, &inputs.dy, shape.outputs);
    let backward = |mut dx: Option<&mut Buffer>| {
        let mut gradients = arena(&inputs.da, &inputs.db);
        let backs = [lora::Back { dy: &dy, xa: &xa, adapter }];
        let dxas = lora::backward_b(device, &backs, gradients.parts_mut([of_b.clone()]));
        if let Some(dx) = dx.as_deref_mut() {
            let part = linear::Adapter { narrow: &dxas[0], factor: factors.a, scale: 1.0 };
            let adapter = dropout.is_none().then_some(part);
            linear::backward(device, &[linear::Back { dy: &dy, weight: &zero, adapter }], dx, Write::Add);
        }
        lora::backward_a(device, &x, &backs, &dxas, gradients.parts_mut([of_a.clone()]), dx);
        gradients.values().to_vec()
    };
    let mut dx = buffer(device, &inputs.dx, shape.inputs);
    let gradients = backward(Some(&mut dx));
    assert_eq!(gradients, backward(None), "{shape:?}: dA and dB do not depend on whether dx is wanted");
    let (da, db) = gradients.split_at(inputs.a.len());
    [xa.values(), y.values(), dx.values(), da, db].map(<[f32]>::to_vec)
}

#[test]
fn forward_and_backward_with_and_without_dropout() {
    let device = device();
    let philox = Philox::new(3, Purpose::Dropout);
    for (kind, shape) in KINDS.into_iter().flat_map(|kind| SHAPES.map(|shape| (kind, shape))) {
        let names: Vec<(u32, u32)> = (0..shape.n as u32).map(|i| (i / 7, i % 7)).collect();
        for rate in [0.0, 0.1, 0.5] {
            let dropout = Dropout { philox: &philox, rate, update: 5, module: 11, rows: &names };
            let dropout = (rate > 0.0).then_some(dropout);
            let mask = dropout
                .as_ref()
                .map_or(vec![1.0; shape.n * shape.inputs], |d| mask(&device, d, shape.inputs));
            let inputs = Inputs::new(shape, kind);
            let found = run(&device, shape, &inputs, dropout);

            let [x, a, b, dy] = [&inputs.x, &inputs.a, &inputs.b, &inputs.dy].map(|v| exact_all(v));
            let z = masked(&x, &mask);
            let (xa, y) = truth(shape, &z, &a, &b);
            let [dx, da, db] = truth_gradient(shape, &mask, &z, &a, &b, &dy);
            let truth = [
                ("xa", xa),
                ("y", plus(&inputs.y.repeat(shape.n), &y)),
                ("dx", plus(&inputs.dx, &dx)),
                ("dA", plus(&inputs.da, &da)),
                ("dB", plus(&inputs.db, &db)),
            ];
            for (found, (name, truth)) in found.iter().zip(&truth) {
                let what = format!("{name}, {kind:?}, {shape:?}, rate {rate}");
                assert_close(&what, found, truth);
                if kind == Kind::Normal && shape.n > 1 {
                    assert_sharp(&what, truth);
                }
            }
        }
    }
}

/// With the mask of the forward pass held fixed, as read off through an identity.
#[test]
fn the_gradient_is_the_slope() {
    let device = device();
    let philox = Philox::new(3, Purpose::Dropout);
    let shape = Shape { n: 5, inputs: 7, outputs: 3, rank: 2 };
    let names = [(0, 0), (0, 1), (1, 0), (4, 9), (4, 10)];
    let dropout = Dropout { philox: &philox, rate: 0.5, update: 0, module: 2, rows: &names };
    let mask = mask(&device, &dropout, shape.inputs);
    assert!(mask.contains(&0.0) && mask.contains(&2.0), "{mask:?}");
    let Inputs { x, a, b, dy, .. } = Inputs::new(shape, Kind::Normal);
    let [of_x, of_a, of_b, dy] = [&x, &a, &b, &dy].map(|v| exact_all(v));
    let loss = |x: &[Approx], a: &[Approx], b: &[Approx]| {
        dot(truth(shape, &masked(x, &mask), a, b).1.iter().zip(&dy))
    };
    let [dx, da, db] = truth_gradient(shape, &mask, &masked(&of_x, &mask), &of_a, &of_b, &dy);
    assert_gradient("dx", &dx, &differences(&x, |x| loss(x, &of_a, &of_b)));
    assert_gradient("dA", &da, &differences(&a, |a| loss(&of_x, a, &of_b)));
    assert_gradient("dB", &db, &differences(&b, |b| loss(&of_x, &of_a, b)));
}

/// The sum of R terms that merging adds to a weight.
#[test]
fn the_update_of_a_weight() {
    let device = device();
    for shape in SHAPES {
        let Shape { inputs: width, outputs, rank, .. } = shape;
        let inputs = Inputs::new(shape, Kind::Normal);
        let params = device.upload(&[&inputs.a[..], &inputs.b].concat(), 1, inputs.a.len() + inputs.b.len());
        let (a, b) = (params.part(0..inputs.a.len()), params.part(inputs.a.len()..params.cols()));
        let found = lora::update(&device, Factors { a, b, rank, scale: SCALE }, outputs, width);
        let (a, b) = (exact_all(&inputs.a), exact_all(&inputs.b));
        let truth: Vec<Approx> = rows(&b, rank)
            .flat_map(|b| {
                (0..width).map(|i| exact(SCALE) * dot(b.iter().zip(column(&a, width, i)))).collect::<Vec<_>>()
            })
            .collect();
        assert_close(&format!("s B A, {shape:?}"), found.values(), &truth);
    }
}
