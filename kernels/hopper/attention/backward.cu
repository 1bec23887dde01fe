// hopper/attention/backward.cu - attention/backward.cu's two passes by TMA and wgmma.
//
//   p = exp(scale q k^T - lse)    ds = p (do v^T - delta)       for what rows see: attention/sight.cuh
//   dq = scale ds k               dk = scale ds^T q             dv = p^T do         summed over a group's heads
//
// Source    docs/math.md#attention. One thread copies, two warpgroups multiply: hopper/gemm.cu
// Shapes    as attention/backward.cu, whose attention_delta makes lse2 and minus_delta; q, do, k and v come as tensor maps of
//           [N, H E] and [T, K E] with tiles of 64 columns, swizzled by 128 bytes, and of 128 rows where they are a block's
//           own, else 64; what a tile has beyond its matrix is 0. count: of tasks
// Numerics  as attention/backward.cu
// Needs     sm_90a; an entry for E; as attention/backward.cu
// Grid      at most one block of 384 threads for each multiprocessor; each takes every gridDim.x-th pair of a task and a
//           head: of H for dq, of K for dk and dv. A task has 128 rows or keys, 64 for each warpgroup, a visit 64. Tasks
//           come longest first. Dynamic shared memory: q 81 and 161 KB, kv 67 and 131 KB for E = 64 and 128
// Repeats   bit-identical from run to run and for any grid: one owner of each output, visits in the order of the list
// Cost      q 6 E, kv 8 E FLOPs for each row and key of a visited tile that is not hidden from a whole warpgroup; k, v (q),
//           q, do (kv) move once for each task and head that visits them, all else once
// Oracle    src/ops/attention/backward.rs
#include "hopper/attention/tile.cuh"
#include "hopper/store.cuh"

