//! Forward: sums of k = in (+ 1 with a bias) terms. Backward: of k = out + 1 terms, and of k = N + 1 for weights.

use std::slice;

use preceptor::device::Weight;
use preceptor::ops::linear::{self, Adapter, Back, Linear, Write};
use preceptor::tensor::DType;

use crate::approx::{Approx, assert_close, assert_gradient, differences, dot, exact, exact_all, sum};
use crate::inputs::{KINDS, Kind, buffer, device, stored_weight, values};

/// Tokens, inputs, outputs: one; around the GEMM's and attention's tiles; primes; SmolLM2's feed-forward block.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (63, 64, 65),
    (64, 65, 63),
    (65, 63, 64),
    (17, 101, 13),
    (1, 257, 31),
    (3, 64, 65),
    (16, 40, 9),
    (31, 1, 1),
    (33, 576, 1536),
];

fn truth(x: &[Approx], w: &[f32], bias: Option<&[f32]>, inputs: usize) -> Vec<Approx> {
    let w = exact_all(w);
    let row = |x: &[Approx]| {
        let outputs = w.chunks(inputs).enumerate();
        let y = outputs.map(|(o, w)| {
            let bias = bias.map(|b| (exact(b[o]), exact(1.0)));
            let terms = x.iter().zip(w).map(|(&x, &w)| (x, w)).chain(bias);
            dot(terms.collect::<Vec<_>>().iter().map(|(x, w)| (x, w)))
        });
        y.collect::<Vec<_>>()
    };
    x.chunks(inputs).flat_map(row).collect()
}

fn truth_gradient(dy: &[f32], w: &[f32], dx: &[f32], inputs: usize) -> Vec<Approx> {
    let outputs = w.len() / inputs;
    let (dy, w, dx) = (exact_all(dy), exact_all(w), exact_all(dx));
    let one = exact(1.0);
    let value = |i: usize| {
        let (row, input) = (i / inputs, i % inputs);
        let dy = &dy[row * outputs..(row + 1) * outputs];
        let column = w[input..].iter().step_by(inputs);
        dot(dy.iter().zip(column).chain([(&dx[i], &one)]))
    };
    (0..dx.len()).map(value).collect()
}

/// `dw + dy^T x`
fn truth_weight_gradient(dy: &[f32], x: &[f32], dw: &[f32], inputs: usize) -> Vec<Approx> {
    let outputs = dw.len() / inputs;
    let (dy, x, dw) = (exact_all(dy), exact_all(x), exact_all(dw));
    let one = exact(1.0);
    let value = |i: usize| {
        let (output, input) = (i / inputs, i % inputs);
        let (dy, x) = (dy[output..].iter().step_by(outputs), x[input..].iter().step_by(inputs));
        dot(dy.zip(x).chain([(&dw[i], &one)]))
    };
    (0..dw.len()).map(value).collect()
}

#[test]
fn forward_and_backward() {
    let device = device();
    for (kind, (n, inputs, outputs)) in KINDS.into_iter().flat_map(|kind| SHAPES.map(|shape| (kind, shape))) {
        for (dtype, with_bias) in [(DType::F32, true), (DType::BF16, false)] {
            let what = format!("{kind:?}, {n} x {inputs} -> {outputs}, {dtype}");
            let (w, stored) = stored_weight(&values(Kind::Normal, 0, inputs * outputs), inputs, dtype, 0);
            let bias = with_bias.then(|| values(kind, 1, outputs));
            let x = values(kind, 2, n * inputs);
            let mut y = device.buffer(n, outputs);
            let bias_weight = bias.clone().map(|b| Weight::owned(b, 1, outputs));
            let linear = Linear { weight: &w, bias: bias_weight.as_ref(), adapter: None };
            linear::forward(&device, &buffer(&device, &x, inputs), &[linear], slice::from_mut(&mut y));
            assert_close(&what, y.values(), &truth(&exact_all(&x), &stored, bias.as_deref(), inputs));

            let (dy, dx) = (values(kind, 3, n * outputs), values(kind, 4, n * inputs));
            let mut gradient = buffer(&device, &dx, inputs);
            let on_device = buffer(&device, &dy, outputs);
            let back = Back { dy: &on_device, weight: &w, adapter: None };
            linear::backward(&device, &[back], &mut gradient, Write::Add);
            assert_close(&what, gradient.values(), &truth_gradient(&dy, &stored, &dx, inputs));

            let dw = values(kind, 5, inputs * outputs);
            let mut gradient = buffer(&device, &dw, inputs);
            let x_on_device = buffer(&device, &x, inputs);
            linear::weight_gradient(&device, &on_device, &x_on_device, gradient.whole_mut());
            assert_close(&what, gradient.values(), &truth_weight_gradient(&dy, &x, &dw, inputs));
        }
    }
}

