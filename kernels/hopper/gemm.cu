// hopper/gemm.cu - gemm.cu's products by TMA and wgmma.
//
//   nt   c[m,n] = sum_k a[m,k] b[n,k] + sum_r u[m,r] v[n,r] + bias[n] (+ c[m,n])      y = x W^T + xa B^T + bias
//   nn   c[m,n] = sum_k a[m,k] b[k,n] + keep[m,n] sum_r u[m,r] v[r,n] (+ c[m,n])      dx = dy W + mask (dxa A)
//
// Source    docs/math.md#lora, as gemm.cu. The pipeline is the usual one of Hopper (CUTLASS, "warp-specialised
//           persistent cooperative"): one thread copies, two warpgroups multiply, mbarriers between them
// Shapes    a: bf16 [M, K]   b: bf16 [N, K] (nt), [K, N] (nn)   c: bf16 or f32 [M, N]   bias: bf16 [N] or null
//           u: bf16 [M, R]   v: bf16 [N, R] (nt), [R, N] (nn)   R = 0: no adapter, the maps of u and v unused
//           keep: as in gemm.cu. a, b, u, v come as tensor maps with tiles of 64 columns and 128 (a, u), COLUMNS (b, v
//           of nt) or 64 (b, v of nn) rows, swizzled by 128 bytes; what a tile has beyond its matrix is 0
// Numerics  sums in f32 on tensor cores, r before k, both rising. c, old and new, is added in f32: one rounding
// Needs     sm_90a; M, N, K >= 1; N, K, R and all strides multiples of 8; matrices 16-byte aligned
// Grid      at most one block of 384 threads for each multiprocessor; each takes every gridDim.x-th tile of
//           128 x COLUMNS, 256 or 192: whichever covers N with less waste. Dynamic shared memory: the stages of
//           2 (128 + COLUMNS) 64 bytes, 4 or 5, two barriers of 8 bytes for each, and 1024 bytes that align them
// Repeats   bit-identical from run to run and for any grid: no split over K, no atomics
// Cost      2 M N (K + 64 ceil(R / 64)) FLOPs at most. A tile of 256 columns reads 384 (K + R) operand elements, 85 FLOPs
//           a byte from L2
// Oracle    src/ops/linear.rs and src/ops/lora.rs, the CPU forms
#include "prelude.cuh"
#include "hopper/async.cuh"
#include "hopper/store.cuh"

