// gemm.cu - matrix product with bf16 operands on tensor cores, with an adapter's low-rank product in the same sums.
//
//   nt   c[m,n] = sum_k a[m,k] b[n,k] + sum_r u[m,r] v[n,r] + bias[n] (+ c[m,n])      y = x W^T + xa B^T + bias
//   nn   c[m,n] = sum_k a[m,k] b[k,n] + keep[m,n] sum_r u[m,r] v[r,n] (+ c[m,n])      dx = dy W + mask (dxa A)
//
// Source    docs/math.md#lora for the second sum: with it the adapter never reads or writes c again.
// Shapes    a: bf16 [M, K]   b: bf16 [N, K] (nt), [K, N] (nn)   c: bf16 or f32 [M, N]   bias: bf16 [N] or null
//           u: bf16 [M, R]   v: bf16 [N, R] (nt), [R, N] (nn)   R = 0: no adapter, u and v null
//           keep: bits in panels of 128 columns [ceil(N / 128), M, 4], bit n % 32 of word n / 32 % 4 of panel
//           n / 128, or null: all kept. An adapter's scale is in u.
//           Row strides of all matrices are arguments, in elements.
// Numerics  sums in f32, r before k; both rise, but the first step takes what K is above a multiple of 32.
//           c, old and new, is added in f32: one rounding, at the store
// Needs     M, N, K >= 1; N, K, R and all strides multiples of 8; matrices 16-byte aligned
// Grid      ceil(M / 128) * ceil(N / 128) blocks of 128 threads; 48 KiB of shared memory, static
// Repeats   bit-identical from run to run: no split over K, no atomics
// Cost      2 M N (K + R) FLOPs. A block reads 256 (K + R) operand elements for its 128 x 128 of c, 64 FLOPs a
//           byte from L2; operands come from DRAM once where they fit in L2
// Oracle    src/ops/linear.rs and src/ops/lora.rs, the CPU forms
#include "prelude.cuh"

namespace {

constexpr int TILE = 128;      // rows and columns of c in a block
constexpr int DEPTH = 32;      // k in a step
constexpr int STAGES = 3;      // one is computed on while two arrive
constexpr int THREADS = 128;   // 2 x 2 warps, 64 x 64 of c each: 64 mma for 16 ldmatrix in a step
constexpr int HALF = TILE / 2;
constexpr int OPERAND_BYTES = TILE * DEPTH * 2;
constexpr int STAGE_BYTES = 2 * OPERAND_BYTES;
// Tile rows that run side by side: blocks in flight cover a patch of c, so both operands are shared in L2.
constexpr int GROUP = 8;

struct Tile { int m, n; };     // first row and column of c

__device__ inline Tile tile_of_block(int M, int N)
{
    const int tiles_m = (M + TILE - 1) / TILE, tiles_n = (N + TILE - 1) / TILE;
    const int first = (int)blockIdx.x / (GROUP * tiles_n) * GROUP, place = (int)blockIdx.x % (GROUP * tiles_n);
    const int rows = min(GROUP, tiles_m - first);
    return {(first + place % rows) * TILE, place / rows * TILE};
}

// Brings TILE rows of a matrix whose rows run along k to shared memory, DEPTH elements at a time.
struct RowsAlongK {
    static constexpr int CHUNKS = DEPTH / 8, ROWS_APART = THREADS / CHUNKS, COPIES = TILE / ROWS_APART;
    const bf16* from[COPIES];
    unsigned to;

    // Rows at and beyond `rows` are copies of the last one: they reach only sums that are not stored.
    __device__ RowsAlongK(const bf16* matrix, int stride, int first_row, int rows, unsigned shared)
    {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            from[i] = matrix + (size_t)min(first_row + row + i * ROWS_APART, rows - 1) * stride + chunk * 8;
        to = shared + swizzle<CHUNKS>(row, chunk);
    }
    // The step that begins at k = `ahead`, its first `depth` k; zeros for the rest.
    __device__ void copy(int stage, int ahead, int depth) const
    {
        const bool valid = (int)threadIdx.x % CHUNKS * 8 < depth;
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            cp_async16(to + stage * STAGE_BYTES + i * ROWS_APART * DEPTH * 2, from[i] + ahead, valid);
    }
    __device__ void advance(int depth)
    {
#pragma unroll
        for (int i = 0; i < COPIES; ++i) from[i] += depth;
    }
};

// The same for a matrix whose rows run along n: DEPTH rows of TILE columns at a time.
struct RowsAlongN {
    static constexpr int CHUNKS = TILE / 8, ROWS_APART = THREADS / CHUNKS, COPIES = DEPTH / ROWS_APART;
    const bf16* from;
    int stride;
    unsigned to;

