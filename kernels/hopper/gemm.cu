// hopper/gemm.cu - gemm.cu's products by TMA and wgmma.
//
//   nt   c[m,n] = sum_k a[m,k] b[n,k] + sum_r u[m,r] v[n,r] + bias[n] (+ c[m,n])      y = x W^T + xa B^T + bias
//   nn   c[m,n] = sum_k a[m,k] b[k,n] + keep[m,n] sum_r u[m,r] v[r,n] (+ c[m,n])      dx = dy W + mask (dxa A)
//
// Source    docs/math.md#lora, as gemm.cu. The pipeline is the usual one of Hopper (CUTLASS, "warp-specialised
//           persistent cooperative"): one thread copies, two warpgroups multiply, mbarriers between them
// Shapes    a: bf16 [M, K]   b: bf16 [N, K] (nt), [K, N] (nn)   c: bf16 or f32 [M, N]   bias: bf16 [N] or null
//           u: bf16 [M, R]   v: bf16 [N, R] (nt), [R, N] (nn)   R = 0: no adapter, the maps of u and v unused
//           keep: as in gemm.cu. a, b, u, v come as tensor maps with tiles of 64 columns and 128 (a, u), 256 (b, v of
//           nt) or 64 (b, v of nn) rows, swizzled by 128 bytes; what a tile has beyond its matrix is 0
// Numerics  sums in f32 on tensor cores, r before k, both rising. c, old and new, is added in f32: one rounding
// Needs     sm_90a; M, N, K >= 1; N, K, R and all strides multiples of 8; matrices 16-byte aligned
// Grid      at most one block of 384 threads for each multiprocessor; each takes every gridDim.x-th tile of 128 x 256.
//           197696 bytes of dynamic shared memory: 4 stages of 48 KiB, their barriers, and what aligns them
// Repeats   bit-identical from run to run and for any grid: no split over K, no atomics
// Cost      2 M N (K + 64 ceil(R / 64)) FLOPs at most. A tile reads 384 (K + R) operand elements, 85 FLOPs a byte from L2
// Oracle    src/ops/linear.rs and src/ops/lora.rs, the CPU forms
#include "prelude.cuh"
#include "hopper/async.cuh"

