"""Cut cross-entropy's forward pass: log-sum-exp of embeddings times classifier, the logits never stored.

Two tiles of 256 tokens by 128 classes, width 4096; both add to the same 256 results under a spin lock.
"""
import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Truth

TOKENS, CLASSES, WIDTH = 256, 256, 4096
TILE_TOKENS, TILE_CLASSES = 256, 128
NOTHING = Constant(None)


def forward(target):
    (e_bits, e), (c_bits, c) = normal(61, TOKENS, WIDTH), normal(62, CLASSES, WIDTH, scale=0.05)
    logits = e @ c.T
    largest = logits.max(1)
    lse = largest + np.log(np.exp(logits - largest[:, None]).sum(1))
    size = (abs(e) @ abs(c).T).max(1)
    tiles = TOKENS // TILE_TOKENS * CLASSES // TILE_CLASSES
    return Case(
        name="cce-forward",
        sources=[
            ("cut_cross_entropy/tl_utils.py", ["tl_log1p", "tl_tanh", "tl_softcapping", "tl_logaddexp"]),
            ("cut_cross_entropy/cce_lse_forward.py", ["_cce_lse_forward_kernel"]),
        ],
        arguments=dict(
            E=Buffer("bf16", e_bits), C=Buffer("bf16", c_bits),
            LSE=Buffer("fp32", np.full(TOKENS, -np.inf, np.float32)), LA=NOTHING,
            Locks=Buffer("u32", np.zeros(TOKENS // 128, np.uint32)), Valids=NOTHING, softcap=NOTHING,
            B=TOKENS, V=CLASSES, D=WIDTH, stride_eb=WIDTH, stride_ed=1, stride_cv=WIDTH, stride_cd=1,
            stride_lse_b=1, stride_vb=1, num_locks=TOKENS // 128, B_BIN=512, HAS_VALIDS=Constant(False),
            BLOCK_B=Constant(TILE_TOKENS), BLOCK_V=Constant(TILE_CLASSES), BLOCK_D=Constant(32),
            GROUP_B=Constant(8), EVEN_D=Constant(True), HAS_SOFTCAP=Constant(False), HAS_LA=Constant(False),
            DOT_PRECISION=Constant("ieee"),
        ),
        truth=dict(LSE=Truth(lse, size, terms=WIDTH)),
        grid=(tiles, 1, 1), warps=8, least_bytes=tiles * (TILE_TOKENS + TILE_CLASSES) * WIDTH * 2,
    )


CASES = [forward]
