// hopper/attention/forward.cu - attention/forward.cu by TMA and wgmma.
//
//   s[i,j] = scale q[i] . k[j]   for the keys j that row i sees: attention/sight.cuh      lse[i] = ln sum_j exp(s[i,j])
//   o[i]   = sum_j exp(s[i,j] - lse[i]) v[j]
//
// Source    docs/math.md#attention. While a tile's scores become weights, the products of the tile before run: Shah et
//           al., "FlashAttention-3", 2024, section 3.2. One thread copies, two warpgroups multiply: hopper/gemm.cu
// Shapes    as attention/forward.cu; q, k and v come as tensor maps of [N, H E] and [T, K E], which know T, with tiles of 64
//           columns and 128 rows, swizzled by 128 bytes; what a tile has beyond its matrix is 0. count: of tasks
// Numerics  as attention/forward.cu: the top is raised where a lane's sum of 32 weights passes 2^32
// Needs     sm_90a; an entry for E; scale > 0; H % K == 0; every row sees a key; o 16-byte aligned; ends past key T are 0
// Grid      at most one block of 384 threads for each multiprocessor; each takes every gridDim.x-th pair of a task and a
//           head, heads first, so that those that share K and V do so in L2. A task has 128 query rows, 64 for each
//           warpgroup, a visit 128 keys. Tasks come longest first. Dynamic shared memory: 81 and 161 KB for E = 64 and 128
// Repeats   bit-identical from run to run and for any grid: one owner of each output, visits in the order of the list
// Cost      4 E FLOPs for each row and key of a visited tile that is not hidden from a whole warpgroup; q, o and lse move
//           once, K and V once for each task and head that visits them
// Oracle    src/ops/attention/forward.rs
#include "hopper/attention/tile.cuh"
#include "hopper/store.cuh"

namespace {

constexpr int KEYS = 128;   // of a visited tile
constexpr int STAGES = 2;

constexpr float LOWEST = -1e30f;   // below every score, but finite
constexpr float TOO_HIGH = 4294967296.0f;

// What lies where: Q, the stages of K and of V, the barriers.
template <int E> struct Shared {
    static constexpr int Q_BYTES = ROWS * E * 2, TILE_BYTES = KEYS * E * 2;
    static constexpr int SLOTS = 1 + 2 * STAGES;
    unsigned at;

    __device__ unsigned barriers() const { return at + Q_BYTES + 2 * STAGES * TILE_BYTES; }
    __device__ Slot q() const { return slot_at(at, barriers(), 0); }
    __device__ Slot k(int stage) const { return slot_at(at + Q_BYTES + stage * TILE_BYTES, barriers(), 1 + stage); }
    __device__ Slot v(int stage) const
    {
        return slot_at(at + Q_BYTES + (STAGES + stage) * TILE_BYTES, barriers(), 1 + STAGES + stage);
    }
};

// Raises the tops to the highest scores so far. What was summed must then be multiplied by `fade`.
__device__ inline void raise(RowValues& top, RowValues& fade, const Products<KEYS>& s, float scale_log2)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float highest = unseen();
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) highest = fmaxf(highest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
        const float raised = fmaxf(top[half], highest * scale_log2);
        fade[half] = exp2_approx(top[half] - raised);
        top[half] = raised;
    }
}

// Weights are exp2(scale_log2 s - top); as accumulators lie, so do a operands. Returns, to all lanes of a warp alike,
// whether a sum is too high.
__device__ inline bool exponentiate(Operands<KEYS>& weights, RowValues& sum, const Products<KEYS>& s, const RowValues& top,
                                    float scale_log2)
{
    sum[0] = sum[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < KEYS / 16; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float weight[2];
#pragma unroll
            for (int k = 0; k < 2; ++k) {
                weight[k] = exp2_approx(fmaf(s[2 * j + i / 2][i % 2 * 2 + k], scale_log2, -top[i % 2]));
                sum[i % 2] += weight[k];
            }
            weights[j][i] = to_bf16(weight[0], weight[1]).bits;
        }
    return __any_sync(0xffffffffu, sum[0] > TOO_HIGH || sum[1] > TOO_HIGH);
}

