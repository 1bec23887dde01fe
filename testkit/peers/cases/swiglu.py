"""SwiGLU of Liger (a row a block) and unsloth (flat): width 14336, bf16, gradients in place."""
import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Truth

LIGER = ("liger_kernel/ops/swiglu.py", ["silu"])
UNSLOTH = "unsloth/kernels/swiglu.py"
F = 14336
ROWS = 2
ELEMENTS = ROWS * F


def gate(a):
    """Sigmoid and SiLU."""
    sigmoid = 1 / (1 + np.exp(-a))
    return sigmoid, a * sigmoid


def forward():
    """Buffers a, b, c and the truth of c; the gate is rounded to bf16 before it multiplies."""
    (a_bits, a), (b_bits, b) = normal(11, ROWS, F, scale=2), normal(12, ROWS, F)
    c = gate(a)[1] * b
    empty = Buffer("bf16", np.zeros_like(a_bits), empty=True)
    return (Buffer("bf16", a_bits), Buffer("bf16", b_bits), empty), Truth(c, abs(c), bf16=2)


def liger_forward(target):
    (a, b, c), truth = forward()
    file, names = LIGER
    return Case(
        name="liger-swiglu-forward",
        sources=[(file, [*names, "_swiglu_forward_kernel"])],
        arguments=dict(
            a_ptr=a, b_ptr=b, c_ptr=c, stride=F, gate_multiplier=1.0, n_cols=Constant(F),
            BLOCK_SIZE=Constant(16384),
        ),
        truth=dict(c_ptr=truth),
        grid=(ROWS, 1, 1), warps=16, elements=ELEMENTS, least_bytes=ELEMENTS * 6,
    )


def unsloth_forward(target):
    (a, b, c), truth = forward()
    return Case(
        name="unsloth-swiglu-forward",
        sources=[(UNSLOTH, ["_fg_kernel"])],
        arguments=dict(
            e=a, g=b, h=c, n_elements=ELEMENTS, BLOCK_SIZE=Constant(1024), LONG_INDEXING=Constant(0)
        ),
        truth=dict(h=truth),
        grid=(ELEMENTS // 1024, 1, 1), warps=4, elements=ELEMENTS, least_bytes=ELEMENTS * 6,
    )


def backward():
    """Buffers dc, a, b; the numbers c, da with its magnitude (1 + a (1 - sigmoid) is a sum), db."""
    (dc_bits, dc), (a_bits, a), (b_bits, b) = (normal(s, ROWS, F, scale=2) for s in (13, 14, 15))
    sigmoid, silu = gate(a)
    da = dc * b * sigmoid * (1 + a * (1 - sigmoid))
    da_magnitude = abs(dc * b) * sigmoid * (1 + abs(a) * (1 - sigmoid))
    buffers = tuple(Buffer("bf16", bits) for bits in (dc_bits, a_bits, b_bits))
    return buffers, silu * b, (da, da_magnitude), dc * silu


def liger_backward(target):
    (dc, a, b), _, (da, da_magnitude), db = backward()
    file, names = LIGER
    return Case(
        name="liger-swiglu-backward",
        sources=[(file, [*names, "_swiglu_backward_kernel"])],
        arguments=dict(
            dc_ptr=dc, a_ptr=a, b_ptr=b, stride=F, gate_multiplier=1.0, n_cols=Constant(F),
            BLOCK_SIZE=Constant(16384),
        ),
        truth=dict(a_ptr=Truth(da, da_magnitude, bf16=1), b_ptr=Truth(db, abs(db), bf16=1)),
        grid=(ROWS, 1, 1), warps=16, elements=ELEMENTS, least_bytes=ELEMENTS * 10,
    )


def unsloth_backward(target):
    (dw, e, g), h, (de, de_magnitude), df = backward()
    return Case(
        name="unsloth-swiglu-backward",
        sources=[(UNSLOTH, ["_DWf_DW_dfg_kernel"])],
        arguments=dict(
            DW=dw, e=e, g=g, n_elements=ELEMENTS, BLOCK_SIZE=Constant(1024), LONG_INDEXING=Constant(0)
        ),
        truth=dict(
            DW=Truth(h, abs(h), bf16=2), e=Truth(df, abs(df), bf16=2), g=Truth(de, de_magnitude, bf16=2)
        ),
        grid=(ELEMENTS // 1024, 1, 1), warps=4, elements=ELEMENTS, least_bytes=ELEMENTS * 12,
    )


CASES = [liger_forward, liger_backward, unsloth_forward, unsloth_backward]