namespace {

constexpr int VISITED = 64;   // keys or rows of a visited tile

// What lies where: two tiles of the block's own, the stages of two more, the barriers.
template <int E, int STAGES> struct Shared {
    static constexpr int OWN_BYTES = ROWS * E * 2, TILE_BYTES = VISITED * E * 2;
    static constexpr int SLOTS = 2 + 2 * STAGES;
    unsigned at;

    __device__ unsigned barriers() const { return at + 2 * OWN_BYTES + 2 * STAGES * TILE_BYTES; }
    __device__ Slot own(int which) const { return slot_at(at + which * OWN_BYTES, barriers(), which); }
    __device__ Slot visited(int which, const Turn<STAGES>& turn) const
    {
        const int place = which * STAGES + turn.stage;
        return slot_at(at + 2 * OWN_BYTES + place * TILE_BYTES, barriers(), 2 + place);
    }
};

// Copies the tiles of all pairs of the block. fetch_visited(turn, round, head, tile) does so for a visit, once for each of
// `rounds`.
template <int E, int STAGES, class FetchVisited>
__device__ inline void copy_tiles(const Shared<E, STAGES>& shared, const Work& work, const tensor_map& own_0,
                                  const tensor_map& own_1, int rounds, FetchVisited fetch_visited)
{
    Turn<STAGES> turn;
    unsigned parity = 0;   // of the own tiles' phase
    for (int pair = blockIdx.x; pair < work.pairs; pair += gridDim.x) {
        const int head = work.head(pair);
        const int4 task = work.task(pair);
        fetch<E, ROWS>(shared.own(0), parity, own_0, head, task.x);
        fetch<E, ROWS>(shared.own(1), parity, own_1, head, task.x);
        parity ^= 1;
        for (int round = 0; round < rounds; ++round)
            for (int i = task.y; i < task.z; ++i, turn.advance())
                fetch_visited(turn, round, head, visited_tile(work.visits[i]));
    }
}

// Gives back tiles of which the warpgroup's part has nothing to see.
template <int E, int STAGES> __device__ inline void pass(const Shared<E, STAGES>& shared, const Turn<STAGES>& turn)
{
#pragma unroll
    for (int which = 0; which < 2; ++which) {
        wait(shared.visited(which, turn), turn.parity);
        release(shared.visited(which, turn));
    }
}

// Sums or products as a operands, rounded to bf16.
template <int N> __device__ inline void round(Operands<N>& operands, const Products<N>& values)
{
#pragma unroll
    for (int j = 0; j < N / 16; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            operands[j][i] = to_bf16(values[2 * j + i / 2][i % 2 * 2], values[2 * j + i / 2][i % 2 * 2 + 1]).bits;
}

// values *= by, each by its own.
template <int EIGHTS> __device__ inline void multiply(float (&values)[EIGHTS][4], const float (&by)[EIGHTS][4])
{
#pragma unroll
    for (int n = 0; n < EIGHTS; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) values[n][i] *= by[n][i];
}

// ---- dq: a block owns query rows and visits tiles of keys ----

// A tile of K is held until its second product, while the next two arrive.
constexpr int ROW_STAGES = 3;

template <int E> struct RowPass {
    using Tiles = Shared<E, ROW_STAGES>;
    const Tiles shared;   // own: Q, dO; visited: K, V
    const Work& work;
    const float scale_log2;
    Turn<ROW_STAGES> turn;
    unsigned parity = 0;   // of the own tiles' phase
    Products<E> sum_dq;
    RowValues lse2, minus_delta;
    int2 limits[2];

    __device__ void start_scores(Products<VISITED>& s, Products<VISITED>& dp)
    {
        wait(shared.visited(0, turn), turn.parity);
        start_product<E, VISITED>(s, own_part(shared.own(0)), shared.visited(0, turn).tile);
#pragma unroll
        for (int n = 0; n < VISITED / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) dp[n][i] = minus_delta[i / 2];
        wait(shared.visited(1, turn), turn.parity);
        start_product<E, VISITED, true>(dp, own_part(shared.own(1)), shared.visited(1, turn).tile);
    }
    __device__ void start_sums(const Operands<VISITED>& ds, const Turn<ROW_STAGES>& of)
    {
        start_weighted<E, VISITED>(sum_dq, ds, shared.visited(0, of).tile);
    }
    // Scores to weights. In two branches whole, so that no exponential is put off until the next products are waited for.
    __device__ void weigh(Products<VISITED>& s, int visit)
    {
        const int first_key = visited_tile(visit) * VISITED;
        if (sight_of(visit, own_warpgroup()) == SOME) {
            hide_unseen<VISITED>(s, limits, work.ends + first_key, first_key);
            exponentiate(s);
        } else {
            exponentiate(s);
        }
    }
    __device__ void exponentiate(Products<VISITED>& s) const
    {
#pragma unroll
        for (int n = 0; n < VISITED / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) s[n][i] = exp2_approx(fmaf(s[n][i], scale_log2, -lse2[i / 2]));
    }

    // A run of tiles of which the rows see something: one's ds is made while the products with the ds before run.
    __device__ void run(Visits& visit)
    {
        Products<VISITED> s, dp;
        Operands<VISITED> ds;
        start_scores(s, dp);
        wgmma_wait<1>();
        weigh(s, visit.current);
        wgmma_wait<0>();
        release(shared.visited(1, turn));
        multiply(dp, s);
        round<VISITED>(ds, dp);
        Turn<ROW_STAGES> before = turn;
        advance(visit, turn);
#pragma unroll 1
        while (sees_some(visit)) {
            start_scores(s, dp);
            start_sums(ds, before);
            wgmma_wait<2>();
            weigh(s, visit.current);
            wgmma_wait<1>();
            release(shared.visited(1, turn));
            multiply(dp, s);
            wgmma_wait<0>();
            release(shared.visited(0, before));
            round<VISITED>(ds, dp);
            before = turn;
            advance(visit, turn);
        }
        start_sums(ds, before);
        wgmma_wait<0>();
        release(shared.visited(0, before));
    }

    __device__ void attend(bf16* dq, const float* lse2_HP, const float* minus_delta_HP2, int4 task, int head,
                           float scale, int N, int P)
    {
        const int row = task.x * ROWS + own_row();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            limits[half] = work.limits[row + half * 8];
            const size_t at = (size_t)head * P + row + half * 8;
            lse2[half] = lse2_HP[at];
            minus_delta[half] = minus_delta_HP2[at / 2 * 4 + at % 2];
        }
        clear<E>(sum_dq);
        wait(shared.own(0), parity);
        wait(shared.own(1), parity);
        parity ^= 1;
        for (Visits visit(work.visits, task); visit.left > 0;) {
            if (sees_some(visit)) {
                run(visit);
            } else {
                pass(shared, turn);
                advance(visit, turn);
            }
        }
        release(shared.own(0));
        release(shared.own(1));
        const RowValues scales = {scale, scale};
        scale_rows(sum_dq, scales);
        store_columns(dq + head * E, work.heads * E, sum_dq, row, N);
    }
};

template <int E>
__device__ inline void backward_q(bf16* dq, const tensor_map& d_o, const tensor_map& q, const tensor_map& k,
                                  const tensor_map& v, const float* lse2, const float* minus_delta, const Work& work,
                                  float scale, int N, int P, int K)
{
    const typename RowPass<E>::Tiles shared{aligned_memory()};
    init_slots(shared.barriers(), RowPass<E>::Tiles::SLOTS);
    if (threadIdx.x < WARPGROUP) {
        keep_registers<24>();
        if (threadIdx.x > 0) return;
        const int group = work.heads / K;
        copy_tiles(shared, work, q, d_o, 1, [&](const Turn<ROW_STAGES>& turn, int, int head, int tile) {
            fetch<E, VISITED>(shared.visited(0, turn), turn.parity, k, head / group, tile);
            fetch<E, VISITED>(shared.visited(1, turn), turn.parity, v, head / group, tile);
        });
    } else {
        take_registers<240>();
        RowPass<E> rows{shared, work, scale * LOG2E};
        for (int pair = blockIdx.x; pair < work.pairs; pair += gridDim.x)
            rows.attend(dq, lse2, minus_delta, work.task(pair), work.head(pair), scale, N, P);
    }
}

// ---- dk, dv: a block owns keys and visits tiles of query rows, of each query head that shares the key-value head ----

constexpr int KEY_STAGES = 2;

__device__ inline float2 load_shared2(unsigned from)
{
    float2 x;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(from) : "memory");
    return x;
}

