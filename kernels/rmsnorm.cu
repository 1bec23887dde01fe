// rmsnorm.cu - root-mean-square norm of groups of consecutive values.
//
//   y[n,d]  = x[n,d] rrms[n] g[d]      rrms[n] = 1 / sqrt(mean_d(x[n,d]^2) + eps)      g[d] = offset + w[d]
//   dx[n,d] = dresidual[n,d] + rrms[n] (dy[n,d] g[d] - x[n,d] rrms[n]^2 mean_d(dy[n,d] g[d] x[n,d]))
//
// Source    Zhang & Sennrich 2019; docs/math.md#rmsnorm. offset is 1 for Gemma, else 0. The gain is frozen: no dw
// Shapes    x, y, dy, dx, dresidual: bf16 [N, D]   w: bf16 [D]   rrms: f32 [N]
//           a group is a row of the model's width, or a head of a row that holds several; groups are contiguous
// Numerics  all in f32, squares in a fixed tree; one rounding to bf16, at the store
// Needs     D % 8 == 0; D <= 8 * SLOTS * blockDim.x (rows), D <= 8 * lanes (heads); 16-byte aligned pointers
//           dresidual may be null (zeros are added) and may be dx: a thread reads an element before it writes it
// Grid      rows: a block a row, threads = D / 32 rounded up to whole warps, at most 512, so D <= 16384
//           heads: `lanes` threads a group (a power of two, 8 to 32), 256 threads a block
//           any number of blocks, which stride over the groups: enough to fill the device, so that a block reads
//           w once for many groups. The result does not depend on it
// Shared    128 bytes, rows only
// Repeats   bit-identical from run to run and for every grid (no atomics)
// Cost      forward 4 ND + 4 N + 2 D blocks bytes, backward 8 ND (6 ND without dresidual) + 4 N + 2 D blocks:
//           every tensor once; 4 and 9 FLOP an element; memory-bound
// Oracle    src/ops/rmsnorm.rs
//
// A group stays in registers from its only read to its only write, so both passes over it cost no traffic. Rows
// and heads differ in who adds up (a block, a few lanes) and in how much a thread holds, hence one body for both.
// The forward pass asks for its next group before it sums this one; the backward pass has no registers to spare
// for that and leaves it to the other blocks of the multiprocessor.
#include "prelude.cuh"

