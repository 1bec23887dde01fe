//! Inverse frequencies of rotary positions, with the scalings that checkpoints ask for.
//!
//! ```text
//! f_i = theta^(-2i/E)                                   default
//! f_i / factor                                          linear
//! llama3: by wavelength w = 2 pi / f_i, with L the original context:
//!   w < L/high: f_i      w > L/low: f_i / factor      between: (1 - t) f_i / factor + t f_i,
//!   t = (L/w - low) / (high - low)
//! ```
//!
//! Sources: Su et al. 2021; Chen et al. 2023 (linear); Llama 3.1's published configuration (llama3).

use std::f32::consts::PI;

/// How frequencies are scaled beyond the context they were trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scaling {
    /// Not at all.
    None,
    /// All by the same factor.
    Linear {
        /// How many times longer the context is.
        factor: f32,
    },
    /// Long wavelengths by the factor, short ones not.
    Llama3 {
        /// How many times longer the context is.
        factor: f32,
        /// Wavelengths above context/low are scaled.
        low: f32,
        /// Wavelengths below context/high are not.
        high: f32,
        /// The context it was first trained with.
        original_context: f32,
    },
}

/// Radians per position of each of the `head_dim / 2` pairs.
pub(super) fn inverse_frequencies(theta: f32, head_dim: usize, scaling: Scaling) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / head_dim as f32));
    plain.map(|f| scaled(f, scaling)).collect()
}

fn scaled(f: f32, scaling: Scaling) -> f32 {
    match scaling {
        Scaling::None => f,
        Scaling::Linear { factor } => f / factor,
        Scaling::Llama3 { factor, low, high, original_context } => {
            let wavelength = 2.0 * PI / f;
            if wavelength < original_context / high {
                f
            } else if wavelength > original_context / low {
                f / factor
            } else {
                let t = (original_context / wavelength - low) / (high - low);
                (1.0 - t) * f / factor + t * f
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_leaves_short_waves_and_stretches_long_ones() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };
        let (plain, scaled) = (
            inverse_frequencies(500_000.0, 128, Scaling::None),
            inverse_frequencies(500_000.0, 128, scaling),
        );
        assert_eq!(plain[0], 1.0);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| s <= p && *s >= p / 8.0));
    }
}
