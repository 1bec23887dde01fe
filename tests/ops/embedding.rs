//! One product a value, so the result is exactly the f64 product, rounded once. The gradient of a row is a sum of as
//! many products as the row's token occurs, and one.

use preceptor::ops::embedding;
use preceptor::tensor::DType;

use crate::approx::{assert_close, exact, sum};
use crate::inputs::{KINDS, Kind, buffer, device, stored_weight, values};

#[test]
fn rows_of_every_stored_type_are_exact() {
    let device = device();
    for (vocabulary, width, tokens) in
        [(1, 1, 1), (101, 13, 31), (1009, 576, 27), (1009, 576, 28), (1009, 576, 29)]
    {
        for kind in KINDS {
            for (dtype, shift) in [(DType::F32, 0), (DType::BF16, 0), (DType::F16, 0), (DType::BF16, 1)] {
                let (table, stored) =
                    stored_weight(&values(kind, 0, vocabulary * width), width, dtype, shift);
                let ids: Vec<u32> = (0..tokens).map(|i| (i * 577 % vocabulary) as u32).collect();
                for scale in [1.0, 24.0_f32.sqrt()] {
                    let mut y = device.buffer(tokens, width);
                    embedding::forward(&device, &table, &ids, scale, &mut y);
                    let expected: Vec<f32> = ids
                        .iter()
                        .flat_map(|&id| &stored[id as usize * width..(id as usize + 1) * width])
                        .map(|&v| (f64::from(scale) * f64::from(v)) as f32)
                        .collect();
                    assert_eq!(y.values(), expected, "{vocabulary} x {width}, {dtype}, {kind:?}");
                }
            }
        }
    }
}

#[test]
fn a_rows_gradient_is_the_sum_over_its_tokens() {
    let device = device();
    let (vocabulary, width) = (11, 13);
    for (kind, scale) in KINDS.into_iter().flat_map(|kind| [1.0_f32, 24.0_f32.sqrt()].map(|s| (kind, s))) {
        let ids: Vec<u32> = (0..200).map(|i| i * i % 7).collect();
        let (dy, d_table) = (values(kind, 0, ids.len() * width), values(kind, 1, vocabulary * width));
        let mut gradient = buffer(&device, &d_table, width);
        embedding::backward(&device, &buffer(&device, &dy, width), &ids, scale, gradient.whole_mut());
        let truth = |i: usize| {
            let (row, column) = (i / width, i % width);
            let of_row = ids.iter().enumerate().filter(|(_, id)| **id as usize == row);
            let terms = of_row.map(|(n, _)| exact(scale) * exact(dy[n * width + column]));
            sum(terms.chain([exact(d_table[i])]))
        };
        let truth: Vec<_> = (0..d_table.len()).map(truth).collect();
        assert_close(&format!("{kind:?}, {scale}"), gradient.values(), &truth);
        assert_eq!(gradient.values()[7 * width..], d_table[7 * width..], "rows of no token stay");
    }
}

#[test]
#[should_panic(expected = "range")]
fn a_token_beyond_the_table_is_refused() {
    let device = device();
    let (table, _) = stored_weight(&values(Kind::Normal, 0, 6), 2, DType::F32, 0);
    embedding::forward(&device, &table, &[3], 1.0, &mut device.buffer(1, 2));
}
