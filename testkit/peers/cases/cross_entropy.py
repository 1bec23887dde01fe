"""Liger's cross-entropy: loss and gradient of 128256 logits in bf16, the gradient in place."""
import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Truth

ROWS, VOCABULARY = 2, 128256


def liger(target):
    bits, x = normal(31, ROWS, VOCABULARY, scale=2)
    labels = np.random.default_rng(32).integers(0, VOCABULARY, ROWS)
    largest = x.max(1, keepdims=True)
    lse = largest + np.log(np.exp(x - largest).sum(1, keepdims=True))
    softmax = np.exp(x - lse)
    one_hot = np.arange(VOCABULARY) == labels[:, None]
    loss = (lse - x[one_hot][:, None])[:, 0] / ROWS
    nothing = Constant(None)
    return Case(
        name="liger-cross-entropy",
        sources=[("liger_kernel/ops/cross_entropy.py", ["LOG2_E", "liger_cross_entropy_kernel"])],
        arguments=dict(
            X_ptr=Buffer("bf16", bits), X_stride=VOCABULARY, Y_ptr=Buffer("i64", labels), Y_stride=1,
            loss_ptr=Buffer("bf16", np.zeros(ROWS, np.uint16), empty=True), loss_stride=1,
            weight_ptr=nothing, z_loss_ptr=nothing, token_accuracy_ptr=nothing, token_accuracy_stride=0,
            predicted_tokens_ptr=nothing, predicted_tokens_stride=0, n_cols=VOCABULARY, n_non_ignore=ROWS,
            sum_non_ignore_weight=ROWS, weight_sum=0.0, ignore_index=-100, lse_square_scale=Constant(0.0),
            label_smoothing=Constant(0.0), reduction=Constant("mean"), softcap=nothing,
            RETURN_Z_LOSS=Constant(False), RETURN_TOKEN_ACCURACY=Constant(False),
            RETURN_PREDICTED_TOKENS=Constant(False), BLOCK_SIZE=Constant(32768), HAS_WEIGHT=Constant(False),
            HAS_SOFTCAPPING=Constant(False), HAS_GRADIENTS=Constant(True),
        ),
        truth=dict(
            # A rounding of exp's argument is a relative error of exp, so the argument's size counts.
            X_ptr=Truth((softmax - one_hot) / ROWS, (softmax * (1 + abs(x - lse)) + one_hot) / ROWS, bf16=1),
            loss_ptr=Truth(loss, abs(loss), bf16=1, terms=VOCABULARY),
        ),
        grid=(ROWS, 1, 1), warps=32,
        elements=ROWS * VOCABULARY, least_bytes=ROWS * VOCABULARY * 4,
    )


CASES = [liger]
