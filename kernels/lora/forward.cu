// lora/forward.cu - xa of all adapters whose linears read the same x, their A stacked.
//
//   xa[n,c] = scale * sum_d keep[c / R,n,d] x[n,d] A[c,d]        scale = s, with dropout s / (1 - p)
//
// Then y += xa B^T is part of gemm.cu's sums, adapter by adapter: no pass over y of its own. s is in xa for good:
// dB += dy^T xa needs no other.
//
// Source    Hu et al. 2021; docs/math.md#lora
// Shapes    x: bf16 [N, D]   A: bf16 [C, D], C = R of each adapter, one below the other   xa: bf16 [N, C]
//           keep: bits, out, of each adapter in panels of 128 features [C / R, ceil(D / 128), N, 4]: bit d % 32 of
//           word d / 32 % 4   place: u32 [N, 2], the example's place in the update and the token's in it
// Dropout   keep[j,n,d] = number d % 4 of Philox(d / 4 + 65536 module[j], token, example, update) >= threshold:
//           the bits of the CPU. They are made once, kept (1/16 of x's bytes), and read on the way back
// Numerics, needs, grid, repeats: project.cuh. With dropout R is 8, 16, 32 or 64, and C / R at most 3
// Cost      floor 2 N D + 2 C D + 2 N C bytes; with dropout N D / 8 bytes more for each adapter, and about 12
//           instructions an element and adapter, more than the memory's pace hides on an A100
// Oracle    src/ops/lora.rs, fn forward
#include "lora/project.cuh"

#define FORWARD(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(project::THREADS) name( \
        bf16* __restrict__ xa_NC, const bf16* __restrict__ x_ND, const bf16* __restrict__ a_CD, int stride_xa, \
        int stride_x, int stride_a, float scale, int N, int D, int C) \
    { \
        project::project<COLUMNS, false, false>(xa_NC, x_ND, a_CD, stride_xa, stride_x, stride_a, scale, N, D, C, {}); \
    }
#define FORWARD_DROPOUT(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(project::THREADS) name( \
        bf16* __restrict__ xa_NC, uint4* __restrict__ keep, const bf16* __restrict__ x_ND, \
        const bf16* __restrict__ a_CD, const uint2* __restrict__ place_N, int stride_xa, int stride_x, int stride_a, \
        float scale, int N, int D, int C, int R, unsigned threshold, unsigned key0, unsigned key1, unsigned update, \
        unsigned module0, unsigned module1, unsigned module2) \
    { \
        project::project<COLUMNS, false, true>( \
            xa_NC, x_ND, a_CD, stride_xa, stride_x, stride_a, scale, N, D, C, \
            {keep, place_N, make_uint2(key0, key1), update, {module0, module1, module2}, threshold, R}); \
    }
FORWARD(lora_forward_narrow_bf16, 16)
FORWARD(lora_forward_wide_bf16, 64)
FORWARD_DROPOUT(lora_forward_dropout_narrow_bf16, 16)
FORWARD_DROPOUT(lora_forward_dropout_wide_bf16, 64)
