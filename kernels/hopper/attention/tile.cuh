// tile.cuh - what Hopper's attention kernels share: tiles that TMA brings, whose turn it is, a warpgroup's products.
//
// One warpgroup copies: a single thread of it. The others multiply, 64 rows each. A tile lies as blocks of 64 columns, each
// row of a block a line of 128 bytes, as wide as the swizzle.
#pragma once
#include "attention/sight.cuh"
#include "hopper/async.cuh"

constexpr int WARPGROUP = 128;
constexpr int WARPGROUP_ROWS = 64;
constexpr int CONSUMERS = 2;           // warpgroups that multiply
constexpr int THREADS = WARPGROUP * (1 + CONSUMERS);
constexpr int ROWS = CONSUMERS * WARPGROUP_ROWS;   // of a block's own tile
constexpr int LINE = 128;              // bytes
constexpr int ALIGNMENT = 1024;        // of a swizzled tile

// Who sees whom, and what the blocks do: attention/sight.cuh. A block takes every gridDim.x-th pair of a task and a head.
struct Work {
    const int2* limits;
    const int* ends;
    const int4* tasks;
    const int* visits;
    int pairs, heads;

    __device__ int4 task(int pair) const { return tasks[pair / heads]; }
    __device__ int head(int pair) const { return pair % heads; }
};

// A tile in shared memory, and the barriers that say that it is there and that it may be replaced.
struct Slot { unsigned tile, full, empty; };

// Each slot has a number, which names its barriers.
__device__ inline Slot slot_at(unsigned tile, unsigned barriers, int number)
{
    return {tile, barriers + number * 16, barriers + number * 16 + 8};
}

__device__ inline void init_slots(unsigned barriers, int count)
{
    if (threadIdx.x == 0) {
        for (int number = 0; number < count; ++number) {
            const Slot slot = slot_at(0, barriers, number);
            mbarrier_init(slot.full, 1);
            mbarrier_init(slot.empty, CONSUMERS * WARPGROUP / WARP);
        }
        mbarrier_init_fence();
    }
    __syncthreads();
}

// Which of the stages is next, and the parity of its phase.
template <int STAGES> struct Turn {
    int stage = 0;
    unsigned parity = 0;
    __device__ void advance()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// Where swizzled tiles may begin in the dynamic shared memory.
__device__ inline unsigned aligned_memory()
{
    extern __shared__ unsigned char memory[];
    return (shared_address(memory) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// The number of this thread's warpgroup of those that multiply, and of the lane's first row among all their rows.
__device__ inline int own_warpgroup() { return threadIdx.x / WARPGROUP - 1; }
__device__ inline int own_row()
{
    return own_warpgroup() * WARPGROUP_ROWS + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
}
// Where the warpgroup's rows begin in a tile of ROWS rows.
__device__ inline unsigned own_part(Slot slot) { return slot.tile + own_warpgroup() * WARPGROUP_ROWS * LINE; }

// Whether there is a visit left, and the warpgroup's rows see something of its tile.
__device__ inline bool sees_some(const Visits& visit)
{
    return visit.left > 0 && sight_of(visit.current, own_warpgroup()) != NOTHING;
}
template <int STAGES> __device__ inline void advance(Visits& visit, Turn<STAGES>& turn)
{
    visit.advance();
    turn.advance();
}

// Copies TILE_ROWS rows of a head once the slot is free. `beside`: bytes that the caller adds to the slot's.
template <int E, int TILE_ROWS>
__device__ inline void fetch(Slot to, unsigned parity, const tensor_map& from, int head, int tile, int beside = 0)
{
    mbarrier_wait(to.empty, parity ^ 1);
    mbarrier_expect(to.full, TILE_ROWS * E * 2 + beside);
#pragma unroll
    for (int column = 0; column < E; column += 64)
        copy_tile(to.tile + column / 64 * TILE_ROWS * LINE, from, head * E + column, tile * TILE_ROWS, to.full);
}

__device__ inline void wait(Slot slot, unsigned parity) { mbarrier_wait(slot.full, parity); }

// Each warp says on its own that it is done with a tile.
__device__ inline void release(Slot slot)
{
    if (threadIdx.x % WARP == 0) mbarrier_arrive(slot.empty);
}

// A warpgroup's products with N rows of a tile: row l/4 of its warp and 8 below it in lane l, as mma_bf16's sums; the same
// as a operands.
template <int N> using Products = float[N / 8][4];
template <int N> using Operands = unsigned[N / 16][4];
using RowValues = float[2];

// Starts products (+)= own other^T over E columns. own: the warpgroup's first row in a tile of ROWS rows; other: N rows.
template <int E, int N, bool ADD = false>
__device__ inline void start_product(Products<N>& products, unsigned own, unsigned other)
{
    wgmma_fence();
#pragma unroll
    for (int e = 0; e < E; e += 16) {
        const unsigned long long a = describe(own + e / 64 * ROWS * LINE, 0, 8 * LINE) + e % 64 / 8;
        const unsigned long long b = describe(other + e / 64 * N * LINE, 0, 8 * LINE) + e % 64 / 8;
        if (e == 0) wgmma<false, ADD>(products, a, b);
        else wgmma<false, true>(products, a, b);
    }
    wgmma_commit();
}

// Starts sums += weights other over other's N rows, E columns.
template <int E, int N>
__device__ inline void start_weighted(Products<E>& sums, const Operands<N>& weights, unsigned other)
{
    const unsigned long long b = describe(other, N * LINE, 8 * LINE);
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < N / 16; ++j) wgmma<true>(sums, weights[j], b + j * 16 * LINE / 16);
    wgmma_commit();
}

// to = from, in other registers: were they the same, the compiler would have each product waited for that reads `to`
// while `from` is made.
template <int PIECES> __device__ inline void move(unsigned (&to)[PIECES][4], const unsigned (&from)[PIECES][4])
{
#pragma unroll
    for (int j = 0; j < PIECES; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) asm volatile("mov.b32 %0, %1;" : "=r"(to[j][i]) : "r"(from[j][i]));
}

template <int E> __device__ inline void clear(Products<E>& sums)
{
#pragma unroll
    for (int n = 0; n < E / 8; ++n) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;
}

// sums *= by, row by row.
template <int EIGHTS> __device__ inline void scale_rows(float (&sums)[EIGHTS][4], const RowValues& by)
{
#pragma unroll
    for (int n = 0; n < EIGHTS; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[n][i] *= by[i / 2];
}

// Hides the keys that own query rows with these limits do not see. ends: those of the N keys from first_key on.
template <int N>
__device__ inline void hide_unseen(Products<N>& scores, const int2 (&limits)[2], const int* ends, int first_key)
{
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
        const int column = n * 8 + threadIdx.x % 4 * 2, key = first_key + column;
        const int2 end = *reinterpret_cast<const int2*>(ends + column);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (!sees(limits[half], key, end.x)) scores[n][2 * half] = unseen();
            if (!sees(limits[half], key + 1, end.y)) scores[n][2 * half + 1] = unseen();
        }
    }
}
