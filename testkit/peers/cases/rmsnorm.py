"""RMSNorm of Liger and unsloth: hidden 4096, bf16, 8 warps.

Both round the normalised row to bf16 before they multiply it by the weight, as Llama's model code does.
"""
import numpy as np
import triton.language as tl

from arrays import normal
from case import Buffer, Case, Constant, Integer, Truth

LIGER = "liger_kernel/ops/rms_norm.py"
LIGER_MODES = ["_CASTING_MODE_NONE", "_CASTING_MODE_LLAMA", "_CASTING_MODE_GEMMA"]
LLAMA = Constant(0)
UNSLOTH = "unsloth/kernels/rms_layernorm.py"
D = 4096
EPS = 1e-6


def reciprocal_rms(x):
    return 1 / np.sqrt((x * x).mean(1, keepdims=True) + EPS)


def forward(rows):
    """Buffers x, w, y, r of a forward pass, and the truth of y and r."""
    (x_bits, x), (w_bits, w) = normal(1, rows, D), normal(2, D)
    rrms = reciprocal_rms(x)
    buffers = (
        Buffer("bf16", x_bits),
        Buffer("bf16", w_bits),
        Buffer("bf16", np.zeros_like(x_bits), empty=True),
        Buffer("fp32", np.zeros(rows, np.float32), empty=True),
    )
    y = Truth(x * rrms * w, abs(x * rrms * w), bf16=2, terms=D)
    return buffers, y, Truth(rrms[:, 0], rrms[:, 0], terms=D)


def liger_forward(target):
    rows = 4
    (x, w, y, r), y_truth, r_truth = forward(rows)
    return Case(
        name="liger-rmsnorm-forward",
        sources=[(LIGER, [*LIGER_MODES, "_rms_norm_forward_kernel"])],
        arguments=dict(
            Y_ptr=y, Y_row_stride=D, X_ptr=x, X_row_stride=D, W_ptr=w, W_row_stride=1, RSTD_ptr=r,
            RSTD_row_stride=1, n_cols=D, eps=EPS, offset=0.0, casting_mode=LLAMA,
            elementwise_affine=Constant(True), BLOCK_SIZE=Constant(D),
        ),
        truth=dict(Y_ptr=y_truth, RSTD_ptr=r_truth),
        grid=(rows, 1, 1), warps=8, elements=rows * D, least_bytes=rows * D * 4,
    )


def unsloth_forward(target):
    rows = 4
    (x, w, y, r), y_truth, r_truth = forward(rows)
    return Case(
        name="unsloth-rmsnorm-forward",
        sources=[(UNSLOTH, ["_rms_layernorm_forward"])],
        arguments=dict(
            Y=y, X=x, W=w, r=r, Y_row_stride=Constant(D), X_row_stride=Constant(D),
            W_row_stride=Constant(1), r_row_stride=Constant(1), n_cols=Constant(D), eps=Constant(EPS),
            LONG_INDEXING=Constant(False), BLOCK_SIZE=Constant(D),
        ),
        truth=dict(Y=y_truth, r=r_truth),
        grid=(rows, 1, 1), warps=8, elements=rows * D, least_bytes=rows * D * 4,
    )


def backward(n):
    """Buffers dy, x, w, r, dx of a backward pass over n rows, the truth of dx, and the terms of dW."""
    (x_bits, x), (w_bits, w), (dy_bits, dy) = normal(3, n, D), normal(4, D), normal(5, n, D)
    rrms = reciprocal_rms(x)
    normed, m = x * rrms, dy * w
    buffers = (
        Buffer("bf16", dy_bits),
        Buffer("bf16", x_bits),
        Buffer("bf16", w_bits),
        Buffer("fp32", rrms.astype(np.float32)),
        Buffer("bf16", np.zeros_like(x_bits), empty=True),
    )
    dx = rrms * (m - normed * (m * normed).mean(1, keepdims=True))
    magnitude = rrms * (abs(m) + abs(normed) * abs(m * normed).mean(1, keepdims=True))
    return buffers, Truth(dx, magnitude, bf16=1, terms=D), dy * normed


def liger_backward(target):
    """Two blocks of the loop over rows: 2048 rows are dealt to a block for each multiprocessor."""
    blocks, rows = 2, {80: 19, 90: 16}[target]
    n = blocks * rows
    (dy, x, w, r, dx), truth, dw_terms = backward(n)
    dw_terms = dw_terms.reshape(blocks, rows, D)
    return Case(
        name="liger-rmsnorm-backward",
        sources=[(LIGER, [*LIGER_MODES, "_rms_norm_backward_kernel"])],
        arguments=dict(
            dY_ptr=dy, dY_row_stride=D, dX_ptr=dx, dX_row_stride=D, X_ptr=x, X_row_stride=D,
            X_dtype=Constant(tl.bfloat16), W_ptr=w, W_row_stride=1, RSTD_ptr=r, RSTD_row_stride=1,
            dW_ptr=Buffer("fp32", np.zeros((blocks, D), np.float32), empty=True), dW_row_stride=D, n_rows=n,
            n_cols=D, offset=0.0, rows_per_program=rows, casting_mode=LLAMA,
            elementwise_affine=Constant(True),
            BLOCK_SIZE=Constant(D), COMPUTE_DW=Constant(True),
        ),
        # The normalised element and its product with dy are each rounded to bf16.
        truth=dict(dX_ptr=truth, dW_ptr=Truth(dw_terms.sum(1), abs(dw_terms).sum(1), bf16=2, terms=rows)),
        grid=(blocks, 1, 1), warps=8, elements=n * D, least_bytes=n * D * 6,
    )


def unsloth_backward(target):
    """The weight is frozen, so there is no dW, and a block does one row."""
    n = 4
    (dy, x, w, r, dx), truth, _ = backward(n)
    return Case(
        name="unsloth-rmsnorm-backward",
        sources=[(UNSLOTH, ["_rms_backward_row", "_rms_layernorm_backward"])],
        arguments=dict(
            dY=dy, dX=dx, X=x, W=w, r=r, dW=Constant(None), n_rows=Integer(n), rows_per_program=Integer(1),
            dY_row_stride=Constant(D), dX_row_stride=Constant(D), X_row_stride=Constant(D),
            W_row_stride=Constant(1), r_row_stride=Constant(1), n_cols=Constant(D), eps=Constant(EPS),
            GEMMA=Constant(False), LONG_INDEXING=Constant(False), BLOCK_SIZE=Constant(D),
            TRAIN_W=Constant(False), FROM_Y=Constant(False),
        ),
        truth=dict(dX=truth),
        grid=(n, 1, 1), warps=8, elements=n * D, least_bytes=n * D * 6,
    )


CASES = [liger_forward, unsloth_forward, liger_backward, unsloth_backward]