    __device__ RowsAlongN(const bf16* matrix, int stride, int first_column, int columns, unsigned shared)
        : stride(stride)
    {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        from = matrix + (size_t)row * stride + min(first_column + chunk * 8, columns - 8);
        to = shared + swizzle<CHUNKS>(row, chunk);
    }
    __device__ void copy(int stage, int ahead, int depth) const
    {
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            cp_async16(to + stage * STAGE_BYTES + i * ROWS_APART * TILE * 2,
                       from + (long long)stride * (ahead + i * ROWS_APART),
                       depth == DEPTH || (int)threadIdx.x / CHUNKS + i * ROWS_APART < depth);
    }
    __device__ void advance(int depth) { from += (long long)stride * depth; }
};

// sum += a b over the K of one pair of operands.
template <class OperandB>
__device__ inline void add_product(float (&sum)[4][8][4], unsigned shared, const bf16* a, int stride_a,
                                   const bf16* b, int stride_b, Tile tile, int M, int N, int K)
{
    constexpr bool NT = OperandB::CHUNKS == DEPTH / 8;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int steps = (K + DEPTH - 1) / DEPTH, first_depth = K - (steps - 1) * DEPTH;

    RowsAlongK tile_a(a, stride_a, tile.m, M, shared);
    OperandB tile_b(b, stride_b, tile.n, N, shared + OPERAND_BYTES);

    // where this lane's rows of 8x8 pieces lie: see ldmatrix_x4 and mma_bf16
    unsigned read_a[2], read_b[4];
#pragma unroll
    for (int k = 0; k < 2; ++k)
        read_a[k] = shared + swizzle<DEPTH / 8>(warp / 2 * HALF + lane % 16, k * 2 + lane / 16);
#pragma unroll
    for (int j = 0; j < 4; ++j)
        read_b[j] = shared + OPERAND_BYTES
            + (NT ? swizzle<OperandB::CHUNKS>(warp % 2 * HALF + lane / 16 * 8 + lane % 8, j % 2 * 2 + lane / 8 % 2)
                  : swizzle<OperandB::CHUNKS>(lane % 16, (warp % 2 * HALF + j * 16) / 8 + lane / 16));

    // The compiler cannot see through these, so it keeps the addresses instead of finding them anew in the loop.
#pragma unroll
    for (int k = 0; k < 2; ++k) asm("" : "+r"(read_a[k]));
#pragma unroll
    for (int j = 0; j < 4; ++j) asm("" : "+r"(read_b[j]));

    __syncthreads();           // whoever used the shared memory before is done
    tile_a.copy(0, 0, first_depth);
    tile_b.copy(0, 0, first_depth);
    cp_async_commit();
    tile_a.advance(first_depth);
    tile_b.advance(first_depth);
    if (steps > 1) {
        tile_a.copy(1, 0, DEPTH);
        tile_b.copy(1, 0, DEPTH);
    }
    cp_async_commit();
    tile_a.advance(DEPTH);
    tile_b.advance(DEPTH);

    for (int base = 0; base < steps; base += STAGES) {
#pragma unroll
        for (int stage = 0; stage < STAGES; ++stage) {     // unrolled: a stage's place is a constant
            if (base + stage >= steps) break;
            cp_async_wait<STAGES - 2>();
            __syncthreads();   // this step's operands are here, and the step before is done with its stage
            if (base + stage + STAGES - 1 < steps) {
                tile_a.copy((stage + STAGES - 1) % STAGES, stage * DEPTH, DEPTH);
                tile_b.copy((stage + STAGES - 1) % STAGES, stage * DEPTH, DEPTH);
            }
            cp_async_commit();
#pragma unroll
            for (int k = 0; k < DEPTH / 16; ++k) {
                unsigned piece_a[4][4], piece_b[4][4];
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    ldmatrix_x4(piece_a[i], read_a[k] + stage * STAGE_BYTES + i * 16 * DEPTH * 2);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    if (NT) ldmatrix_x4(piece_b[j], read_b[k] + stage * STAGE_BYTES + j * 16 * DEPTH * 2);
                    else ldmatrix_x4_trans(piece_b[j], read_b[j] + stage * STAGE_BYTES + k * 16 * TILE * 2);
                }
#pragma unroll
                for (int i = 0; i < 4; ++i)
#pragma unroll
                    for (int j = 0; j < 8; ++j)
                        mma_bf16(sum[i][j], piece_a[i], piece_b[j / 2][j % 2 * 2], piece_b[j / 2][j % 2 * 2 + 1]);
            }
        }
        tile_a.advance(STAGES * DEPTH);
        tile_b.advance(STAGES * DEPTH);
    }
}

