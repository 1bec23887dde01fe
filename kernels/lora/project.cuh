// lora/project.cuh - a tall matrix times a few columns: into the adapters' narrow space, forward and backward.
//
//   nt   out[n,c] = scale * sum_d keep[c / R,n,d] x[n,d] w[c,d]
//   nn   out[n,c] = scale * sum_d x[n,d] w[d,c]
//
// Shapes    x: bf16 [N, D]   w: bf16 [C, D] (nt), [D, C] (nn)   out: bf16 [N, C]   C columns: R of each adapter
//           Row strides are arguments, in elements.
// Numerics  products of bf16, sums in f32, one rounding to bf16. A block's 4 warps take 16 features of each 64
//           and their sums are added in order
// Needs     N, D >= 1; C, D and strides multiples of 8; matrices 16-byte aligned
// Grid      (ceil(C / COLUMNS), ceil(N / 32)) blocks of 128 threads; COLUMNS is 16 (narrow) or 64 (wide)
//           shared bytes, static: narrow 18 KiB, wide 36 KiB; with dropout 512 more for each adapter of a block
// Repeats   bit-identical from run to run: no atomics
// Cost      floor 2 N D + 2 C D + 2 N C bytes; 2 N C D FLOPs. A block asks for its 32 rows of x once, for w whole:
//           C / 32 of x's bytes, from L2
#pragma once
#include "prelude.cuh"

namespace project {

constexpr int TOKENS = 32;       // of a block
constexpr int DEPTH = 64;        // features in a step: 16 for each warp
constexpr int STAGES = 3;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int CHUNKS = DEPTH / 8;
constexpr int PANEL = 128;       // features whose keep bits are made together: 16 bytes a row

// The dropout of one launch.
struct Dropout {
    uint4* keep;                 // [C / R, ceil(D / PANEL), N]
    const uint2* place;          // [N]
    uint2 key;
    unsigned update, module[3], threshold;
    int R;
};

// Bits of 16 features, from feature 4 * block of the module on.
__device__ inline unsigned keep16(const Dropout& dropout, unsigned module, unsigned block, uint2 place)
{
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint4 number =
            philox(make_uint4(module << 16 | (block + i), place.y, place.x, dropout.update), dropout.key);
        bits |= (unsigned)(number.x >= dropout.threshold) << (4 * i);
        bits |= (unsigned)(number.y >= dropout.threshold) << (4 * i + 1);
        bits |= (unsigned)(number.z >= dropout.threshold) << (4 * i + 2);
        bits |= (unsigned)(number.w >= dropout.threshold) << (4 * i + 3);
    }
    return bits;
}

