// lora/backward.cu - gradients of the adapters: dxa, then A and B by sums over tokens in two steps of fixed order.
//
//   dxa  dxa[n,r] = scale * sum_f dy[n,f] B[f,r]                                  scale = s / (1 - p)
//   b    partial[t,f,r] = sum_{n in part t} dy[n,f] xa[n,r]                       dB += dy^T xa
//   a    partial[t,c,d] = sum_{n in part t} dxa[n,c] keep[c / R,n,d] x[n,d]       dA += dxa^T z
//   sum  gradient[i] += partial[0,i] + partial[1,i] + ...
//
// dx += mask (dxa A) is part of gemm.cu's sums: no pass over dx of its own.
//
// Source    Hu et al. 2021; docs/math.md#lora. s and 1 / (1 - p) are in xa and dxa.
// Shapes    dy: bf16 [N, F]   x: bf16 [N, D]   B: bf16 [F, R]   xa, dxa: bf16 [N, C], C = R of each adapter of x
//           keep: bits as forward.cu leaves them [C / R, ceil(D / 128), N, 4]
//           partial: f32 [parts, F, C] (b), [parts, C, D] (a)   gradient: f32, as one part
//           Row strides of the bf16 matrices are arguments, in elements.
// dxa       numerics, needs, grid, repeats and cost as project.cuh says; the rest is for a, b and sum
// Numerics  products of bf16, sums in f32: tokens of a part in order, then the parts in order
// Needs     N, F, D >= 1; F, D, C and strides multiples of 8; pointers 16-byte aligned; tokens_per_part a
//           multiple of 32; R 8, 16, 32 or 64 with dropout
// Grid      (ceil(C / COLUMNS), ceil(F or D / 128), parts = ceil(N / tokens_per_part)) blocks of 128 threads;
//           COLUMNS is 16 (narrow) or 64 (wide); shared bytes, static: narrow 27 KiB, wide 36 KiB, with dropout
//           1.5 KiB more for each adapter of a block. sum: one thread for 4 elements
// Repeats   bit-identical from run to run for the same tokens_per_part: no atomics
// Cost      floor 2 N F + 2 N C + 4 F C bytes; 2 N F C FLOPs (a: D for F, with dropout N D / 8 bytes more for each
//           adapter). Partials add 8 F C bytes for each part. A block asks for its columns of dy or x once, for xa
//           or dxa whole: C / 128 of their bytes, from L2
// Oracle    src/ops/lora.rs, fn backward
#include "lora/project.cuh"