__device__ inline float4 load_shared4(unsigned from)
{
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(from) : "memory");
    return x;
}

template <int E> struct KeyPass {
    using Tiles = Shared<E, KEY_STAGES>;
    const Tiles shared;   // own: K, V; visited: Q, dO
    const Work& work;
    const float scale_log2;
    Turn<KEY_STAGES> turn;
    unsigned parity = 0;   // of the own tiles' phase
    Products<E> sum_dk, sum_dv;
    int key;

    // -delta and lse2 of the visited rows come with Q: as attention_delta lays them out.
    static constexpr int DELTA_BYTES = VISITED * 8, LSE_BYTES = VISITED * 4;
    static constexpr int STATISTICS_BYTES = DELTA_BYTES + LSE_BYTES;
    __device__ static unsigned statistics(const Tiles& shared, const Turn<KEY_STAGES>& turn)
    {
        return shared.barriers() + Tiles::SLOTS * 16 + turn.stage * STATISTICS_BYTES;
    }

    // The tile's rows that each own key is hidden from: bit 4 n + i for [n][i] of the products. Found before these, when
    // registers are free.
    __device__ unsigned find_hidden(int visit) const
    {
        const int2* limits = work.limits + visited_tile(visit) * VISITED;
        const int ends[2] = {work.ends[key], work.ends[key + 8]};
        unsigned hidden = 0;
#pragma unroll
        for (int n = 0; n < VISITED / 8; ++n) {
            const int4 two = *reinterpret_cast<const int4*>(limits + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (!sees(make_int2(two.x, two.y), key + half * 8, ends[half])) hidden |= 1u << (4 * n + 2 * half);
                if (!sees(make_int2(two.z, two.w), key + half * 8, ends[half])) hidden |= 2u << (4 * n + 2 * half);
            }
        }
        return hidden;
    }
    // Scores to weights; see RowPass. Transposed: a row is a key, a column a query row.
    __device__ void weigh(Products<VISITED>& s, bool some, unsigned hidden)
    {
        if (some) {
#pragma unroll
            for (int n = 0; n < VISITED / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (hidden >> (4 * n + i) & 1) s[n][i] = unseen();
            exponentiate(s);
        } else {
            exponentiate(s);
        }
    }
    __device__ void exponentiate(Products<VISITED>& s) const
    {
        const unsigned at = statistics(shared, turn) + DELTA_BYTES + threadIdx.x % 4 * 8;
#pragma unroll
        for (int n = 0; n < VISITED / 8; ++n) {
            const float2 lse2 = load_shared2(at + n * 32);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                s[n][i] = exp2_approx(fmaf(s[n][i], scale_log2, -(i % 2 ? lse2.y : lse2.x)));
        }
    }
    // dp = -delta, to which the products are added.
    __device__ void begin(Products<VISITED>& dp) const
    {
        const unsigned at = statistics(shared, turn) + threadIdx.x % 4 * 16;
#pragma unroll
        for (int n = 0; n < VISITED / 8; ++n) {
            const float4 start = load_shared4(at + n * 64);
            dp[n][0] = start.x;
            dp[n][1] = start.y;
            dp[n][2] = start.z;
            dp[n][3] = start.w;
        }
    }

    // Adds what the visited rows bring.
    __device__ void add(int visit)
    {
        const Slot q = shared.visited(0, turn), d_o = shared.visited(1, turn);
        const bool some = sight_of(visit, own_warpgroup()) == SOME;
        const unsigned hidden = some ? find_hidden(visit) : 0;
        Products<VISITED> s, dp;
        Operands<VISITED> p, ds;
        wait(q, turn.parity);
        start_product<E, VISITED>(s, own_part(shared.own(0)), q.tile);
        begin(dp);
        wait(d_o, turn.parity);
        start_product<E, VISITED, true>(dp, own_part(shared.own(1)), d_o.tile);
        wgmma_wait<1>();
        weigh(s, some, hidden);
        wgmma_wait<0>();
        round<VISITED>(p, s);
        start_weighted<E, VISITED>(sum_dv, p, d_o.tile);
        multiply(dp, s);
        round<VISITED>(ds, dp);
        start_weighted<E, VISITED>(sum_dk, ds, q.tile);
        wgmma_wait<0>();
        __syncwarp();   // all lanes have read the statistics
        release(q);
        release(d_o);
    }

    __device__ void attend(bf16* dk, bf16* dv, int4 task, int kv_head, int group, float scale, int T)
    {
        key = task.x * ROWS + own_row();
        clear<E>(sum_dk);
        clear<E>(sum_dv);
        wait(shared.own(0), parity);
        wait(shared.own(1), parity);
        parity ^= 1;
        for (int round = 0; round < group; ++round)
            for (int i = task.y; i < task.z; ++i, turn.advance()) {
                const int visit = work.visits[i];
                if (sight_of(visit, own_warpgroup()) == NOTHING) pass(shared, turn);
                else add(visit);
            }
        release(shared.own(0));
        release(shared.own(1));
        const RowValues scales = {scale, scale};
        scale_rows(sum_dk, scales);
        store_columns(dk + kv_head * E, work.heads * E, sum_dk, key, T);
        store_columns(dv + kv_head * E, work.heads * E, sum_dv, key, T);
    }
};

template <int E>
__device__ inline void backward_kv(bf16* dk, bf16* dv, const tensor_map& d_o, const tensor_map& q, const tensor_map& k,
                                   const tensor_map& v, const float* lse2, const float* minus_delta, const Work& work,
                                   float scale, int P, int T, int H)
{
    using Pass = KeyPass<E>;
    const typename Pass::Tiles shared{aligned_memory()};
    init_slots(shared.barriers(), Pass::Tiles::SLOTS);
    const int group = H / work.heads;
    if (threadIdx.x < WARPGROUP) {
        keep_registers<24>();
        if (threadIdx.x > 0) return;
        copy_tiles(shared, work, k, v, group, [&](const Turn<KEY_STAGES>& turn, int round, int kv_head, int tile) {
            const int head = kv_head * group + round;
            const Slot slot = shared.visited(0, turn);
            const unsigned to = Pass::statistics(shared, turn);
            const int at = head * P + tile * VISITED;
            fetch<E, VISITED>(slot, turn.parity, q, head, tile, Pass::STATISTICS_BYTES);
            copy_bytes(to, minus_delta + at * 2, Pass::DELTA_BYTES, slot.full);
            copy_bytes(to + Pass::DELTA_BYTES, lse2 + at, Pass::LSE_BYTES, slot.full);
            fetch<E, VISITED>(shared.visited(1, turn), turn.parity, d_o, head, tile);
        });
    } else {
        take_registers<240>();
        Pass keys{shared, work, scale * LOG2E};
        for (int pair = blockIdx.x; pair < work.pairs; pair += gridDim.x)
            keys.attend(dk, dv, work.task(pair), work.head(pair), group, scale, T);
    }
}

}  // namespace