// Zeroes the sums whose bit in keep is not set.
__device__ inline void drop(float (&sum)[4][8][4], const uint4* keep, Tile tile, int M)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int half = 0; half < 8; ++half) {     // 8 rows at a time
        const int row = min(tile.m + warp / 2 * HALF + half * 8 + lane / 4, M - 1);
        const uint2 words = reinterpret_cast<const uint2*>(keep + (size_t)(tile.n / TILE) * M + row)[warp % 2];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const unsigned pair = (j < 4 ? words.x : words.y) >> (j % 4 * 8 + lane % 4 * 2);
#pragma unroll
            for (int k = 0; k < 2; ++k)
                if (!(pair >> k & 1)) sum[half / 2][j][half % 2 * 2 + k] = 0.0f;
        }
    }
}

// 16 bytes of c.
template <class Element> struct Vector;
template <> struct Vector<bf16> {
    static constexpr int WIDTH = 8;
    static __device__ void add(float (&sum)[WIDTH], uint4 c)
    {
        const f32x8 f = to_f32(bf16x8{{{c.x}, {c.y}, {c.z}, {c.w}}});
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) sum[k] += f[k];
    }
    static __device__ uint4 rounded(const float (&sum)[WIDTH])
    {
        return make_uint4(to_bf16(sum[0], sum[1]).bits, to_bf16(sum[2], sum[3]).bits,
                          to_bf16(sum[4], sum[5]).bits, to_bf16(sum[6], sum[7]).bits);
    }
};
template <> struct Vector<float> {
    static constexpr int WIDTH = 4;
    static __device__ void add(float (&sum)[WIDTH], uint4 c)
    {
        sum[0] += __uint_as_float(c.x);
        sum[1] += __uint_as_float(c.y);
        sum[2] += __uint_as_float(c.z);
        sum[3] += __uint_as_float(c.w);
    }
    static __device__ uint4 rounded(const float (&sum)[WIDTH])
    {
        return make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                          __float_as_uint(sum[3]));
    }
};

// Place of four f32 in a warp's 16 x 64 staged sums. A row is 8 pairs of 16-byte units. Lanes write the pair
// of one column in 4 rows at a time: the xor with the row puts these in different banks. Lanes read 16 bytes of
// 8 pairs of a row at a time, or of 4 whole pairs: pairs 4 to 7 swap halves, so these differ, too.
__device__ inline int staged(int row, int pair, int half)
{
    return row * 16 + (pair ^ row % 4) * 2 + (half ^ pair / 4);
}

