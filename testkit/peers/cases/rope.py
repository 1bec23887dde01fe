"""Liger's rotary embedding, in place: 32 query and 8 key heads of 128, bf16, a token a block."""
import numpy as np

from arrays import normal, round_bf16, to_bf16
from case import Buffer, Case, Constant, Truth

TOKENS, QUERY_HEADS, KEY_HEADS, HEAD = 4, 32, 8, 128


def tables():
    """cos and sin of each token's angles, rounded to bf16, each half of a row the same."""
    angles = np.arange(TOKENS)[:, None] * 10000.0 ** (-np.arange(HEAD // 2) / (HEAD // 2))
    angles = np.concatenate([angles, angles], axis=1)
    return round_bf16(np.cos(angles)), round_bf16(np.sin(angles))


def rotated(x, cos, sin):
    """(x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin); each product is rounded to bf16, and so is the sum."""
    half = HEAD // 2
    turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return Truth(x * cos + turned * sin, abs(x * cos) + abs(turned * sin), bf16=2)


def liger_forward(target):
    (q_bits, q), (k_bits, k) = normal(21, TOKENS, QUERY_HEADS, HEAD), normal(22, TOKENS, KEY_HEADS, HEAD)
    cos, sin = tables()
    elements = TOKENS * (QUERY_HEADS + KEY_HEADS) * HEAD
    return Case(
        name="liger-rope-forward",
        sources=[("liger_kernel/ops/rope.py", ["_triton_rope"])],
        arguments=dict(
            q_ptr=Buffer("bf16", q_bits), q_row_stride=QUERY_HEADS * HEAD, k_ptr=Buffer("bf16", k_bits),
            k_row_stride=KEY_HEADS * HEAD, cos=Buffer("bf16", to_bf16(cos)), cos_row_stride=HEAD,
            sin=Buffer("bf16", to_bf16(sin)), sin_row_stride=HEAD, sl=TOKENS, bs=Constant(1),
            cos_bs=Constant(1), n_qh=Constant(QUERY_HEADS), n_kh=Constant(KEY_HEADS), hd=Constant(HEAD),
            pad_n_qh=Constant(QUERY_HEADS), pad_n_kh=Constant(KEY_HEADS), pad_hd=Constant(HEAD),
            pad_rd=Constant(HEAD), rd=Constant(HEAD), BLOCK_SIZE=Constant(QUERY_HEADS),
            BACKWARD_PASS=Constant(False),
        ),
        truth=dict(q_ptr=rotated(q, cos, sin), k_ptr=rotated(k, cos, sin)),
        # Half of each row of cos and sin is all that a token needs.
        grid=(TOKENS, 1, 1), warps=4, elements=elements, least_bytes=elements * 4 + TOKENS * HEAD * 2,
    )


CASES = [liger_forward]
