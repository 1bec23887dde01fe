"""Numbers as kernels see them, and random ones from a written seed."""
import numpy as np


def to_bf16(x):
    """The nearest bf16, ties to even, as 16 bits."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_f64(data, kind):
    """The numbers in f64."""
    if kind == "bf16":
        return (data.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return data.astype(np.float64)


def round_bf16(x):
    """f64 numbers rounded to bf16, in f64."""
    return to_f64(to_bf16(x), "bf16")


def normal(seed, *shape, scale=1.0):
    """Normal numbers that bf16 holds exactly: their bits, and the numbers in f64."""
    bits = to_bf16(np.random.default_rng(seed).standard_normal(shape) * scale)
    return bits, to_f64(bits, "bf16")
