//! The order of the training data: every strategy as a function of (labels, seed, epoch).
