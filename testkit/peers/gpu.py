"""What the libraries of the field take for the works of `kernels bench`, on the same GPU by the same clock.

Prints a line of JSON for each: the work's name as `kernels bench` prints it, who did it, and milliseconds (median of 9
rounds of 10 launches, between two events). A peer that is not installed, or refuses, is printed as skipped with its
reason. Two more lines are ceilings: a copy inside the GPU's memory, and a large product.

    python testkit/peers/gpu.py [--out FILE]
"""

import argparse
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

N, D, FF, PARAMS, R = 16384, 4096, 14336, 40_000_000, 16
SEQUENCE, ANSWERS, HEADS, KEY_HEADS = 2048, 8, 32, 8
SMOLLM2 = (576, 1536), (576, 576)
ROUNDS, TIMES = 9, 10


def randn(*shape, grad=False, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_(grad)


def time_ms(call):
    """Milliseconds a call: the median round, the fastest, the slowest."""
    call()
    torch.cuda.synchronize()
    rounds = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(TIMES):
            call()
        end.record()
        end.synchronize()
        rounds.append(start.elapsed_time(end) / TIMES)
    return statistics.median(rounds), min(rounds), max(rounds)


def gradient(out, inputs):
    """A call that runs the backward pass of `out`."""
    d_out = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, inputs, d_out, retain_graph=True)


def ceilings():
    x, y = (torch.empty(2**31, dtype=torch.uint8, device="cuda").random_() for _ in range(2))
    yield "ceiling/copy 2 GiB", "torch", lambda: y.copy_(x)
    a, b = randn(8192, 8192), randn(8192, 8192)
    yield "ceiling/product 8192", "torch (cuBLAS)", lambda: a @ b


def rmsnorm():
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    x, w = randn(N, D, grad=True), randn(D)
    liger = lambda: LigerRMSNormFunction.apply(x, w, 1e-5)
    yield f"rmsnorm/forward {N}x{D}", "Liger", liger
    yield f"rmsnorm/backward {N}x{D}", "Liger (dw too)", gradient(liger(), x)


def rmsnorm_torch():
    x, w = randn(N, D, grad=True), randn(D)
    native = lambda: F.rms_norm(x, (D,), w, 1e-5)
    yield f"rmsnorm/forward {N}x{D}", "torch", native
    yield f"rmsnorm/backward {N}x{D}", "torch", gradient(native(), x)


def swiglu():
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    gate, up = randn(N, FF, grad=True), randn(N, FF, grad=True)
    liger = lambda: LigerSiLUMulFunction.apply(gate, up)
    yield f"swiglu/forward {N}x{FF}", "Liger", liger
    yield f"swiglu/backward {N}x{FF}", "Liger", gradient(liger(), (gate, up))


def adamw():
    p = torch.nn.Parameter(torch.zeros(PARAMS, device="cuda"))
    p.grad, narrow = randn(PARAMS, dtype=torch.float32), torch.zeros(PARAMS, device="cuda", dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW([p], lr=1e-4, weight_decay=0.01, fused=True)

    def update():
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimizer.step()
        narrow.copy_(p.detach())

    yield f"adamw/update {PARAMS}", "torch (fused, clip, copy)", update


def products(d, f):
    x, w = randn(N, d), randn(f, d)
    y, xa, b = randn(N, f), randn(N, R), randn(f, R)
    yield f"linear/forward {N}x{d}x{f}", "torch (cuBLAS)", lambda: torch.mm(x, w.t(), out=y)
    yield f"linear/backward {N}x{f}x{d}", "torch (cuBLAS)", lambda: torch.mm(y, w, out=x)
    both = lambda: torch.mm(x, w.t(), out=y).addmm_(xa, b.t())
    yield f"linear/forward+{R} {N}x{d}x{f}", "torch (cuBLAS, two products)", both


def lora():
    x, a, dxa = randn(N, D), randn(3 * R, D), randn(N, 3 * R)
    yield f"lora/forward {N}x{D}x3*{R}", "torch (cuBLAS)", lambda: x @ a.t()
    yield f"lora/gradient_a {N}x{D}x3*{R}", "torch (cuBLAS)", lambda: dxa.t() @ x
    dy, b, xa = randn(N, FF), randn(FF, R), randn(N, R)
    yield f"lora/gradient_xa {N}x{FF}x{R}", "torch (cuBLAS)", lambda: dy @ b
    yield f"lora/gradient_b {N}x{FF}x{R}", "torch (cuBLAS)", lambda: dy.t() @ xa


def heads(width):
    count = N // SEQUENCE
    shape = lambda heads: randn(count, SEQUENCE, heads, width).transpose(1, 2).requires_grad_()
    return shape(HEADS), shape(KEY_HEADS), shape(KEY_HEADS)


def attention(width, backend, name):
    q, k, v = heads(width)
    what = f"{HEADS}:{KEY_HEADS}x{width} {N // SEQUENCE}x{SEQUENCE}"

    def forward():
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    yield f"attention/forward {what}", name, forward
    yield f"attention/backward {what}", name, gradient(forward(), (q, k, v))


def shared():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    prompt = SEQUENCE // 2
    answer = prompt // ANSWERS

    def sees(b, h, query, key):
        own = (query - prompt) // answer == (key - prompt) // answer
        return (query >= key) & ((key < prompt) | own)

    mask = create_block_mask(sees, None, None, SEQUENCE, SEQUENCE, device="cuda")
    flex = torch.compile(flex_attention)
    q, k, v = heads(128)
    what = f"{HEADS}:{KEY_HEADS}x128 {N // SEQUENCE}x{SEQUENCE} of {ANSWERS} answers"
    forward = lambda: flex(q, k, v, block_mask=mask, enable_gqa=True)
    yield f"attention/forward {what}", "FlexAttention", forward
    yield f"attention/backward {what}", "FlexAttention", gradient(forward(), (q, k, v))


def peers():
    yield ceilings
    yield from (rmsnorm, rmsnorm_torch, swiglu, adamw, lora)
    for d, f in ((D, FF), *SMOLLM2):
        yield lambda: products(d, f)
    for width in (64, 128):
        yield lambda: attention(width, SDPBackend.FLASH_ATTENTION, "torch (FlashAttention 2)")
        yield lambda: attention(width, SDPBackend.CUDNN_ATTENTION, "torch (cuDNN)")
    yield shared


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    out = parser.parse_args().out
    say = lambda **line: print(json.dumps(line), file=out, flush=True)
    say(device=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda)
    for group in peers():
        try:
            for work, peer, call in group():
                ms, least, most = time_ms(call)
                say(work=work, peer=peer, ms=ms, least_ms=least, most_ms=most)
        except Exception as reason:  # one peer's refusal is no reason to lose the others
            say(skipped=getattr(group, "__name__", "attention"), reason=repr(reason)[:300])
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