namespace {

constexpr int FEATURES = 128;    // of a block: 32 for each warp; a panel of keep bits
constexpr int DEPTH = 32;        // tokens in a step
constexpr int STAGES = 3;
constexpr int THREADS = 128;
constexpr int CHUNKS = FEATURES / 8;

// partial = wide^T narrow over one part of the tokens; `wide` is dy or x, `narrow` is xa or dxa.
template <int COLUMNS, bool FOR_A, bool DROPOUT>
__device__ inline void token_sums(float* partial, const bf16* wide, const bf16* narrow, const uint4* keep,
                                  int stride_wide, int stride_narrow, int N, int F, int C, int R,
                                  int tokens_per_part)
{
    constexpr int WIDE_BYTES = DEPTH * FEATURES * 2, NARROW_BYTES = DEPTH * COLUMNS * 2;
    constexpr int MASKS = DROPOUT ? COLUMNS == 64 ? 3 : 2 : 0;
    constexpr int STAGE_BYTES = WIDE_BYTES + NARROW_BYTES + MASKS * DEPTH * 16;
    constexpr int N_CHUNKS = COLUMNS / 8, NARROW_COPIES = DEPTH * N_CHUNKS / THREADS;
    __shared__ uint4 memory[STAGES * STAGE_BYTES / 16];

    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first_column = blockIdx.x * COLUMNS, first_feature = blockIdx.y * FEATURES;
    const int first_token = blockIdx.z * tokens_per_part, end = min(first_token + tokens_per_part, N);
    const int steps = (end - first_token + DEPTH - 1) / DEPTH;
    const unsigned shared = shared_address(memory);

    // tokens, features and columns beyond the end are zeros
    auto copy = [&](int step) {
        if (step < steps) {
            const unsigned to = shared + step % STAGES * STAGE_BYTES;
            const int token = first_token + step * DEPTH;
#pragma unroll
            for (int i = 0; i < DEPTH * CHUNKS / THREADS; ++i) {
                const int row = threadIdx.x / CHUNKS + i * (THREADS / CHUNKS), chunk = threadIdx.x % CHUNKS;
                const int f = first_feature + chunk * 8;
                cp_async16(to + swizzle<CHUNKS>(row, chunk), wide + (size_t)(token + row) * stride_wide + f,
                           token + row < end && f < F);
            }
#pragma unroll
            for (int i = 0; i < (NARROW_COPIES > 0 ? NARROW_COPIES : 1); ++i) {
                const int row = threadIdx.x / N_CHUNKS + i * (THREADS / N_CHUNKS), chunk = threadIdx.x % N_CHUNKS;
                const int c = first_column + chunk * 8;
                if (row < DEPTH)
                    cp_async16(to + WIDE_BYTES + swizzle<N_CHUNKS>(row, chunk),
                               narrow + (size_t)(token + row) * stride_narrow + c, token + row < end && c < C);
            }
            if (DROPOUT && warp < min(COLUMNS, C - first_column) / R) {     // a warp for each adapter's bits
                const size_t panel = (size_t)(first_column / R + warp) * gridDim.y + blockIdx.y;
                cp_async16(to + WIDE_BYTES + NARROW_BYTES + (warp * DEPTH + lane) * 16, keep + panel * N + token + lane,
                           token + lane < end);
            }
        }
        cp_async_commit();       // also where nothing was copied: the wait below counts groups
    };

    float sum[2][COLUMNS / 8][4] = {};
    copy(0);
    copy(1);
    for (int step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();         // this step's operands are here, and the step before is done with its stage
        copy(step + STAGES - 1);

        const int stage = step % STAGES;
        const unsigned tile = shared + stage * STAGE_BYTES;
#pragma unroll
        for (int k = 0; k < DEPTH / 16; ++k) {
            unsigned piece_f[2][4], piece_c[COLUMNS / 16][4], kept[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i)      // transposed: features are the rows of the product
                ldmatrix_x4_trans(piece_f[i], tile + swizzle<CHUNKS>(k * 16 + lane / 16 * 8 + lane % 8,
                                                                     warp * 4 + i * 2 + lane / 8 % 2));
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; ++j)
                ldmatrix_x4_trans(piece_c[j],
                                  tile + WIDE_BYTES + swizzle<N_CHUNKS>(k * 16 + lane % 16, j * 2 + lane / 16));
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; ++j) {
                if (DROPOUT && first_column + j * 8 >= C) continue;
                if (DROPOUT && j * 8 % R == 0) {           // the next adapter's own mask
                    // the word of this warp's 32 features, of tokens 2(l%4), + 1, + 8, + 9 of these 16
                    const unsigned* bits = reinterpret_cast<const unsigned*>(memory)
                        + (stage * STAGE_BYTES + WIDE_BYTES + NARROW_BYTES) / 4
                        + (j * 8 / R * DEPTH + k * 16 + lane % 4 * 2) * 4 + warp;
#pragma unroll
                    for (int later = 0; later < 2; ++later) {
                        const unsigned first = bits[later * 32] << (7 - lane / 4);
                        const unsigned second = bits[later * 32 + 4] << (7 - lane / 4);
#pragma unroll
                        for (int i = 0; i < 2; ++i)
#pragma unroll
                            for (int below = 0; below < 2; ++below)
                                kept[i][later * 2 + below] =
                                    piece_f[i][later * 2 + below] & pair_mask(first, second, i * 2 + below);
                    }
                }
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    mma_bf16(sum[i][j], DROPOUT ? kept[i] : piece_f[i], piece_c[j / 2][j % 2 * 2],
                             piece_c[j / 2][j % 2 * 2 + 1]);
            }
        }
    }

    // 8 lanes write 32 bytes that lie side by side, in either form
    float* out = partial + (size_t)blockIdx.z * F * C;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int below = 0; below < 2; ++below) {
            const int f = first_feature + warp * 32 + i * 16 + below * 8 + lane / 4;
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; ++j) {
                const int c = first_column + j * 8 + lane % 4 * 2;
                if (f >= F || c >= C) continue;
                const float2 pair = make_float2(sum[i][j][below * 2], sum[i][j][below * 2 + 1]);
                if (FOR_A) {
                    out[(size_t)c * F + f] = pair.x;
                    out[(size_t)(c + 1) * F + f] = pair.y;
                } else {
                    *reinterpret_cast<float2*>(out + (size_t)f * C + c) = pair;
                }
            }
        }
}

}  // namespace