// The sum over LANES neighbouring lanes, in each of them. All 32 lanes of the warp take part.
template <int LANES>
__device__ inline float sum_of(float x)
{
#pragma unroll
    for (int apart = LANES / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}

// The threads that hold one group. Thread `lane` holds columns column(0) .. column(SLOTS - 1) and the 7 after each;
// a slot past the end of the group is left out.

// A whole block. A warp's slots lie side by side, so one address serves them all.
struct BlockTeam {
    static constexpr int SLOTS = 4, MAX_THREADS = 512, MAX_WARPS = MAX_THREADS / WARP;

    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int first = blockIdx.x;      // the first group of this warp's teams
    const int place = 0;               // of this team among them
    const int stride = gridDim.x;
    float (&of_warp)[2][MAX_WARPS];    // sums of the warps, of rows in turn
    int half = 0;

    __device__ explicit BlockTeam(float (&shared)[2][MAX_WARPS]) : of_warp(shared)
    {
        // The warps that this block has not add nothing. The first barrier orders these zeros, too.
        const int absent = threadIdx.x % MAX_WARPS;
        if (threadIdx.x < 2 * MAX_WARPS && absent >= blockDim.x / WARP)
            of_warp[threadIdx.x / MAX_WARPS][absent] = 0.0f;
    }

    __device__ int column(int slot) const { return 8 * (warp * SLOTS * WARP + slot * WARP + lane); }
    __device__ bool leads() const { return threadIdx.x == 0; }

    __device__ float sum(float x)
    {
        x = sum_of<WARP>(x);
        if (blockDim.x == WARP) return x;
        if (lane == 0) of_warp[half][warp] = x;
        // Orders the sums before their reads. One barrier a row is enough: a half is written again two rows on,
        // and no warp passes the barrier between before all have read it.
        __syncthreads();
        x = sum_of<MAX_WARPS>(of_warp[half][lane % MAX_WARPS]);
        half ^= 1;
        return x;
    }
};

// 8, 16 or 32 lanes of a warp.
struct LaneTeam {
    static constexpr int SLOTS = 1, MAX_THREADS = 256;

    const int lanes, lane, first, place, stride;

    __device__ explicit LaneTeam(int lanes)
        : lanes(lanes), lane(threadIdx.x % lanes),
          first((blockIdx.x * blockDim.x + threadIdx.x / WARP * WARP) / lanes),
          place(threadIdx.x % WARP / lanes), stride(gridDim.x * blockDim.x / lanes) {}

    __device__ int column(int) const { return 8 * lane; }
    __device__ bool leads() const { return lane == 0; }

    // All 32 lanes take part, whether their group exists or not.
    __device__ float sum(float x)
    {
        if (lanes > 16) x += __shfl_xor_sync(0xffffffffu, x, 16);
        if (lanes > 8) x += __shfl_xor_sync(0xffffffffu, x, 8);
        return sum_of<8>(x);
    }
};

template <class Team>
__device__ inline void load(bf16x8 (&held)[Team::SLOTS], const bf16* group_D, const Team& team, int D)
{
#pragma unroll
    for (int k = 0; k < Team::SLOTS; ++k)
        if (team.column(k) < D) held[k] = load8(group_D + team.column(k));
}

template <class Team>
__device__ inline void load_gain(f32x8 (&gain)[Team::SLOTS], const bf16* w_D, float offset, const Team& team, int D)
{
    bf16x8 w[Team::SLOTS] = {};
    load(w, w_D, team, D);
#pragma unroll
    for (int k = 0; k < Team::SLOTS; ++k) {
        gain[k] = to_f32(w[k]);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            gain[k][i] += offset;
            asm volatile("" : "+f"(gain[k].value[i]));   // else it is computed again for every group
        }
    }
}

template <class Team>
__device__ inline void forward(Team team, bf16* y_ND, float* rrms_N, const bf16* x_ND, const bf16* w_D,
                               float offset, float eps, int N, int D)
{
    constexpr int SLOTS = Team::SLOTS;
    const float inverse_width = __fdividef(1.0f, D);
    f32x8 gain[SLOTS];
    load_gain(gain, w_D, offset, team, D);

    bf16x8 ahead[SLOTS];
    if (team.first + team.place < N) load(ahead, x_ND + (size_t)(team.first + team.place) * D, team, D);
    for (int first = team.first; first < N; first += team.stride) {   // the same for a whole warp
        const int n = first + team.place, next = n + team.stride;
        f32x8 x[SLOTS];
        float sum_sq = 0.0f;
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            if (n >= N || team.column(k) >= D) continue;
            x[k] = to_f32(ahead[k]);
            float of_slot = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; ++i) of_slot = fmaf(x[k][i], x[k][i], of_slot);
            sum_sq += of_slot;
        }
        if (next < N) load(ahead, x_ND + (size_t)next * D, team, D);

        const float scale = rsqrtf(fmaf(team.sum(sum_sq), inverse_width, eps));
        if (n >= N) continue;
        if (team.leads()) rrms_N[n] = scale;
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            if (team.column(k) >= D) continue;
#pragma unroll
            for (int i = 0; i < 8; ++i) x[k][i] *= scale * gain[k][i];
            store8(y_ND + (size_t)n * D + team.column(k), to_bf16(x[k]));
        }
    }
}

