//! LoRA's dropout masks: how often they drop, what they depend on, and what not.

use std::collections::BTreeSet;

use preceptor::base::philox::{Philox, Purpose};
use preceptor::device::Device;
use preceptor::ops::lora::{self, Adapter, Dropout, Factors};

use crate::inputs::device;

/// The mask (0 or 1/(1 - p)), read off: with A the identity and x all ones, xa is the mask.
pub(crate) fn mask(device: &Device, dropout: &Dropout<'_>, inputs: usize) -> Vec<f32> {
    let rows = dropout.rows.len();
    let identity: Vec<f32> =
        (0..inputs * inputs).map(|i| if i % (inputs + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let params = device.upload(&identity, 1, inputs * inputs);
    let all = params.part(0..inputs * inputs);
    let factors = Factors { a: all, b: all, rank: inputs, scale: 1.0 };
    let ones = device.upload(&vec![1.0; rows * inputs], rows, inputs);
    let mut xa = device.buffer(rows, inputs);
    let adapter = Adapter { factors, dropout: Some(*dropout) };
    lora::forward(device, &ones, &[adapter], std::slice::from_mut(&mut xa));
    xa.values().to_vec()
}

/// Whether a count of n tries of probability p is within five standard deviations: a wrong alarm in a
/// million seeds.
fn plausible(count: usize, n: usize, p: f64) -> bool {
    let (count, n) = (count as f64, n as f64);
    (count - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt()
}

const INPUTS: usize = 257; // the last block of four features is not full

fn names(examples: u32, tokens: u32) -> Vec<(u32, u32)> {
    (0..examples).flat_map(|e| (0..tokens).map(move |t| (e, t))).collect()
}

#[test]
fn it_drops_at_its_rate_and_keeps_the_mean() {
    let (device, philox, rows) = (device(), Philox::new(1, Purpose::Dropout), names(8, 32));
    for rate in [0.05, 0.1, 0.5, 0.9] {
        let dropout = Dropout { philox: &philox, rate, update: 3, module: 6, rows: &rows };
        let mask = mask(&device, &dropout, INPUTS);
        let keep = 1.0 / (1.0 - rate);
        assert!(mask.iter().all(|&m| m == 0.0 || m == keep), "a kept input is scaled by {keep}");
        let dropped = mask.iter().filter(|&&m| m == 0.0).count();
        assert!(plausible(dropped, mask.len(), f64::from(rate)), "{dropped} of {} at {rate}", mask.len());
        for feature in 0..INPUTS {
            let dropped = mask.iter().skip(feature).step_by(INPUTS).filter(|&&m| m == 0.0).count();
            assert!(
                plausible(dropped, rows.len(), f64::from(rate)),
                "feature {feature}: {dropped} at {rate}"
            );
        }
    }
}

/// Feature f of a row is dropped by number f mod 4 of the block whose counter is (module, f div 4; token; example;
/// update), below rate * 2^32.
#[test]
fn its_numbers_are_philox_blocks() {
    let (device, philox, rows) = (device(), Philox::new(4, Purpose::Dropout), [(2, 5), (0, 0), (7, 300)]);
    for inputs in [1, 3, 31, 32, 33, INPUTS] {
        let dropout = Dropout { philox: &philox, rate: 0.25, update: 9, module: 11, rows: &rows };
        let mask = mask(&device, &dropout, inputs);
        for (&(example, token), mask) in rows.iter().zip(mask.chunks(inputs)) {
            for (feature, &found) in mask.iter().enumerate() {
                let counter = [(11 << 16) | (feature as u32 / 4), token, example, 9];
                let kept = philox.block(counter)[feature % 4] >= 1 << 30;
                assert_eq!(found, if kept { 1.0 / 0.75 } else { 0.0 }, "feature {feature} of {inputs}");
            }
        }
    }
}

/// Two masks agree as often as chance lets them, whichever part of a mask's name differs.
#[test]
fn every_part_of_its_name_makes_another_mask() {
    let (device, rows) = (device(), names(8, 16));
    let shifted = |by: (u32, u32)| rows.iter().map(|&(e, t)| (e + by.0, t + by.1)).collect::<Vec<_>>();
    let (philox, other) = (Philox::new(1, Purpose::Dropout), Philox::new(2, Purpose::Dropout));
    let base = Dropout { philox: &philox, rate: 0.5, update: 3, module: 6, rows: &rows };
    let (examples, tokens) = (shifted((8, 0)), shifted((0, 16)));
    let masks = [
        base,
        Dropout { philox: &other, ..base },
        Dropout { update: 4, ..base },
        Dropout { module: 7, ..base },
        Dropout { module: 6 + 256, ..base },
        Dropout { rows: &examples, ..base },
        Dropout { rows: &tokens, ..base },
    ]
    .map(|dropout| mask(&device, &dropout, INPUTS));
    for (i, x) in masks.iter().enumerate() {
        for y in &masks[..i] {
            let same = x.iter().zip(y).filter(|(x, y)| x == y).count();
            assert!(plausible(same, x.len(), 0.5), "{same} of {} agree", x.len());
        }
        let distinct: BTreeSet<Vec<u32>> =
            x.chunks(INPUTS).map(|row| row.iter().map(|m| m.to_bits()).collect()).collect();
        assert_eq!(distinct.len(), rows.len(), "no two tokens share a mask");
    }
}

/// Rows moved, interleaved with others, or taken alone keep their masks.
#[test]
fn packing_does_not_change_it() {
    let (device, philox, rows) = (device(), Philox::new(1, Purpose::Dropout), names(5, 13));
    let of = |rows: &[(u32, u32)]| {
        mask(&device, &Dropout { philox: &philox, rate: 0.3, update: 1, module: 2, rows }, INPUTS)
    };
    let whole = of(&rows);
    let row = |name: (u32, u32)| {
        let at = rows.iter().position(|&r| r == name).unwrap() * INPUTS;
        &whole[at..at + INPUTS]
    };
    let reversed: Vec<_> = rows.iter().rev().copied().collect();
    let third: Vec<_> = rows.iter().skip(2).step_by(3).copied().collect();
    let packings = [&reversed, &third, &rows[..13], &rows[13..], &rows[17..18]];
    for packing in packings {
        for (&name, found) in packing.iter().zip(of(packing).chunks(INPUTS)) {
            assert_eq!(found, row(name), "{name:?} of {} rows", packing.len());
        }
    }
}