#define DXA(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(project::THREADS) name( \
        bf16* __restrict__ dxa_NR, const bf16* __restrict__ dy_NF, const bf16* __restrict__ b_FR, int stride_dxa, \
        int stride_dy, int stride_b, float scale, int N, int F, int R) \
    { \
        project::project<COLUMNS, true, false>(dxa_NR, dy_NF, b_FR, stride_dxa, stride_dy, stride_b, scale, N, F, R, {}); \
    }
#define BACKWARD_B(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(THREADS) name( \
        float* __restrict__ partial_TFC, const bf16* __restrict__ dy_NF, const bf16* __restrict__ xa_NC, \
        int stride_dy, int stride_xa, int N, int F, int C, int tokens_per_part) \
    { \
        token_sums<COLUMNS, false, false>(partial_TFC, dy_NF, xa_NC, nullptr, stride_dy, stride_xa, N, F, C, C, \
                                          tokens_per_part); \
    }
#define BACKWARD_A(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(THREADS) name( \
        float* __restrict__ partial_TCD, const bf16* __restrict__ x_ND, const bf16* __restrict__ dxa_NC, \
        int stride_x, int stride_dxa, int N, int D, int C, int tokens_per_part) \
    { \
        token_sums<COLUMNS, true, false>(partial_TCD, x_ND, dxa_NC, nullptr, stride_x, stride_dxa, N, D, C, C, \
                                         tokens_per_part); \
    }
#define BACKWARD_A_DROPOUT(name, COLUMNS) \
    extern "C" __global__ void __launch_bounds__(THREADS) name( \
        float* __restrict__ partial_TCD, const bf16* __restrict__ x_ND, const bf16* __restrict__ dxa_NC, \
        const uint4* __restrict__ keep, int stride_x, int stride_dxa, int N, int D, int C, int R, \
        int tokens_per_part) \
    { \
        token_sums<COLUMNS, true, true>(partial_TCD, x_ND, dxa_NC, keep, stride_x, stride_dxa, N, D, C, R, \
                                        tokens_per_part); \
    }

DXA(lora_backward_dxa_narrow_bf16, 16)
DXA(lora_backward_dxa_wide_bf16, 64)
BACKWARD_B(lora_backward_b_narrow_bf16, 16)
BACKWARD_B(lora_backward_b_wide_bf16, 64)
BACKWARD_A(lora_backward_a_narrow_bf16, 16)
BACKWARD_A(lora_backward_a_wide_bf16, 64)
BACKWARD_A_DROPOUT(lora_backward_a_dropout_narrow_bf16, 16)
BACKWARD_A_DROPOUT(lora_backward_a_dropout_wide_bf16, 64)

// gradient += the parts, in order.
extern "C" __global__ void __launch_bounds__(256) lora_backward_sum_f32(
    float4* __restrict__ gradient, const float4* __restrict__ partial, int parts, int fours)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= fours) return;
    float4 sum = gradient[i];
    for (int part = 0; part < parts; ++part) {
        const float4 f = partial[(size_t)part * fours + i];
        sum = make_float4(sum.x + f.x, sum.y + f.y, sum.z + f.z, sum.w + f.w);
    }
    gradient[i] = sum;
}
