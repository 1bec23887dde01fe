//! Random inputs: the same for the same seed, on every machine.

use half::bf16;
use preceptor::base::philox::{Philox, Purpose, Stream};

/// A stream of numbers of its own for each `seed`.
pub fn stream(seed: u64) -> Stream {
    Philox::new(seed, Purpose::Order).stream([0; 3])
}

/// `len` normal values, each a bf16, so that kernel and truth start from the same numbers.
pub fn normal(seed: u64, len: usize) -> Vec<f32> {
    scaled(seed, len, 1.0)
}

/// As [`normal`], with standard deviation `scale`.
pub fn scaled(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let mut stream = stream(seed);
    (0..len).map(|_| bf16::from_f32(one(&mut stream) * scale).to_f32()).collect()
}

/// `len` normal f32 values that are no bf16.
pub fn normal_f32(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = stream(seed);
    (0..len).map(|_| one(&mut stream)).collect()
}

/// One standard normal value, by Box and Muller.
fn one(stream: &mut Stream) -> f32 {
    let (u, v) = (1.0 - stream.next_f32(), stream.next_f32());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// The values as f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
