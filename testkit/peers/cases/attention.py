"""Causal softmax attention of flash-linear-attention: forward, dQ, and dK with dV; T = 2048, bf16, one query head.

The tensors are those of 32 query and 8 key heads, so the log-sum-exp of a head is read 128 bytes apart, as in use;
the gradients are f32 for the same reason: the library sums them over the query heads of a group afterwards.
"""
import functools

import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Integer, Truth

FILE = "fla/ops/attn/parallel.py"
HELPERS = ("fla/ops/utils/op.py", ["unflatten_program_id", "exp2", "log2"])
T, QUERY_HEADS, KEY_HEADS = 2048, 32, 8
LOG2_E = np.log2(np.e)
NOTHING = Constant(None)
NO = Constant(False)


@functools.cache
def problem(head):
    """Inputs of head 0 in f64 and as bits, and what forward and backward make of them."""
    bits, numbers = zip(*(normal(seed, T, head) for seed in (51, 52, 53, 54)))
    q, k, v, do = numbers
    scale = head**-0.5
    s = np.where(np.tri(T, dtype=bool), q @ k.T * scale, -np.inf)
    lse = np.log(np.exp(s - s.max(1, keepdims=True)).sum(1, keepdims=True)) + s.max(1, keepdims=True)
    p = np.exp(s - lse)
    o = p @ v
    delta = (do * o).sum(1, keepdims=True)
    dp = do @ v.T
    ds = p * (dp - delta)
    # A probability's relative error grows with its exponent's size, so that belongs to its magnitude.
    size_p = p * (1 + 2.0**-16 * np.where(p > 0, abs(s - lse), 0))
    size_ds = size_p * (abs(do) @ abs(v.T) * 2.0**-12 + abs(dp) + abs(delta))
    truth = dict(
        o=Truth(o, size_p @ abs(v), bf16=2, terms=T),
        lse=Truth(lse[:, 0] * LOG2_E, abs(s.max(1)) + abs(lse[:, 0]) + 1, terms=T),
        dq=Truth(scale * ds @ k, scale * size_ds @ abs(k), bf16=1, terms=T),
        dk=Truth(scale * ds.T @ q, scale * size_ds.T @ abs(q), bf16=1, terms=T),
        dv=Truth(p.T @ do, size_p.T @ abs(do), bf16=1, terms=T),
    )
    return bits, truth, lse[:, 0] * LOG2_E, delta[:, 0]


def one_head(kind, heads, values):
    """A tensor [T, heads, ...] whose head 0 holds the values; the other heads are zero."""
    data = np.zeros((T, heads, *values.shape[1:]), values.dtype)
    data[:, 0] = values
    return Buffer(kind, data)


def result(kind, head):
    shape = (T, QUERY_HEADS, head) if head else (T, QUERY_HEADS)
    return Buffer(kind, np.zeros(shape, np.uint16 if kind == "bf16" else np.float32), empty=True)


def settings(target, head, backward):
    """Tile sizes and warps as the library chooses them by shared memory."""
    queries, keys, warps = {80: (128, 32, 4), 90: (128, 64, 8)}[target]
    if target == 80 and backward and head > 64:
        queries = 64
    meta = dict(
        T=Integer(T) if backward else T, W=NOTHING, B=Constant(1), H=Constant(KEY_HEADS), HQ=Constant(QUERY_HEADS),
        G=Constant(QUERY_HEADS // KEY_HEADS), K=Constant(head), V=Constant(head), BT=Constant(queries),
        BS=Constant(keys), BK=Constant(head), BV=Constant(head), USE_G=NO, USE_SINK_BIAS=NO, USE_WINDOW=NO,
        IS_VARLEN=NO,
    )
    if backward:
        del meta["USE_SINK_BIAS"]
    return meta, (T // queries, 1, 1), warps


def attention(target, head, part):
    """The case of one kernel; `part` is fwd, bwd_kernel_dq or bwd_kernel_dkv."""
    bits, truth, lse, delta = problem(head)
    q, do = (one_head("bf16", QUERY_HEADS, bits[i]) for i in (0, 3))
    k, v = (one_head("bf16", KEY_HEADS, bits[i]) for i in (1, 2))
    lse, delta = (one_head("fp32", QUERY_HEADS, x.astype(np.float32)) for x in (lse, delta))
    scale = float(head**-0.5)
    sequences = dict(cu_seqlens=NOTHING, chunk_indices=NOTHING)
    if part == "forward":
        kernel, results, tensors, rows = "parallel_attn_fwd_kernel", ["o", "lse"], 4, 1
        arguments = dict(
            q=q, k=k, v=v, o=result("bf16", head), g_cumsum=NOTHING, sink_bias=NOTHING, lse=result("fp32", 0),
            scale=scale, **sequences,
        )
    elif part == "dq":
        kernel, results, tensors, rows = "parallel_attn_bwd_kernel_dq", ["dq"], 5, 2
        arguments = dict(
            q=q, k=k, v=v, lse=lse, delta=delta, do=do, dq=result("fp32", head), dg_cumsum=NOTHING,
            g_cumsum=NOTHING, scale=scale, **sequences,
        )
    else:
        kernel, results, tensors, rows = "parallel_attn_bwd_kernel_dkv", ["dk", "dv"], 6, 2
        arguments = dict(
            q=q, k=k, v=v, g_cumsum=NOTHING, lse=lse, delta=delta, do=do, dk=result("fp32", head),
            dv=result("fp32", head), dg_cumsum=NOTHING, **sequences, scale=scale,
        )
    meta, grid, warps = settings(target, head, backward=part != "forward")
    return Case(
        name=f"fla-attention-{part}-{head}",
        sources=[HELPERS, (FILE, [kernel])],
        arguments=arguments | meta,
        truth={name: truth[name] for name in results},
        grid=grid, warps=warps, least_bytes=tensors * T * head * 2 + rows * T * 4,
    )


CASES = [functools.partial(attention, head=head, part=part) for head in (64, 128) for part in ("forward", "dq", "dkv")]