namespace {

constexpr int TILE_M = 128, TILE_N = 256;
constexpr int DEPTH = 64;      // k in a step: a line of 128 bytes, as wide as the swizzle
constexpr int STAGES = 4;
constexpr int GROUP = 16;      // tile rows that run side by side, so that blocks in flight share both operands in L2
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2;   // warpgroups, 64 rows each
constexpr int THREADS = WARPGROUP * (1 + CONSUMERS);
constexpr int LINE = 128;      // bytes
constexpr int A_BYTES = TILE_M * LINE, B_BYTES = TILE_N * LINE, STAGE_BYTES = A_BYTES + B_BYTES;
// A block of B whose lines run along n: 64 columns of all DEPTH k.
constexpr int B_BLOCK_BYTES = DEPTH * LINE;
constexpr int ALIGNMENT = 1024;        // of a swizzled tile

struct Tile { int m, n; };     // first row and column of c

__device__ inline Tile tile_at(int index, int M, int N)
{
    const int tiles_m = (M + TILE_M - 1) / TILE_M, tiles_n = (N + TILE_N - 1) / TILE_N;
    const int first = index / (GROUP * tiles_n) * GROUP, place = index % (GROUP * tiles_n);
    const int rows = min(GROUP, tiles_m - first);
    return {(first + place % rows) * TILE_M, place / rows * TILE_N};
}

// The ring of stages: where the next step's operands lie, and whether they are there or may be replaced.
struct Ring {
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
template <bool ALONG_N> __device__ inline void fetch(Ring& ring, const Operands& from, Tile tile)
{
    for (int k = 0; k < from.K; k += DEPTH) {
        mbarrier_wait(ring.empty(), ring.parity ^ 1);
        mbarrier_expect(ring.full(), STAGE_BYTES);
        copy_tile(ring.a(), from.a, k, tile.m, ring.full());
        if (ALONG_N) {
#pragma unroll
            for (int block = 0; block < TILE_N / 64; ++block)
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
    __device__ Stage(const Ring& ring, int consumer)
        : a(describe(ring.a() + consumer * 64 * LINE, 0, 8 * LINE)),
          b(describe(ring.b(), ALONG_N ? B_BLOCK_BYTES : 0, 8 * LINE)) {}
    __device__ void multiply(float (&sum)[32][4], int slice) const
    {
        wgmma<ALONG_N>(sum, a + slice * 2, b + slice * B_STEP);
    }
};

// sum += u v: few slices, one after the other. Each warp says on its own that it is done with a stage.
template <bool ALONG_N> __device__ inline void add_adapter(float (&sum)[32][4], Ring& ring, int consumer, int R)
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
template <bool ALONG_N> __device__ inline void start_step(float (&sum)[32][4], const Ring& ring, int consumer)
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
template <bool ALONG_N> __device__ inline void add_product(float (&sum)[32][4], Ring& ring, int consumer, int K)
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

// Zeroes the sums whose bit in keep is not set. `row` and `column` are those of the lane's first sum.
__device__ inline void drop(float (&sum)[32][4], const uint4* keep, int row, int first_column, int M, int N)
{
    const int panels = (N + 127) / 128, lane = threadIdx.x % WARP;
#pragma unroll
    for (int below = 0; below < 2; ++below) {
        const int m = min(row + below * 8, M - 1);
#pragma unroll
        for (int panel = 0; panel < TILE_N / 128; ++panel) {
            const uint4 words = keep[(size_t)min(first_column / 128 + panel, panels - 1) * M + m];
            const unsigned word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
            for (int j = 0; j < 16; ++j) {
                const unsigned pair = word[j / 4] >> (j % 4 * 8 + lane % 4 * 2);
#pragma unroll
                for (int k = 0; k < 2; ++k)
                    if (!(pair >> k & 1)) sum[panel * 16 + j][below * 2 + k] = 0.0f;
            }
        }
    }
}

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

// value += 8 elements of memory; 8 elements of memory = value.
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

// c = sum + bias (+ c), 16 bytes or more of a lane at a time, 64 or more of a row.
template <class Element>
__device__ inline void store(Element* c, int stride, const float (&sum)[32][4], const bf16* bias, bool accumulate,
                             int row, int first_column, int M, int N)
{
#pragma unroll
    for (int four = 0; four < 8; ++four) {
        const int column = first_column + four * 32 + threadIdx.x % 4 * 8;
#pragma unroll
        for (int below = 0; below < 2; ++below) {
            float value[4][2];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                value[i][0] = sum[four * 4 + i][below * 2];
                value[i][1] = sum[four * 4 + i][below * 2 + 1];
            }
            gather_columns(value);
            const int m = row + below * 8;
            if (m >= M || column >= N) continue;
            Element* to = c + (size_t)m * stride + column;
            if (bias) add8(value, bias + column);
            if (accumulate) add8(value, to);
            store8(to, value);
        }
    }
}

template <bool ALONG_N, class Element>
__device__ inline void gemm(Element* c, const tensor_map& a, const tensor_map& b, const bf16* bias, const tensor_map& u,
                            const tensor_map& v, const uint4* keep, int stride_c, int M, int N, int K, int R,
                            int accumulate)
{
    extern __shared__ unsigned char memory[];
    const unsigned tiles_at = (shared_address(memory) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    Ring ring{tiles_at, tiles_at + STAGES * STAGE_BYTES};
    const int tiles = (M + TILE_M - 1) / TILE_M * ((N + TILE_N - 1) / TILE_N);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            mbarrier_init(ring.barriers + stage * 8, 1);
            mbarrier_init(ring.barriers + (STAGES + stage) * 8, CONSUMERS * WARPGROUP / WARP);
        }
        mbarrier_init_fence();
    }
    __syncthreads();

    if (threadIdx.x < WARPGROUP) {
        keep_registers<40>();
        if (threadIdx.x > 0) return;
        for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
            const Tile tile = tile_at(index, M, N);
            fetch<ALONG_N>(ring, Operands{u, v, R}, tile);
            fetch<ALONG_N>(ring, Operands{a, b, K}, tile);
        }
    } else {
        take_registers<232>();
        const int consumer = threadIdx.x / WARPGROUP - 1;
        const int own_row = consumer * 64 + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
        for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
            const Tile tile = tile_at(index, M, N);
            float sum[32][4] = {};
            add_adapter<ALONG_N>(sum, ring, consumer, R);
            if (keep) drop(sum, keep, tile.m + own_row, tile.n, M, N);
            add_product<ALONG_N>(sum, ring, consumer, K);
            store(c, stride_c, sum, bias, accumulate, tile.m + own_row, tile.n, M, N);
        }
    }
}

}  // namespace

#define GEMM(name, element, along_n) \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) name( \
        element* c_MN, const __grid_constant__ tensor_map a_MK, const __grid_constant__ tensor_map b, \
        const bf16* __restrict__ bias_N, const __grid_constant__ tensor_map u_MR, \
        const __grid_constant__ tensor_map v, const uint4* __restrict__ keep, int stride_c, int M, int N, int K, \
        int R, int accumulate) \
    { \
        gemm<along_n>(c_MN, a_MK, b, bias_N, u_MR, v, keep, stride_c, M, N, K, R, accumulate); \
    }

GEMM(gemm_wgmma_nt_bf16, bf16, false)
GEMM(gemm_wgmma_nn_bf16, bf16, true)
GEMM(gemm_wgmma_nt_f32, float, false)
GEMM(gemm_wgmma_nn_f32, float, true)