namespace {

constexpr int ROWS = 128;      // of a tile
constexpr int DEPTH = 64;      // k in a step: a line of 128 bytes, as wide as the swizzle
constexpr int GROUP = 16;      // tile rows that run side by side, so that blocks in flight share both operands in L2
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2;   // warpgroups, 64 rows each
constexpr int THREADS = WARPGROUP * (1 + CONSUMERS);
constexpr int LINE = 128;      // bytes
constexpr int A_BYTES = ROWS * LINE;
// A block of B whose lines run along n: 64 columns of all DEPTH k.
constexpr int B_BLOCK_BYTES = DEPTH * LINE;
constexpr int ALIGNMENT = 1024;        // of a swizzled tile

struct Tile { int m, n; };     // first row and column of c

template <int COLUMNS> __device__ inline Tile tile_at(int index, int M, int N)
{
    const int tiles_m = (M + ROWS - 1) / ROWS, tiles_n = (N + COLUMNS - 1) / COLUMNS;
    const int first = index / (GROUP * tiles_n) * GROUP, place = index % (GROUP * tiles_n);
    const int rows = min(GROUP, tiles_m - first);
    return {(first + place % rows) * ROWS, place / rows * COLUMNS};
}

// The ring of stages: where the next step's operands lie, and whether they are there or may be replaced.
template <int COLUMNS> struct Ring {
    static constexpr int STAGES = COLUMNS > 192 ? 4 : 5;   // as many as fit
    static constexpr int STAGE_BYTES = A_BYTES + COLUMNS * LINE;
    unsigned tiles, barriers;  // in shared memory
    int stage = 0;
    unsigned parity = 0;

    __device__ unsigned a() const { return tiles + stage * STAGE_BYTES; }
    __device__ unsigned b() const { return a() + A_BYTES; }
    __device__ unsigned full() const { return barriers + stage * 8; }
    __device__ unsigned empty() const { return full() + STAGES * 8; }
    __device__ void advance()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// One product's operands: K elements of each row of a, and what belongs to them.
struct Operands {
    const tensor_map& a;
    const tensor_map& b;
    int K;
};

// Copies the operands of one tile, step by step.
template <bool ALONG_N, int COLUMNS>
__device__ inline void fetch(Ring<COLUMNS>& ring, const Operands& from, Tile tile)
{
    for (int k = 0; k < from.K; k += DEPTH) {
        mbarrier_wait(ring.empty(), ring.parity ^ 1);
        mbarrier_expect(ring.full(), ring.STAGE_BYTES);
        copy_tile(ring.a(), from.a, k, tile.m, ring.full());
        if (ALONG_N) {
#pragma unroll
            for (int block = 0; block < COLUMNS / 64; ++block)
                copy_tile(ring.b() + block * B_BLOCK_BYTES, from.b, tile.n + block * 64, k, ring.full());
        } else {
            copy_tile(ring.b(), from.b, k, tile.n, ring.full());
        }
        ring.advance();
    }
}

// The descriptors of a warpgroup's part of a stage, and how far 16 k lie apart in b.
template <bool ALONG_N> struct Stage {
    static constexpr int B_STEP = (ALONG_N ? 16 * LINE : 32) / 16;
    unsigned long long a, b;
    template <class Stages>
    __device__ Stage(const Stages& ring, int consumer)
        : a(describe(ring.a() + consumer * 64 * LINE, 0, 8 * LINE)),
          b(describe(ring.b(), ALONG_N ? B_BLOCK_BYTES : 0, 8 * LINE)) {}
    template <class Sum> __device__ void multiply(Sum& sum, int slice) const
    {
        wgmma<ALONG_N>(sum, a + slice * 2, b + slice * B_STEP);
    }
};

// sum += u v: few slices, one after the other. Each warp says on its own that it is done with a stage.
template <bool ALONG_N, class Sum, class Stages>
__device__ inline void add_adapter(Sum& sum, Stages& ring, int consumer, int R)
{
    for (int r = 0; r < R; r += DEPTH) {
        mbarrier_wait(ring.full(), ring.parity);
        const Stage<ALONG_N> stage(ring, consumer);
#pragma unroll 1
        for (int slice = 0; slice * 16 < min(R - r, DEPTH); ++slice) {
            wgmma_fence();
            stage.multiply(sum, slice);
            wgmma_commit();
            wgmma_wait<0>();
        }
        if (threadIdx.x % WARP == 0) mbarrier_arrive(ring.empty());
        ring.advance();
    }
}

// Starts the products of the next step.
template <bool ALONG_N, class Sum, class Stages>
__device__ inline void start_step(Sum& sum, const Stages& ring, int consumer)
{
    mbarrier_wait(ring.full(), ring.parity);
    const Stage<ALONG_N> stage(ring, consumer);
    wgmma_fence();
#pragma unroll
    for (int slice = 0; slice < DEPTH / 16; ++slice) stage.multiply(sum, slice);
    wgmma_commit();
}

// sum += a b: while a step's products run, those of the step before come to an end. The first step stands before the
// loop, so that products are on their way wherever it begins: else the compiler has each of them waited for.
template <bool ALONG_N, class Sum, class Stages>
__device__ inline void add_product(Sum& sum, Stages& ring, int consumer, int K)
{
    start_step<ALONG_N>(sum, ring, consumer);
    unsigned before = ring.empty();
    ring.advance();
#pragma unroll 1
    for (int k = DEPTH; k < K; k += DEPTH) {
        start_step<ALONG_N>(sum, ring, consumer);
        wgmma_wait<1>();
        if (threadIdx.x % WARP == 0) mbarrier_arrive(before);
        before = ring.empty();
        ring.advance();
    }
    wgmma_wait<0>();
    if (threadIdx.x % WARP == 0) mbarrier_arrive(before);
}

// Zeroes the sums whose bit in keep is not set. `row` is that of the lane's first sum.
template <int COLUMNS>
__device__ inline void drop(float (&sum)[COLUMNS / 8][4], const uint4* keep, int row, int first_column, int M, int N)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int below = 0; below < 2; ++below) {
        const int m = min(row + below * 8, M - 1);
#pragma unroll
        for (int half = 0; half < COLUMNS / 64; ++half) {  // of a panel of 128 columns
            const int column = min(first_column + half * 64, N - 1);
            const uint2 words = reinterpret_cast<const uint2*>(keep + (size_t)(column / 128) * M + m)[column % 128 / 64];
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const unsigned pair = (j < 4 ? words.x : words.y) >> (j % 4 * 8 + lane % 4 * 2);
#pragma unroll
                for (int k = 0; k < 2; ++k)
                    if (!(pair >> k & 1)) sum[half * 8 + j][below * 2 + k] = 0.0f;
            }
        }
    }
}

