//! The axes of a chart: where values stand, which ticks they get and how those read.

use std::ops::RangeInclusive;

/// Most pieces that ticks cut a range of values into.
const PIECES: f64 = 5.0;
/// The part of a tick within which a value counts as on the tick.
const ROUNDING: f64 = 1e-6;

/// From values to SVG units.
pub(super) struct Axis {
    low: f64,
    high: f64,
    tick: f64,
    units: RangeInclusive<f64>,
}

impl Axis {
    /// An axis that ends where the values end.
    pub(super) fn tight(values: impl Iterator<Item = f64>, units: RangeInclusive<f64>) -> Option<Self> {
        let (low, high) = extent(values)?;
        Some(Self { low, high, tick: tick(high - low), units })
    }

    /// An axis that ends at ticks.
    pub(super) fn rounded(values: impl Iterator<Item = f64>, units: RangeInclusive<f64>) -> Option<Self> {
        let (low, high) = extent(values)?;
        let tick = tick(high - low);
        let [low, high] = [(low / tick + ROUNDING).floor() * tick, (high / tick - ROUNDING).ceil() * tick];
        Some(Self { low, high, tick, units })
    }

    /// Where `value` stands, to a tenth of a unit: finer is invisible and makes the file longer.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (start, end) = (self.units.start(), self.units.end());
        let units = start + (value - self.low) / (self.high - self.low) * (end - start);
        (units * 10.0).round() / 10.0
    }

    /// Each tick's place and label.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let first = (self.low / self.tick - ROUNDING).ceil();
        let last = (self.high / self.tick + ROUNDING).floor();
        (0..=(last - first).max(0.0) as u32).map(move |i| {
            let value = (first + f64::from(i)) * self.tick;
            (self.place(value), label(value, self.tick))
        })
    }
}

/// The lowest and the highest value, apart from each other; None without a value.
fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    // a range below the reach of f64 around its values has no ticks that differ
    let least = low.abs().max(high.abs()) * 1e-9;
    match high - low {
        range if !range.is_finite() => None,
        range if range > least => Some((low, high)),
        _ if low == 0.0 => Some((0.0, 1.0)),
        _ => Some((low - low.abs() * 0.1, high + high.abs() * 0.1)),
    }
}

/// The least of 1, 2, 5 times a power of ten that cuts `range` into at most `PIECES` pieces.
fn tick(range: f64) -> f64 {
    let raw = range / PIECES;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0].map(|m| m * power).into_iter().find(|&t| t >= raw * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A tick's value with as many digits as the distance of the ticks asks for.
fn label(value: f64, tick: f64) -> String {
    if value.abs() < tick / 2.0 {
        return "0".into();
    }
    let places = |tick: f64| (-tick.log10().floor()).max(0.0) as usize;
    match value.abs() {
        v if v >= 1e15 || tick < 1e-4 => format!("{value:.1e}"),
        v if v >= 1e6 => format!("{:.*}M", places(tick / 1e6), value / 1e6),
        v if v >= 1e4 => format!("{:.*}k", places(tick / 1e3), value / 1e3),
        _ => format!("{value:.*}", places(tick)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: [f64; 2]) -> Vec<String> {
        let axis = Axis::rounded(values.into_iter(), 0.0..=100.0).unwrap();
        axis.ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels([0.0, 1.0]), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels([0.93, 2.71]), ["0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(labels([-3.0, 12.0]), ["-5", "0", "5", "10", "15"]);
        assert_eq!(labels([0.0, 5e-4]), ["0", "0.0001", "0.0002", "0.0003", "0.0004", "0.0005"]);
        assert_eq!(labels([0.0, 3e-5]), ["0", "1.0e-5", "2.0e-5", "3.0e-5"]);
        assert_eq!(
            labels([9_900.0, 12_100.0]),
            ["9500", "10.0k", "10.5k", "11.0k", "11.5k", "12.0k", "12.5k"]
        );
        assert_eq!(labels([0.0, 4e6]), ["0", "1M", "2M", "3M", "4M"]);
    }

    #[test]
    fn values_span_the_units_and_equal_values_still_have_a_range() {
        let axis = Axis::tight([10.0, 20.0].into_iter(), 50.0..=0.0).unwrap();
        assert_eq!([10.0, 15.0, 20.0].map(|v| axis.place(v)), [50.0, 25.0, 0.0]);
        for value in [0.0, 7.0, -7.0, 1e300, 1e-300] {
            let axis = Axis::rounded([value].into_iter(), 0.0..=100.0).unwrap();
            assert!((0.0..=100.0).contains(&axis.place(value)), "{value}");
            assert!((2..12).contains(&axis.ticks().count()), "{value}");
        }
        assert!(Axis::tight(std::iter::empty(), 0.0..=1.0).is_none());
    }
}
