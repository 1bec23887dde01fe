"""FlagGems' Hopper matmul: TMA in and out, wgmma between; 256 x 256 x 512, bf16, row-major, four tiles."""
import numpy as np

from arrays import normal
from case import Buffer, Case, Constant, Descriptor, Truth

M, N, K = 256, 256, 512
TILE_M, TILE_N, TILE_K = 128, 128, 64


def hopper(target):
    if target < 90:
        return None
    (a_bits, a), (b_bits, b) = normal(71, M, K), normal(72, K, N)
    c = Buffer("bf16", np.zeros((M, N), np.uint16), empty=True)
    return Case(
        name="flag-gems-matmul",
        sources=[
            ("flag_gems/utils/triton_lang_extension.py", ["program_id"]),
            ("flag_gems/runtime/backend/_nvidia/hopper/ops/mm.py", ["mm_kernel_general_host_tma"]),
        ],
        arguments=dict(
            a_desc=Descriptor(Buffer("bf16", a_bits), (TILE_M, TILE_K)),
            b_desc=Descriptor(Buffer("bf16", b_bits), (TILE_K, TILE_N)),
            c_desc=Descriptor(c, (TILE_M, TILE_N)), M=M, N=N, K=K, stride_am=K, stride_ak=1, stride_bk=N,
            stride_bn=1, stride_cm=N, stride_cn=1, BLOCK_M=Constant(TILE_M), BLOCK_N=Constant(TILE_N),
            BLOCK_K=Constant(TILE_K), GROUP_M=Constant(8), A_ROW_MAJOR=Constant(True),
            B_ROW_MAJOR=Constant(True), dtype=Constant("bfloat16"),
            enable_warp_specialization=Constant(True),
        ),
        truth=dict(c_desc=Truth(a @ b, abs(a) @ abs(b), bf16=1, terms=K)),
        # Two tiles wide and two high: each of A and B is read twice.
        grid=(4, 1, 1), warps=8, least_bytes=2 * (M * K + K * N) * 2 + M * N * 2,
    )


CASES = [hopper]