// value += 8 elements of memory.
__device__ inline void add8(float (&value)[4][2], const bf16* from)
{
    const f32x8 f = to_f32(load8(from));
#pragma unroll
    for (int k = 0; k < 8; ++k) value[k / 2][k % 2] += f[k];
}
__device__ inline void add8(float (&value)[4][2], const float* from)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float4 f = reinterpret_cast<const float4*>(from)[half];
        value[half * 2][0] += f.x;
        value[half * 2][1] += f.y;
        value[half * 2 + 1][0] += f.z;
        value[half * 2 + 1][1] += f.w;
    }
}

// c = sum + bias (+ c), 16 bytes or more of a lane at a time, 64 or more of a row.
template <int COLUMNS, class Element>
__device__ inline void store(Element* c, int stride, const float (&sum)[COLUMNS / 8][4], const bf16* bias,
                             bool accumulate, int row, int first_column, int M, int N)
{
#pragma unroll
    for (int four = 0; four < COLUMNS / 32; ++four) {
        const int column = first_column + four * 32 + threadIdx.x % 4 * 8;
#pragma unroll
        for (int below = 0; below < 2; ++below) {
            float value[4][2];
            gather(value, sum, four, below);
            const int m = row + below * 8;
            if (m >= M || column >= N) continue;
            Element* to = c + (size_t)m * stride + column;
            if (bias) add8(value, bias + column);
            if (accumulate) add8(value, to);
            store8(to, value);
        }
    }
}

template <bool ALONG_N, int COLUMNS, class Element>
__device__ inline void gemm(Element* c, const tensor_map& a, const tensor_map& b, const bf16* bias, const tensor_map& u,
                            const tensor_map& v, const uint4* keep, int stride_c, int M, int N, int K, int R,
                            int accumulate)
{
    extern __shared__ unsigned char memory[];
    const unsigned tiles_at = (shared_address(memory) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    using Stages = Ring<COLUMNS>;
    Stages ring{tiles_at, tiles_at + Stages::STAGES * Stages::STAGE_BYTES};
    const int tiles = (M + ROWS - 1) / ROWS * ((N + COLUMNS - 1) / COLUMNS);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Stages::STAGES; ++stage) {
            mbarrier_init(ring.barriers + stage * 8, 1);
            mbarrier_init(ring.barriers + (Stages::STAGES + stage) * 8, CONSUMERS * WARPGROUP / WARP);
        }
        mbarrier_init_fence();
    }
    __syncthreads();

    if (threadIdx.x < WARPGROUP) {
        keep_registers<40>();
        if (threadIdx.x > 0) return;
        for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
            const Tile tile = tile_at<COLUMNS>(index, M, N);
            fetch<ALONG_N>(ring, Operands{u, v, R}, tile);
            fetch<ALONG_N>(ring, Operands{a, b, K}, tile);
        }
    } else {
        take_registers<232>();
        const int consumer = threadIdx.x / WARPGROUP - 1;
        const int own_row = consumer * 64 + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
        for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
            const Tile tile = tile_at<COLUMNS>(index, M, N);
            float sum[COLUMNS / 8][4] = {};
            add_adapter<ALONG_N>(sum, ring, consumer, R);
            if (keep) drop<COLUMNS>(sum, keep, tile.m + own_row, tile.n, M, N);
            add_product<ALONG_N>(sum, ring, consumer, K);
            store<COLUMNS>(c, stride_c, sum, bias, accumulate, tile.m + own_row, tile.n, M, N);
        }
    }
}

}  // namespace

#define GEMM(name, element, along_n, columns) \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) name( \
        element* c_MN, const __grid_constant__ tensor_map a_MK, const __grid_constant__ tensor_map b, \
        const bf16* __restrict__ bias_N, const __grid_constant__ tensor_map u_MR, \
        const __grid_constant__ tensor_map v, const uint4* __restrict__ keep, int stride_c, int M, int N, int K, \
        int R, int accumulate) \
    { \
        gemm<along_n, columns>(c_MN, a_MK, b, bias_N, u_MR, v, keep, stride_c, M, N, K, R, accumulate); \
    }

GEMM(gemm_wgmma_nt_bf16_n256, bf16, false, 256)
GEMM(gemm_wgmma_nn_bf16_n256, bf16, true, 256)
GEMM(gemm_wgmma_nt_f32_n256, float, false, 256)
GEMM(gemm_wgmma_nn_f32_n256, float, true, 256)
GEMM(gemm_wgmma_nt_bf16_n192, bf16, false, 192)
GEMM(gemm_wgmma_nn_bf16_n192, bf16, true, 192)
GEMM(gemm_wgmma_nt_f32_n192, float, false, 192)
GEMM(gemm_wgmma_nn_f32_n192, float, true, 192)
