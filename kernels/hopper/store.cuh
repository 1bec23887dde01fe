// store.cuh - how the sums of a warpgroup's products go to memory: whole sectors of a row at a time.
#pragma once
#include "prelude.cuh"

// Four lanes hold 2 columns of each of 4 groups of 8; afterwards each holds the 8 columns of one group.
__device__ inline void gather_columns(float (&value)[4][2])
{
#pragma unroll
    for (int bit = 1; bit < 4; bit *= 2) {
        const bool upper = threadIdx.x & bit;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & bit) continue;
#pragma unroll
            for (int k = 0; k < 2; ++k) {
                const float got = __shfl_xor_sync(~0u, upper ? value[i][k] : value[i | bit][k], bit);
                if (upper) value[i][k] = got;
                else value[i | bit][k] = got;
            }
        }
    }
}

// value = 8 columns of a row of sums: the lane's of 32, in the row that its first sums are of or 8 below.
template <int EIGHTS>
__device__ inline void gather(float (&value)[4][2], const float (&sum)[EIGHTS][4], int four, int below)
{
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        value[i][0] = sum[four * 4 + i][below * 2];
        value[i][1] = sum[four * 4 + i][below * 2 + 1];
    }
    gather_columns(value);
}

// 8 elements of memory = value.
__device__ inline void store8(bf16* to, const float (&value)[4][2])
{
    *reinterpret_cast<uint4*>(to) = make_uint4(to_bf16(value[0][0], value[0][1]).bits, to_bf16(value[1][0], value[1][1]).bits,
                                               to_bf16(value[2][0], value[2][1]).bits, to_bf16(value[3][0], value[3][1]).bits);
}
__device__ inline void store8(float* to, const float (&value)[4][2])
{
#pragma unroll
    for (int half = 0; half < 2; ++half)
        reinterpret_cast<float4*>(to)[half] =
            make_float4(value[half * 2][0], value[half * 2][1], value[half * 2 + 1][0], value[half * 2 + 1][1]);
}

// Rows of `to` = sums, rounded, for all columns of the sums. `row` is that of the lane's first sum; those from `rows` on
// do not exist.
template <int EIGHTS>
__device__ inline void store_columns(bf16* to, int stride, const float (&sum)[EIGHTS][4], int row, int rows)
{
#pragma unroll
    for (int four = 0; four < EIGHTS / 4; ++four)
#pragma unroll
        for (int below = 0; below < 2; ++below) {
            float value[4][2];
            gather(value, sum, four, below);
            const int at = row + below * 8;
            if (at < rows) store8(to + (size_t)at * stride + four * 32 + threadIdx.x % 4 * 8, value);
        }
}