template <int COLUMNS, bool NN, bool DROPOUT>
__device__ inline void project(bf16* out, const bf16* x, const bf16* w, int stride_out, int stride_x, int stride_w,
                               float scale, int N, int D, int C, Dropout dropout)
{
    constexpr int X_BYTES = TOKENS * DEPTH * 2, STAGE_BYTES = X_BYTES + COLUMNS * DEPTH * 2;
    constexpr int MASKS = DROPOUT ? COLUMNS == 64 ? 3 : 2 : 0;
    constexpr int W_CHUNKS = NN ? COLUMNS / 8 : CHUNKS;
    constexpr int X_COPIES = TOKENS * CHUNKS / THREADS, W_COPIES = COLUMNS * CHUNKS / THREADS;
    __shared__ uint4 memory[STAGES * STAGE_BYTES / 16];
    __shared__ uint4 mask[MASKS > 0 ? MASKS : 1][TOKENS];

    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first_column = blockIdx.x * COLUMNS, first_token = blockIdx.y * TOKENS;
    const int steps = (D + DEPTH - 1) / DEPTH;
    const unsigned shared = shared_address(memory);

    // Tokens at and beyond N are copies of the last one and are not stored; columns beyond C are zeros.
    auto copy = [&](int step) {
        if (step < steps) {
            const unsigned to = shared + step % STAGES * STAGE_BYTES;
#pragma unroll
            for (int i = 0; i < X_COPIES; ++i) {
                const int row = threadIdx.x / CHUNKS + i * (THREADS / CHUNKS), chunk = threadIdx.x % CHUNKS;
                const int d = step * DEPTH + chunk * 8;
                cp_async16(to + swizzle<CHUNKS>(row, chunk), x + (size_t)min(first_token + row, N - 1) * stride_x + d,
                           d < D);
            }
#pragma unroll
            for (int i = 0; i < W_COPIES; ++i) {
                const int row = threadIdx.x / W_CHUNKS + i * (THREADS / W_CHUNKS), chunk = threadIdx.x % W_CHUNKS;
                const int d = step * DEPTH + (NN ? row : chunk * 8), c = first_column + (NN ? chunk * 8 : row);
                const bf16* from = NN ? w + (size_t)d * stride_w + c : w + (size_t)c * stride_w + d;
                cp_async16(to + X_BYTES + swizzle<W_CHUNKS>(row, chunk), from, d < D && c < C);
            }
        }
        cp_async_commit();       // also where nothing was copied: the wait below counts groups
    };

    float sum[TOKENS / 16][COLUMNS / 8][4] = {};
    copy(0);
    copy(1);
    for (int step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();         // this step's operands are here; the step before is done with its stage and mask
        copy(step + STAGES - 1);
        if (DROPOUT && step % (PANEL / DEPTH) == 0) {
            const int panel = step / (PANEL / DEPTH), adapters = min(COLUMNS, C - first_column) / dropout.R;
            for (int j = 0; j < adapters; ++j) {
                const int adapter = first_column / dropout.R + j;
                const unsigned module =
                    adapter == 0 ? dropout.module[0] : adapter == 1 ? dropout.module[1] : dropout.module[2];
#pragma unroll
                for (int i = 0; i < X_COPIES; ++i) {
                    const int row = threadIdx.x / 8 + i * (THREADS / 8), part = threadIdx.x % 8;
                    const uint2 place = dropout.place[min(first_token + row, N - 1)];
                    reinterpret_cast<unsigned short*>(&mask[j][row])[part] =
                        keep16(dropout, module, panel * (PANEL / 4) + part * 4, place);
                }
            }
            __syncthreads();     // the masks of these 128 features are here
            const int j = warp, row = lane;
            if (j < adapters && first_token + row < N)
                dropout.keep[((size_t)(first_column / dropout.R + j) * ((D + PANEL - 1) / PANEL) + panel) * N
                             + first_token + row] = mask[j][row];
        }

        const unsigned tile = shared + step % STAGES * STAGE_BYTES;
        unsigned piece_x[TOKENS / 16][4], piece_w[COLUMNS / 16][4];
#pragma unroll
        for (int i = 0; i < TOKENS / 16; ++i)
            ldmatrix_x4(piece_x[i], tile + swizzle<CHUNKS>(i * 16 + lane % 16, warp * 2 + lane / 16));
#pragma unroll
        for (int j = 0; j < COLUMNS / 16; ++j) {
            const unsigned from = tile + X_BYTES;
            if (NN) ldmatrix_x4_trans(piece_w[j], from + swizzle<W_CHUNKS>(warp * 16 + lane % 16, j * 2 + lane / 16));
            else ldmatrix_x4(piece_w[j], from + swizzle<W_CHUNKS>(j * 16 + lane / 16 * 8 + lane % 8,
                                                                  warp * 2 + lane / 8 % 2));
        }
        unsigned kept[TOKENS / 16][4];
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j) {
            if (!DROPOUT) {
#pragma unroll
                for (int i = 0; i < TOKENS / 16; ++i)
                    mma_bf16(sum[i][j], piece_x[i], piece_w[j / 2][j % 2 * 2], piece_w[j / 2][j % 2 * 2 + 1]);
                continue;
            }
            if (first_column + j * 8 >= C) continue;
            if (j * 8 % dropout.R == 0) {          // the next adapter's own mask
                const int word = step % (PANEL / DEPTH) * 2 + warp / 2, byte = warp % 2 * 2;
#pragma unroll
                for (int half = 0; half < TOKENS / 8; ++half) {
                    const uint4& row = mask[j * 8 / dropout.R][half * 8 + lane / 4];
                    const unsigned bits = reinterpret_cast<const unsigned*>(&row)[word] << (6 - lane % 4 * 2);
                    unsigned (&piece)[4] = kept[half / 2];
                    piece[half % 2] = piece_x[half / 2][half % 2] & pair_mask(bits << 1, bits, byte);
                    piece[half % 2 + 2] = piece_x[half / 2][half % 2 + 2] & pair_mask(bits << 1, bits, byte + 1);
                }
            }
#pragma unroll
            for (int i = 0; i < TOKENS / 16; ++i)
                mma_bf16(sum[i][j], kept[i], piece_w[j / 2][j % 2 * 2], piece_w[j / 2][j % 2 * 2 + 1]);
        }
    }

    // The warps' sums, one after the other. A row's 32-byte groups are swizzled: lanes write the same group of 4
    // rows at a time, and read 64 bytes of 2 rows.
    float* part = reinterpret_cast<float*>(memory);
    auto at = [](int row, int column) {
        const int swap = row / 2 % 2 + (COLUMNS > 16 ? row % 2 * 2 : 0);
        return row * COLUMNS + (column / 8 ^ swap) * 8 + column % 8;
    };
    __syncthreads();             // the last step's operands are read
#pragma unroll
    for (int i = 0; i < TOKENS / 16; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j)
#pragma unroll
            for (int below = 0; below < 2; ++below)
                *reinterpret_cast<float2*>(
                    part + at(warp * TOKENS + i * 16 + below * 8 + lane / 4, j * 8 + lane % 4 * 2)) =
                    make_float2(sum[i][j][below * 2], sum[i][j][below * 2 + 1]);
    __syncthreads();             // all sums are here
    const int row = threadIdx.x / 4, n = first_token + row;      // 4 columns at a time
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; ++j) {
        const int column = j * 16 + threadIdx.x % 4 * 4, c = first_column + column;
        if (n >= N || c >= C) continue;
        float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int from = 0; from < WARPS; ++from) {
            const float4 f = *reinterpret_cast<const float4*>(part + at(from * TOKENS + row, column));
            total = make_float4(total.x + f.x, total.y + f.y, total.z + f.z, total.w + f.w);
        }
        const bf16x2 first = to_bf16(total.x * scale, total.y * scale);
        const bf16x2 second = to_bf16(total.z * scale, total.w * scale);
        *reinterpret_cast<uint2*>(out + (size_t)n * stride_out + c) = make_uint2(first.bits, second.bits);
    }
}

}  // namespace project
