//! How close two results must be, and how close they are.

use preceptor::device::cuda::signature::Type;

/// What the end of an entry's name asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Closeness {
    /// The same bits, those of NaN too.
    Exact,
    /// Units in the last place of f32; any NaN equals any NaN.
    Ulps(u32),
    /// An absolute distance; any NaN equals any NaN.
    Within(f64),
}

impl Closeness {
    /// `_ulp4` is 4 units, `_abs20` is 2^-20, anything else is exact.
    pub(super) fn of(entry: &str) -> Self {
        let tail = entry.rsplit('_').next().unwrap_or_default();
        let number = |prefix: &str| tail.strip_prefix(prefix)?.parse::<u32>().ok();
        match (number("ulp"), number("abs")) {
            (Some(units), _) => Self::Ulps(units),
            (_, Some(bits)) => Self::Within(0.5f64.powi(bits as i32)),
            _ => Self::Exact,
        }
    }

    /// Values of `found` that are further from `expected` than allowed, and the largest distance as a part of
    /// what is allowed (of exact results: the number of different ones).
    pub(super) fn compare(self, ty: Type, found: &[u8], expected: &[u8]) -> (usize, f64) {
        let width = if matches!(ty, Type::F64 | Type::I64 | Type::U64) { 8 } else { 4 };
        let (mut wrong, mut worst) = (0, 0.0f64);
        for (found, expected) in found.chunks_exact(width).zip(expected.chunks_exact(width)) {
            let part = self.distance(ty, found, expected);
            wrong += usize::from(part > 1.0);
            worst = worst.max(part);
        }
        (wrong, worst)
    }

    /// The distance of two values as a part of what is allowed.
    fn distance(self, ty: Type, found: &[u8], expected: &[u8]) -> f64 {
        let float = |bytes: &[u8]| match ty {
            Type::F32 => Some(f64::from(f32::from_le_bytes(bytes.try_into().expect("4 bytes")))),
            Type::F64 => Some(f64::from_le_bytes(bytes.try_into().expect("8 bytes"))),
            _ => None,
        };
        if found == expected {
            return 0.0;
        }
        match (self, float(found), float(expected)) {
            (Self::Ulps(_) | Self::Within(_), Some(a), Some(b)) if a.is_nan() && b.is_nan() => 0.0,
            (Self::Within(limit), Some(a), Some(b)) if a.is_finite() && b.is_finite() => {
                (a - b).abs() / limit
            }
            (Self::Ulps(units), Some(a), Some(b)) if a.is_finite() && b.is_finite() => {
                let place = |x: f64| {
                    let bits = (x as f32).to_bits().cast_signed();
                    i64::from(if bits < 0 { i32::MIN - bits } else { bits })
                };
                (place(a) - place(b)).unsigned_abs() as f64 / f64::from(units)
            }
            _ => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(name: &str, found: f32, expected: f32) -> (usize, f64) {
        Closeness::of(name).compare(Type::F32, &found.to_le_bytes(), &expected.to_le_bytes())
    }

    #[test]
    fn names_say_how_close() {
        assert_eq!(Closeness::of("ex2_approx_f32_ulp4"), Closeness::Ulps(4));
        assert_eq!(Closeness::of("lg2_approx_f32_abs2"), Closeness::Within(0.25));
        assert_eq!(Closeness::of("add_f32"), Closeness::Exact);
    }

    #[test]
    fn distances() {
        let next = f32::from_bits(1.0f32.to_bits() + 3);
        assert_eq!(compare("x_ulp3", next, 1.0), (0, 1.0));
        assert_eq!(compare("x_ulp2", next, 1.0), (1, 1.5));
        assert_eq!(compare("x_ulp2", f32::from_bits(1), -f32::from_bits(1)), (0, 1.0), "across zero");
        assert_eq!(compare("x_abs1", 1.0, 2.0), (1, 2.0));
        assert_eq!(compare("x_ulp1", f32::NAN, -f32::NAN), (0, 0.0));
        assert_eq!(compare("x", f32::NAN, -f32::NAN), (1, f64::INFINITY));
        assert_eq!(compare("x", 0.0, -0.0), (1, f64::INFINITY));
        assert_eq!(compare("x_ulp9", f32::INFINITY, f32::MAX), (1, f64::INFINITY));
    }
}