template <class Team>
__device__ inline void backward(Team team, bf16* dx_ND, const bf16* dy_ND, const bf16* x_ND, const float* rrms_N,
                                const bf16* w_D, const bf16* dresidual_ND, float offset, int N, int D)
{
    constexpr int SLOTS = Team::SLOTS;
    const float inverse_width = __fdividef(1.0f, D);
    f32x8 gain[SLOTS];
    load_gain(gain, w_D, offset, team, D);

    for (int first = team.first; first < N; first += team.stride) {   // the same for a whole warp
        const int n = first + team.place;
        const size_t at = (size_t)n * D;
        bf16x8 dy[SLOTS], x[SLOTS], residual[SLOTS] = {};
        float scale = 0.0f;
        if (n < N) {
            load(dy, dy_ND + at, team, D);
            load(x, x_ND + at, team, D);
            if (dresidual_ND) load(residual, dresidual_ND + at, team, D);
            scale = rrms_N[n];
        }
        f32x8 dyg[SLOTS];
        float dot = 0.0f;
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            if (n >= N || team.column(k) >= D) continue;
            dyg[k] = to_f32(dy[k]);
            const f32x8 value = to_f32(x[k]);
            float of_slot = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                dyg[k][i] *= gain[k][i];
                of_slot = fmaf(dyg[k][i], value[i], of_slot);
            }
            dot += of_slot;
        }
        const float pull = team.sum(dot) * inverse_width * scale * scale;
        if (n >= N) continue;
#pragma unroll
        for (int k = 0; k < SLOTS; ++k) {
            if (team.column(k) >= D) continue;
            const f32x8 value = to_f32(x[k]), r = to_f32(residual[k]);
#pragma unroll
            for (int i = 0; i < 8; ++i) dyg[k][i] = fmaf(scale, fmaf(-pull, value[i], dyg[k][i]), r[i]);
            store8(dx_ND + at + team.column(k), to_bf16(dyg[k]));
        }
    }
}

extern "C" __global__ void __launch_bounds__(BlockTeam::MAX_THREADS) rmsnorm_forward_bf16(
    bf16* __restrict__ y_ND,           // out
    float* __restrict__ rrms_N,        // out, kept for backward
    const bf16* __restrict__ x_ND,
    const bf16* __restrict__ w_D,
    float offset, float eps, int N, int D)
{
    __shared__ float of_warp[2][BlockTeam::MAX_WARPS];
    forward(BlockTeam(of_warp), y_ND, rrms_N, x_ND, w_D, offset, eps, N, D);
}

extern "C" __global__ void __launch_bounds__(LaneTeam::MAX_THREADS) rmsnorm_forward_heads_bf16(
    bf16* __restrict__ y_ND,           // out
    float* __restrict__ rrms_N,        // out, kept for backward
    const bf16* __restrict__ x_ND,
    const bf16* __restrict__ w_D,
    float offset, float eps, int N, int D, int lanes)
{
    forward(LaneTeam(lanes), y_ND, rrms_N, x_ND, w_D, offset, eps, N, D);
}

extern "C" __global__ void __launch_bounds__(BlockTeam::MAX_THREADS) rmsnorm_backward_bf16(
    bf16* dx_ND,                       // out
    const bf16* __restrict__ dy_ND,
    const bf16* __restrict__ x_ND,
    const float* __restrict__ rrms_N,
    const bf16* __restrict__ w_D,
    const bf16* dresidual_ND,          // or null; may be dx
    float offset, int N, int D)
{
    __shared__ float of_warp[2][BlockTeam::MAX_WARPS];
    backward(BlockTeam(of_warp), dx_ND, dy_ND, x_ND, rrms_N, w_D, dresidual_ND, offset, N, D);
}

extern "C" __global__ void __launch_bounds__(LaneTeam::MAX_THREADS) rmsnorm_backward_heads_bf16(
    bf16* dx_ND,                       // out
    const bf16* __restrict__ dy_ND,
    const bf16* __restrict__ x_ND,
    const float* __restrict__ rrms_N,
    const bf16* __restrict__ w_D,
    const bf16* dresidual_ND,          // or null; may be dx
    float offset, int N, int D, int lanes)
{
    backward(LaneTeam(lanes), dx_ND, dy_ND, x_ND, rrms_N, w_D, dresidual_ND, offset, N, D);
}