#define ENTRY(E)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_wgmma_backward_q_bf16_e##E(                   \
        bf16* __restrict__ dq_NHE, const __grid_constant__ tensor_map do_NHE, const __grid_constant__ tensor_map q_NHE, \
        const __grid_constant__ tensor_map k_TKE, const __grid_constant__ tensor_map v_TKE,                          \
        const float* __restrict__ lse2_HP, const float* __restrict__ minus_delta_HP2,                                \
        const int2* __restrict__ limits_P, const int* __restrict__ ends_T, const int4* __restrict__ tasks,           \
        const int* __restrict__ visits, float scale, int count, int N, int P, int T, int H, int K)                   \
    {                                                                                                                \
        const Work work{limits_P, ends_T, tasks, visits, count * H, H};                                              \
        backward_q<E>(dq_NHE, do_NHE, q_NHE, k_TKE, v_TKE, lse2_HP, minus_delta_HP2, work, scale, N, P, K);          \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_wgmma_backward_kv_bf16_e##E(                  \
        bf16* __restrict__ dk_TKE, bf16* __restrict__ dv_TKE, const __grid_constant__ tensor_map do_NHE,             \
        const __grid_constant__ tensor_map q_NHE, const __grid_constant__ tensor_map k_TKE,                          \
        const __grid_constant__ tensor_map v_TKE, const float* __restrict__ lse2_HP,                                 \
        const float* __restrict__ minus_delta_HP2, const int2* __restrict__ limits_P,                                \
        const int* __restrict__ ends_T, const int4* __restrict__ tasks, const int* __restrict__ visits, float scale, \
        int count, int N, int P, int T, int H, int K)                                                                \
    {                                                                                                                \
        const Work work{limits_P, ends_T, tasks, visits, count * K, K};                                              \
        backward_kv<E>(dk_TKE, dv_TKE, do_NHE, q_NHE, k_TKE, v_TKE, lse2_HP, minus_delta_HP2, work, scale, P, T, H); \
    }
ENTRY(64)
ENTRY(128)
