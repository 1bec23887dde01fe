//! Decoder families as one specification: weights, forward and backward.
