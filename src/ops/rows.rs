//! Moving and adding rows.
//!
//! ```text
//! add:         y += x               gather:    y[i] = x[rows[i]]
//! scatter_add: y[rows[i]] += x[i]   scatter:   y[rows[i]] = x[i]
//! ```
//!
//! `rows` is ascending and names each row once, so no two additions meet.

use crate::device::{Buffer, Cost, Device};

/// y += x
pub fn add(device: &Device, x: &Buffer, y: &mut Buffer) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()), "add: shapes");
    let _span = device.span("rows.add", || Cost::moves(3 * x.values().len()));
    let Device::Cpu(cpu) = device;
    let (cols, x) = (y.cols(), x.values());
    cpu.for_rows(y.values_mut(), cols, |n, row| {
        for (y, x) in row.iter_mut().zip(&x[n * cols..(n + 1) * cols]) {
            *y += x;
        }
    });
}

/// `y[i] = x[rows[i]]`
pub fn gather(device: &Device, x: &Buffer, rows: &[u32], y: &mut Buffer) {
    assert_eq!((y.rows(), y.cols()), (rows.len(), x.cols()), "gather: shapes");
    let _span = device.span("rows.gather", || Cost::moves(2 * y.values().len()));
    let Device::Cpu(cpu) = device;
    let cols = y.cols();
    cpu.for_rows(y.values_mut(), cols, |i, row| row.copy_from_slice(x.row(rows[i] as usize)));
}

/// `y[rows[i]] = x[i]`
pub fn scatter(device: &Device, x: &Buffer, rows: &[u32], y: &mut Buffer) {
    assert_eq!((x.rows(), x.cols()), (rows.len(), y.cols()), "scatter: shapes");
    let _span = device.span("rows.scatter", || Cost::moves(2 * x.values().len()));
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let cols = y.cols();
    for (i, &row) in rows.iter().enumerate() {
        let at = row as usize * cols;
        y.values_mut()[at..at + cols].copy_from_slice(x.row(i));
    }
}

/// `y[rows[i]] += x[i]`
pub fn scatter_add(device: &Device, x: &Buffer, rows: &[u32], y: &mut Buffer) {
    assert_eq!((x.rows(), x.cols()), (rows.len(), y.cols()), "scatter: shapes");
    let _span = device.span("rows.scatter_add", || Cost::moves(3 * x.values().len()));
    let Device::Cpu(cpu) = device;
    if !cpu.computes() {
        return;
    }
    let cols = y.cols();
    for (i, &row) in rows.iter().enumerate() {
        let at = row as usize * cols;
        for (y, x) in y.values_mut()[at..at + cols].iter_mut().zip(x.row(i)) {
            *y += x;
        }
    }
}
