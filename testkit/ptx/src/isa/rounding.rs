//! Rounding in all modes, by way of round-to-odd.
//!
//! A value rounded to odd in a format with at least two bits more keeps which side of every boundary it lies
//! on, so rounding it again in any mode is the same as rounding once (Boldo & Melquiond 2008).

/// The modes of `.rn`, `.rz`, `.rm`, `.rp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
}

/// The modifiers of the modes, in their order.
pub const MODES: [&str; 4] = ["rn", "rz", "rm", "rp"];

impl Rounding {
    /// The mode of a modifier's place in [`MODES`].
    pub fn of(index: usize) -> Self {
        [Self::Nearest, Self::Zero, Self::Down, Self::Up][index]
    }

    /// The mode for magnitudes of numbers with a sign: whether it grows them.
    pub fn grows(self, negative: bool) -> bool {
        matches!((self, negative), (Self::Up, false) | (Self::Down, true))
    }

    /// Rounds an f64 to an f32.
    #[inline(always)]
    pub fn to_f32(self, value: f64) -> f32 {
        let nearest = value as f32;
        if self == Self::Nearest || f64::from(nearest) == value || value.is_nan() {
            return nearest;
        }
        // whether the nearest one is beyond the value, seen from zero
        let beyond = f64::from(nearest).abs() > value.abs();
        let (bits, grows) = (nearest.to_bits(), self.grows(value.is_sign_negative()));
        f32::from_bits(match (beyond, grows) {
            (true, false) => bits - 1,
            (false, true) => bits + 1,
            _ => bits,
        })
    }

    /// `a + b` rounded to odd, on the way to this mode: what cancels is -0 when rounding down.
    #[inline(always)]
    pub fn add_to_odd(self, a: f64, b: f64) -> f64 {
        let sum = add_to_odd(a, b);
        let cancels = sum == 0.0 && a.is_sign_negative() != b.is_sign_negative();
        if self == Self::Down && cancels { -0.0 } else { sum }
    }

    /// Rounds a magnitude (a sign is given apart) to a format of `precision` significant bits whose least
    /// normal exponent is `minimum`; no limit above.
    pub fn to_format(self, magnitude: f64, negative: bool, precision: i32, minimum: i32) -> f64 {
        if magnitude == 0.0 || !magnitude.is_finite() {
            return magnitude;
        }
        let exponent = ((magnitude.to_bits() >> 52) as i32 - 1023).max(minimum);
        let step = 2.0_f64.powi(exponent + 1 - precision);
        let steps = magnitude / step;
        step * match self {
            Self::Nearest => steps.round_ties_even(),
            _ if self.grows(negative) => steps.ceil(),
            _ => steps.floor(),
        }
    }
}

/// `a + b` rounded to odd.
#[inline(always)]
pub fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // TwoSum (Knuth): the error of the sum, exact
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let even = sum.to_bits() & 1 == 0;
    if error == 0.0 || !sum.is_finite() || !even || error.is_nan() {
        return sum;
    }
    let bits = sum.to_bits();
    f64::from_bits(if (error > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 })
}

/// An f64 as an f32, rounded to odd.
#[inline(always)]
pub fn narrow_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let exact = f64::from(nearest) == value || value.is_nan() || value.is_infinite();
    let beyond = f64::from(nearest).abs() > value.abs();
    let bits = nearest.to_bits();
    f32::from_bits(if exact { bits } else { (bits - u32::from(beyond)) | 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_side() {
        let third = 1.0 / 3.0_f64;
        let (low, high) = ((third as f32).next_down(), third as f32); // the nearest is above
        assert!(f64::from(low) < third && third < f64::from(high));
        for (mode, positive, negative) in [
            (Rounding::Nearest, high, -high),
            (Rounding::Zero, low, -low),
            (Rounding::Down, low, -high),
            (Rounding::Up, high, -low),
        ] {
            assert_eq!(mode.to_f32(third), positive, "{mode:?}");
            assert_eq!(mode.to_f32(-third), negative, "{mode:?}");
        }
        assert_eq!(Rounding::Zero.to_f32(1e300), f32::MAX);
        assert_eq!(Rounding::Up.to_f32(1e300), f32::INFINITY);
        assert_eq!(Rounding::Up.to_f32(1e-300), f32::from_bits(1));
        assert_eq!(Rounding::Down.to_f32(1.5), 1.5);
    }

    #[test]
    fn sums_to_odd_keep_their_side() {
        let tiny = 2.0_f64.powi(-100);
        assert!(add_to_odd(1.0, tiny) > 1.0 && add_to_odd(1.0, -tiny) < 1.0);
        assert!(add_to_odd(-1.0, tiny) > -1.0 && add_to_odd(-1.0, -tiny) < -1.0);
        assert_eq!(add_to_odd(1.0, 2.0), 3.0);
        assert_eq!(add_to_odd(f64::INFINITY, 1.0), f64::INFINITY);
        assert!(narrow_to_odd(1.0 + 2.0_f64.powi(-40)) > 1.0);
        assert_eq!(narrow_to_odd(1.0 - 2.0_f64.powi(-40)).to_bits() & 1, 1);
        assert_eq!(narrow_to_odd(-1.5), -1.5);
    }

    #[test]
    fn small_formats_have_subnormals() {
        // e4m3: 4 significant bits, least normal 2^-6
        assert_eq!(Rounding::Nearest.to_format(1.0625, false, 4, -6), 1.0);
        assert_eq!(Rounding::Up.to_format(1.0625, false, 4, -6), 1.125);
        assert_eq!(Rounding::Nearest.to_format(2.0_f64.powi(-10) * 1.5, false, 4, -6), 2.0_f64.powi(-9));
        assert_eq!(Rounding::Zero.to_format(2.0_f64.powi(-10), true, 4, -6), 0.0);
        assert_eq!(Rounding::Down.to_format(2.0_f64.powi(-10), true, 4, -6), 2.0_f64.powi(-9));
    }
}