// c = sum + bias (+ c): 16 rows of a warp at a time go through shared memory, for stores of whole sectors.
template <class Element>
__device__ inline void store(Element* c, int stride, const float (&sum)[4][8][4], float4* shared,
                             const bf16* bias, bool accumulate, Tile tile, int M, int N)
{
    constexpr int WIDTH = Vector<Element>::WIDTH, LANES = HALF / WIDTH, ROWS = WARP / LANES;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int row = tile.m + warp / 2 * HALF + lane / LANES;
    const int place = lane % LANES * WIDTH, column = tile.n + warp % 2 * HALF + place;
    float4* mine = shared + warp * 16 * HALF / 4;

    float offset[WIDTH] = {};
    if (bias && column < N) {
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) offset[k] = to_f32(bias[column + k]);
    }
    __syncthreads();           // the last step's operands are read; each warp stages in a part of its own
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        uint4 old[16 / ROWS];
#pragma unroll
        for (int r = 0; r < 16 / ROWS; ++r) {
            const int m = row + i * 16 + r * ROWS;
            if (accumulate && m < M && column < N)
                old[r] = *reinterpret_cast<const uint4*>(c + (size_t)m * stride + column);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
#pragma unroll
            for (int below = 0; below < 2; ++below)
                reinterpret_cast<float2*>(mine + staged(lane / 4 + below * 8, j, lane % 4 / 2))[lane % 2] =
                    make_float2(sum[i][j][below * 2], sum[i][j][below * 2 + 1]);
        }
        __syncwarp();          // staged for the whole warp
#pragma unroll
        for (int r = 0; r < 16 / ROWS; ++r) {
            float value[WIDTH];
#pragma unroll
            for (int k = 0; k < WIDTH; k += 4) {
                const float4 f = mine[staged(lane / LANES + r * ROWS, (place + k) / 8, (place + k) / 4 % 2)];
                value[k] = f.x + offset[k];
                value[k + 1] = f.y + offset[k + 1];
                value[k + 2] = f.z + offset[k + 2];
                value[k + 3] = f.w + offset[k + 3];
            }
            const int m = row + i * 16 + r * ROWS;
            if (m < M && column < N) {
                if (accumulate) Vector<Element>::add(value, old[r]);
                *reinterpret_cast<uint4*>(c + (size_t)m * stride + column) = Vector<Element>::rounded(value);
            }
        }
        __syncwarp();          // read by all before the next 16 rows come
    }
}

template <class OperandB, class Element>
__device__ inline void gemm(Element* c, const bf16* a, const bf16* b, const bf16* bias, const bf16* u,
                            const bf16* v, const uint4* keep, int stride_c, int stride_a, int stride_b,
                            int stride_u, int stride_v, int M, int N, int K, int R, int accumulate)
{
    __shared__ uint4 memory[STAGES * STAGE_BYTES / 16];
    const Tile tile = tile_of_block(M, N);
    const unsigned shared = shared_address(memory);
    float sum[4][8][4] = {};
    // one body for both products, so the loop over k is in the instruction cache once
#pragma unroll 1
    for (int main = R > 0 ? 0 : 1; main < 2; ++main) {
        add_product<OperandB>(sum, shared, main ? a : u, main ? stride_a : stride_u, main ? b : v,
                              main ? stride_b : stride_v, tile, M, N, main ? K : R);
        if (!main && keep) drop(sum, keep, tile, M);
    }
    store(c, stride_c, sum, reinterpret_cast<float4*>(memory), bias, accumulate, tile, M, N);
}

}  // namespace

#define GEMM(name, element, Operand) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) name( \
        element* c_MN, const bf16* __restrict__ a_MK, const bf16* __restrict__ b, \
        const bf16* __restrict__ bias_N, const bf16* __restrict__ u_MR, const bf16* __restrict__ v, \
        const uint4* __restrict__ keep, int stride_c, int stride_a, int stride_b, int stride_u, int stride_v, \
        int M, int N, int K, int R, int accumulate) \
    { \
        gemm<Operand>(c_MN, a_MK, b, bias_N, u_MR, v, keep, stride_c, stride_a, stride_b, stride_u, stride_v, \
                      M, N, K, R, accumulate); \
    }

GEMM(gemm_nt_bf16, bf16, RowsAlongK)
GEMM(gemm_nn_bf16, bf16, RowsAlongN)
GEMM(gemm_nt_f32, float, RowsAlongK)
GEMM(gemm_nn_f32, float, RowsAlongN)