/// Two linears that read the same x, each with its adapter's part: their outputs, and the sum of their gradients.
/// Stored as bf16, weights are taken one at a time.
#[test]
fn linears_of_one_input_with_adapters() {
    const SCALE: f32 = 0.7;
    let device = device();
    for (kind, (n, inputs, outputs)) in KINDS.into_iter().flat_map(|kind| SHAPES.map(|shape| (kind, shape))) {
        for dtype in [DType::F32, DType::BF16] {
            let what = format!("{kind:?}, {n} x {inputs} -> {outputs}, {dtype}");
            let x = values(kind, 0, n * inputs);
            let of_linear = |i: usize| {
                let (outputs, rank) = ([outputs, 2 * outputs][i], [3, 16][i]);
                let at = 10 * (i as u32 + 1);
                let (w, stored) =
                    stored_weight(&values(Kind::Normal, at, inputs * outputs), inputs, dtype, 0);
                let narrow = values(kind, at + 1, n * rank);
                let factor = values(Kind::Normal, at + 2, outputs.max(inputs) * rank);
                (outputs, rank, w, stored, narrow, factor, values(kind, at + 3, n * outputs))
            };
            let both = [0, 1].map(of_linear);
            let narrows = both.each_ref().map(|(_, rank, _, _, narrow, ..)| buffer(&device, narrow, *rank));
            let upload = |values: &[f32]| device.upload(values, 1, values.len());
            let factors = both.each_ref().map(|(.., factor, _)| upload(factor));
            let dys = both.each_ref().map(|(outputs, .., dy)| buffer(&device, dy, *outputs));
            let part = |i: usize, width: usize, scale| {
                let factor = factors[i].part(0..width * both[i].1);
                Some(Adapter { narrow: &narrows[i], factor, scale })
            };

            let mut ys = both.each_ref().map(|(outputs, ..)| device.buffer(n, *outputs));
            let linears =
                [0, 1].map(|i| Linear { weight: &both[i].2, bias: None, adapter: part(i, both[i].0, SCALE) });
            linear::forward(&device, &buffer(&device, &x, inputs), &linears, &mut ys);
            for ((outputs, rank, _, stored, narrow, factor, _), y) in both.iter().zip(&ys) {
                let of_adapter = truth(&exact_all(narrow), &factor[..outputs * rank], None, *rank);
                let of_weight = truth(&exact_all(&x), stored, None, inputs);
                let expected: Vec<Approx> =
                    of_weight.iter().zip(&of_adapter).map(|(&w, &a)| sum([w, exact(SCALE) * a])).collect();
                assert_close(&what, y.values(), &expected);
            }

            let mut dx = device.buffer(n, inputs);
            let backs =
                [0, 1].map(|i| Back { dy: &dys[i], weight: &both[i].2, adapter: part(i, inputs, 1.0) });
            linear::backward(&device, &backs, &mut dx, Write::Set);
            let nothing = vec![0.0; n * inputs];
            let terms: Vec<Vec<Approx>> = both
                .iter()
                .flat_map(|(_, rank, _, stored, narrow, factor, dy)| {
                    let of_weight = truth_gradient(dy, stored, &nothing, inputs);
                    [of_weight, truth_gradient(narrow, &factor[..inputs * rank], &nothing, inputs)]
                })
                .collect();
            let expected: Vec<Approx> =
                (0..n * inputs).map(|i| sum(terms.iter().map(|term| term[i]))).collect();
            assert_close(&what, dx.values(), &expected);
        }
    }
}

/// Around the blocks of 128 rows.
#[test]
fn gradients_of_biases() {
    let device = device();
    for (kind, n) in KINDS.into_iter().flat_map(|kind| [1, 127, 128, 129, 500].map(|n| (kind, n))) {
        for outputs in [1, 13, 576] {
            let (dy, db) = (values(kind, 0, n * outputs), values(kind, 1, outputs));
            let mut gradient = buffer(&device, &db, outputs);
            linear::bias_gradient(&device, &buffer(&device, &dy, outputs), gradient.whole_mut());
            let ones = vec![1.0; n];
            let truth = truth_weight_gradient(&dy, &ones, &db, 1);
            assert_close(&format!("{kind:?}, {n} x {outputs}"), gradient.values(), &truth);
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let (n, inputs, outputs) = (3, 5, 7);
    let (x, w) = (values(Kind::Normal, 0, n * inputs), values(Kind::Normal, 1, inputs * outputs));
    let dy = values(Kind::Normal, 2, n * outputs);
    let slope =
        differences(&x, |x| sum(truth(x, &w, None, inputs).iter().zip(&dy).map(|(&y, &dy)| y * exact(dy))));
    assert_gradient("dx", &truth_gradient(&dy, &w, &vec![0.0; x.len()], inputs), &slope);

    // the product with x seen as the weight and W as the input is the transpose
    let transposed: Vec<f32> = (0..dy.len()).map(|i| dy[i % n * outputs + i / n]).collect();
    let slope = differences(&w, |w| {
        let y = truth(w, &x, None, inputs);
        sum(y.iter().zip(&transposed).map(|(&y, &dy)| y * exact(dy)))
    });
    assert_gradient("dW", &truth_weight_gradient(&dy, &x, &vec![0.0; w.len()], inputs), &slope);
}
