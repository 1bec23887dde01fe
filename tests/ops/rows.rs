//! One addition or none a value, so results are exact.

use preceptor::ops::rows;

use crate::inputs::{KINDS, Kind, ROW_SHAPES, buffer, device, values};

#[test]
fn add() {
    let device = device();
    for (kind, (n, cols)) in KINDS.into_iter().flat_map(|kind| ROW_SHAPES.map(|shape| (kind, shape))) {
        let (x, y) = (values(kind, 0, n * cols), values(Kind::Normal, 1, n * cols));
        let mut found = buffer(&device, &y, cols);
        rows::add(&device, &buffer(&device, &x, cols), &mut found);
        let expected: Vec<f32> =
            x.iter().zip(&y).map(|(&x, &y)| (f64::from(x) + f64::from(y)) as f32).collect();
        assert_eq!(found.values(), expected, "{kind:?}, {n} x {cols}");
    }
}

#[test]
fn gather_and_scatter() {
    let device = device();
    for (n, cols) in ROW_SHAPES {
        let x = values(Kind::Normal, 0, n * cols);
        for every in [1, 2, 5] {
            let picked: Vec<u32> = (0..n as u32).filter(|i| i % every == every / 2).collect();
            let mut gathered = device.buffer(picked.len(), cols);
            rows::gather(&device, &buffer(&device, &x, cols), &picked, &mut gathered);
            let mut scattered = buffer(&device, &x, cols);
            rows::scatter_add(&device, &gathered, &picked, &mut scattered);
            for (i, &value) in x.iter().enumerate() {
                let row = picked.iter().position(|&r| r as usize == i / cols);
                if let Some(row) = row {
                    assert_eq!(gathered.row(row)[i % cols], value);
                }
                let times = if row.is_some() { 2.0 } else { 1.0 };
                assert_eq!(scattered.values()[i], times * value, "{n} x {cols}, every {every}");
            }
        }
    }
}
