"""Causal softmax attention of flash-linear-attention: forward, dQ, dK with dV; T = 2048, bf16, a query head.

The tensors are those of 32 query and 8 key heads, so a head's log-sum-exps lie 128 bytes apart, as in use.
The gradients are f32, for the library sums them over the query heads of a group afterwards.
"""
import functools

import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Integer, Truth

FILE = "fla/ops/attn/parallel.py"
HELPERS = ("fla/ops/utils/op.py", ["unflatten_program_id", "exp2", "log2"])
T, QUERY_HEADS, KEY_HEADS = 2048, 32, 8
NOTHING = Constant(None)

# Kernel, parameters up to the settings, results, and how many tensors and rows of T numbers it must move.
PARTS = {
    "forward": (
        "parallel_attn_fwd_kernel",
        "q k v o g_cumsum sink_bias lse scale cu_seqlens chunk_indices",
        ["o", "lse"], 4, 1,
    ),
    "dq": (
        "parallel_attn_bwd_kernel_dq",
        "q k v lse delta do dq dg_cumsum g_cumsum scale cu_seqlens chunk_indices",
        ["dq"], 5, 2,
    ),
    "dkv": (
        "parallel_attn_bwd_kernel_dkv",
        "q k v g_cumsum lse delta do dk dv dg_cumsum cu_seqlens chunk_indices scale",
        ["dk", "dv"], 6, 2,
    ),
}


@functools.cache
def problem(head):
    """The bits of q, k, v, do of one head; its log-sum-exps (base 2) and deltas; the truth of each result."""
    bits, (q, k, v, do) = zip(*(normal(seed, T, head) for seed in (51, 52, 53, 54)))
    scale = head**-0.5
    s = np.where(np.tri(T, dtype=bool), q @ k.T * scale, -np.inf)
    largest = s.max(1, keepdims=True)
    lse = largest + np.log(np.exp(s - largest).sum(1, keepdims=True))
    p = np.exp(s - lse)
    o = p @ v
    dp, delta = do @ v.T, (do * o).sum(1, keepdims=True)
    ds = scale * p * (dp - delta)
    ds_magnitude = scale * p * (abs(dp) + abs(delta))
    # p and ds are rounded to bf16 before their products, and o after its own.
    truth = dict(
        o=Truth(o, p @ abs(v), bf16=2, terms=T),
        lse=Truth(lse[:, 0] / np.log(2), abs(largest[:, 0]) + abs(lse[:, 0]), terms=T),
        dq=Truth(ds @ k, ds_magnitude @ abs(k), bf16=1, terms=T),
        dk=Truth(ds.T @ q, ds_magnitude.T @ abs(q), bf16=1, terms=T),
        dv=Truth(p.T @ do, p.T @ abs(do), bf16=1, terms=T),
    )
    return bits, lse[:, 0] / np.log(2), delta[:, 0], truth


def first_head(kind, heads, values):
    """A tensor [T, heads, ...] whose head 0 holds the values; the other heads are zero."""
    data = np.zeros((T, heads, *values.shape[1:]), values.dtype)
    data[:, 0] = values
    return Buffer(kind, data)


def empty(kind, *row):
    element = np.uint16 if kind == "bf16" else np.float32
    return Buffer(kind, np.zeros((T, QUERY_HEADS, *row), element), empty=True)


def tensors(head, results):
    """Every argument that is not a setting, by name; those among `results` are empty."""
    (q, k, v, do), lse, delta, _ = problem(head)
    given = dict(
        q=first_head("bf16", QUERY_HEADS, q), k=first_head("bf16", KEY_HEADS, k),
        v=first_head("bf16", KEY_HEADS, v), do=first_head("bf16", QUERY_HEADS, do),
        lse=first_head("fp32", QUERY_HEADS, lse.astype(np.float32)),
        delta=first_head("fp32", QUERY_HEADS, delta.astype(np.float32)), scale=float(head**-0.5),
    )
    made = dict(
        o=empty("bf16", head), lse=empty("fp32"), dq=empty("fp32", head), dk=empty("fp32", head),
        dv=empty("fp32", head),
    )
    return given | {name: made[name] for name in results}


def settings(target, head, backward):
    """Tile of queries (of keys for dK and dV), step over the others, warps, as the library chooses them."""
    tile, step, warps = {80: (128, 32, 4), 90: (128, 64, 8)}[target]
    return 64 if target == 80 and backward and head > 64 else tile, step, warps


def attention(target, head, part):
    kernel, names, results, whole_tensors, rows = PARTS[part]
    tile, step, warps = settings(target, head, part != "forward")
    values = tensors(head, results)
    flags = ["USE_G", "USE_WINDOW", "IS_VARLEN"] + ["USE_SINK_BIAS"] * (part == "forward")
    return Case(
        name=f"fla-attention-{part}-{head}",
        sources=[HELPERS, (FILE, [kernel])],
        arguments={name: values.get(name, NOTHING) for name in names.split()}
        | dict(
            T=T if part == "forward" else Integer(T), W=NOTHING, B=Constant(1), H=Constant(KEY_HEADS),
            HQ=Constant(QUERY_HEADS), G=Constant(QUERY_HEADS // KEY_HEADS), K=Constant(head),
            V=Constant(head), BT=Constant(tile), BS=Constant(step), BK=Constant(head), BV=Constant(head),
        )
        | {flag: Constant(False) for flag in flags},
        truth={name: problem(head)[3][name] for name in results},
        # The gradients count as bf16 in the least, which is all that a kernel for a whole group would write.
        grid=(T // tile, 1, 1), warps=warps, least_bytes=whole_tensors * T * head * 2 + rows * T * 4,
    )


CASES = [functools.partial(attention, head=head, part=part) for head in (64, 128) for part in PARTS]