// One warpgroup's rows of all tasks of the block.
template <int E> struct Consumer {
    const Shared<E> shared;
    const Work& work;
    const float scale_log2;
    Turn<STAGES> turn;
    unsigned parity = 0;   // of Q's phase
    Products<E> sum_o;
    RowValues sum_p, top, fade;
    int2 limits[2];

    // Gives back a tile of keys that none of the rows sees.
    __device__ void pass()
    {
        wait(shared.k(turn.stage), turn.parity);
        release(shared.k(turn.stage));
        wait(shared.v(turn.stage), turn.parity);
        release(shared.v(turn.stage));
    }
    __device__ void start_scores(Products<KEYS>& s)
    {
        wait(shared.k(turn.stage), turn.parity);
        start_product<E, KEYS>(s, own_part(shared.q()), shared.k(turn.stage).tile);
    }
    __device__ void start_output(const Operands<KEYS>& weights, Turn<STAGES> of)
    {
        wait(shared.v(of.stage), of.parity);
        start_weighted<E, KEYS>(sum_o, weights, shared.v(of.stage).tile);
    }
    // The weights of the visited keys. Returns whether what was summed before must fade.
    __device__ bool weigh(Operands<KEYS>& weights, Products<KEYS>& s, int visit)
    {
        const int first_key = visited_tile(visit) * KEYS;
        if (sight_of(visit, own_warpgroup()) == SOME) hide_unseen<KEYS>(s, limits, work.ends + first_key, first_key);
        RowValues sum;
        const bool too_high = exponentiate(weights, sum, s, top, scale_log2);
        if (too_high) {
            raise(top, fade, s, scale_log2);
            exponentiate(weights, sum, s, top, scale_log2);
            sum_p[0] *= fade[0];
            sum_p[1] *= fade[1];
        }
        sum_p[0] += sum[0];
        sum_p[1] += sum[1];
        return too_high;
    }

    // A run of tiles of which the rows see something: while one's scores become weights, the products with the values
    // of the one before run.
    __device__ void run(Visits& visit)
    {
        Products<KEYS> s;
        Operands<KEYS> weights, next;
        start_scores(s);
        wgmma_wait<0>();
        release(shared.k(turn.stage));
        if (weigh(weights, s, visit.current)) scale_rows(sum_o, fade);
        Turn<STAGES> before = turn;
        advance(visit, turn);
#pragma unroll 1
        while (sees_some(visit)) {
            start_scores(s);
            start_output(weights, before);
            wgmma_wait<1>();
            release(shared.k(turn.stage));
            const bool faded = weigh(next, s, visit.current);
            wgmma_wait<0>();
            release(shared.v(before.stage));
            if (faded) scale_rows(sum_o, fade);
            move(weights, next);
            before = turn;
            advance(visit, turn);
        }
        start_output(weights, before);
        wgmma_wait<0>();
        release(shared.v(before.stage));
    }

    __device__ void attend(bf16* o, float* lse, int4 task, int head, int N)
    {
        const int row = task.x * ROWS + own_row();
        limits[0] = work.limits[row];
        limits[1] = work.limits[row + 8];
        clear<E>(sum_o);
        sum_p[0] = sum_p[1] = 0.0f;
        top[0] = top[1] = LOWEST;
        wait(shared.q(), parity);
        parity ^= 1;
        for (Visits visit(work.visits, task); visit.left > 0;) {
            if (sees_some(visit)) {
                run(visit);
            } else {
                pass();
                advance(visit, turn);
            }
        }
        release(shared.q());

        RowValues inverse;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float total = sum_p[half];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            inverse[half] = 1.0f / total;
            if (threadIdx.x % 4 == 0 && row + half * 8 < N)
                lse[(size_t)head * N + row + half * 8] = (top[half] + __log2f(total)) * LN2;
        }
        scale_rows(sum_o, inverse);
        store_columns(o + head * E, work.heads * E, sum_o, row, N);
    }
};

template <int E>
__device__ inline void forward(bf16* o, float* lse, const tensor_map& q, const tensor_map& k, const tensor_map& v,
                               const Work& work, float scale, int N, int K)
{
    const Shared<E> shared{aligned_memory()};
    init_slots(shared.barriers(), Shared<E>::SLOTS);
    if (threadIdx.x < WARPGROUP) {
        keep_registers<24>();
        if (threadIdx.x > 0) return;
        Turn<STAGES> turn;
        unsigned parity = 0;   // of Q's phase
        for (int pair = blockIdx.x; pair < work.pairs; pair += gridDim.x) {
            const int head = work.head(pair), kv_head = head / (work.heads / K);
            const int4 task = work.task(pair);
            fetch<E, ROWS>(shared.q(), parity, q, head, task.x);
            parity ^= 1;
            for (int i = task.y; i < task.z; ++i) {
                const int tile = visited_tile(work.visits[i]);
                fetch<E, KEYS>(shared.k(turn.stage), turn.parity, k, kv_head, tile);
                fetch<E, KEYS>(shared.v(turn.stage), turn.parity, v, kv_head, tile);
                turn.advance();
            }
        }
    } else {
        take_registers<240>();
        Consumer<E> consumer{shared, work, scale * LOG2E};
        for (int pair = blockIdx.x; pair < work.pairs; pair += gridDim.x)
            consumer.attend(o, lse, work.task(pair), work.head(pair), N);
    }
}

}  // namespace

#define ENTRY(E)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_wgmma_forward_bf16_e##E(                      \
        bf16* __restrict__ o_NHE, float* __restrict__ lse_HN, const __grid_constant__ tensor_map q_NHE,              \
        const __grid_constant__ tensor_map k_TKE, const __grid_constant__ tensor_map v_TKE,                          \
        const int2* __restrict__ limits_P, const int* __restrict__ ends_T, const int4* __restrict__ tasks,           \
        const int* __restrict__ visits, float scale, int count, int N, int T, int H, int K)                          \
    {                                                                                                                \
        const Work work{limits_P, ends_T, tasks, visits, count * H, H};                                              \
        forward<E>(o_NHE, lse_HN, q_NHE, k_TKE, v_TKE, work, scale, N, K);                                           \
    }
ENTRY(64)
ENTRY(128)
