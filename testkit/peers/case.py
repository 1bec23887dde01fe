"""One launch of a library's kernel: what it is given and must answer, what its figures are counted in."""
import dataclasses

import numpy as np


@dataclasses.dataclass
class Buffer:
    """A tensor in global memory. `kind` is Triton's name of the element type; bf16 is held as its 16 bits."""

    kind: str
    data: np.ndarray
    empty: bool = False  # nothing is there until the kernel writes it, so that reading it is a finding


@dataclasses.dataclass
class Constant:
    """An argument that the compiler folds in (`tl.constexpr`)."""

    value: object


@dataclasses.dataclass
class Integer:
    """An integer that the library asks Triton not to specialise on (`do_not_specialize`)."""

    value: int


@dataclasses.dataclass
class Descriptor:
    """A tensor map of a contiguous two-dimensional buffer, moved a box at a time."""

    buffer: Buffer
    box: tuple


@dataclasses.dataclass
class Truth:
    """What a buffer must hold, from f64 arithmetic, and how exactly.

    An element may be off, relative to its `magnitude` (the sum of the absolute terms that make it), by `bf16`
    roundings to bf16 on its way, the last one included, and by a sum of `terms` terms in f32.
    """

    value: np.ndarray
    magnitude: np.ndarray
    bf16: int = 0
    terms: int = 1

    def allowed(self):
        return self.magnitude * (self.bf16 * 2.0**-8 + 8 * 2.0**-23 * self.terms**0.5) + 1e-30


@dataclasses.dataclass
class Case:
    """A launch; `name` is also its row in figures.toml."""

    name: str
    sources: list  # (file, names to take from it); the kernel is the last name
    arguments: dict
    truth: dict  # argument name -> Truth
    grid: tuple
    warps: int
    least_bytes: int  # each tensor once
    elements: int = 0  # what instructions are counted by; 0: by mma of 16 x 8 x 16
    stages: int = 3

    @property
    def function(self):
        return self.sources[-1][1][-1]
