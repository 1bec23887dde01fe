// attention/backward.cu - the gradient of attention, from q, k, v, o and lse; weights are computed again.
//
//   p = exp(scale q k^T - lse)    delta[i] = do[i] . o[i]    ds = p (do v^T - delta)       for what rows see: sight.cuh
//   dq = scale ds k               dk = scale ds^T q          dv = p^T do                  summed over a group's heads
//
// Source    Dao, "FlashAttention-2", 2023; docs/math.md#attention
// Shapes    as in forward.cu; dq, do like q; dk, dv like k   P: N up to a multiple of 128
//           lse2: f32 [H, P], log2(e) lse   minus_delta: f32 [H, P / 2, 4], of two rows, twice: as accumulators start.
//           attention_delta makes both, with zeros past row N
// Passes    Two, one that owns dq and one that owns dk and dv: 7 products where one pass would make 5. But one pass
//           would add to dq from every key tile, in f32 through L2, and to repeat it would have to make blocks wait for
//           each other. Of 16 rows x 16 keys the two passes take 300 instructions for E = 128 and 171 for E = 64
//           (sm_80); FlashAttention-2's pass of 5 takes 246 and 161, atomics apart
// Numerics  products and sums in f32; p and ds are rounded to bf16 before they meet do, q and k; one rounding of each
//           output. dk and dv are summed over the heads that share them before they are rounded
// Needs     as in forward.cu; kv: a task for each key tile, also where no row sees it
// Grid      delta: (H, P / 128) blocks of 128 threads, a warp for 32 rows of a head
//           q: (H, tasks), a task for 128 rows (64), visits of 64 keys (16); kv: (K, tasks), a task for 128 keys (64),
//           visits of 32 rows (16), once for each head of the group. In brackets: E = 256. Blocks of 128 threads for
//           E up to 64, else 256 (q of E = 256: 128)
// Shared    dynamic; both passes about 22, 38, 55, 71 and 68 KB for E = 32, 64, 96, 128 and 256
// Repeats   bit-identical from run to run: one owner of each output, visits in the order of the list, no atomics
// Cost      q 6 E, kv 8 E FLOPs (12 E where E is 256: two warps make the same scores) for each row and key of a visited
//           tile; k, v (q), q, do (kv) move once for each block that visits them, all else once
// Oracle    src/ops/attention/backward.rs
#include "attention/tile.cuh"

namespace {

extern __shared__ __align__(16) unsigned char memory[];

// ---- delta ----

constexpr int DELTA_WARPS = 4;

constexpr int power_of_two_from(int n) { return n <= 1 ? 1 : 2 * power_of_two_from((n + 1) / 2); }

// A warp has 32 rows of a head; LANES of its lanes share a row.
template <int E>
__device__ inline void row_terms(float* lse2, float* minus_delta, const bf16* d_o, const bf16* o, const float* lse,
                                 int N, int P, int H)
{
    constexpr int CHUNKS = E / 8, LANES = power_of_two_from(CHUNKS), ROWS = WARP / LANES;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int head = blockIdx.x, first = (blockIdx.y * DELTA_WARPS + warp) * WARP;

    float delta = 0.0f;
#pragma unroll 4
    for (int i = 0; i < LANES; ++i) {
        const int row = first + i * ROWS + lane / LANES;
        float sum = 0.0f;
        if (row < N && lane % LANES < CHUNKS) {
            const size_t at = ((size_t)row * H + head) * E + lane % LANES * 8;
            const f32x8 a = to_f32(load8(d_o + at)), b = to_f32(load8(o + at));
#pragma unroll
            for (int k = 0; k < 8; ++k) sum = fmaf(a[k], b[k], sum);
        }
#pragma unroll
        for (int apart = LANES / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
        if (lane % LANES == i) delta = sum;
    }
    const int row = first + lane % LANES * ROWS + lane / LANES;
    lse2[(size_t)head * P + row] = row < N ? lse[(size_t)head * N + row] * LOG2E : 0.0f;
    // Both rows of a pair write both: one the first half of the 16 bytes, one the second.
    const float other = __shfl_xor_sync(0xffffffffu, delta, ROWS > 1 ? LANES : 1);
    reinterpret_cast<float2*>(minus_delta)[(size_t)head * P + row] =
        row % 2 == 0 ? make_float2(-delta, -other) : make_float2(-other, -delta);
}

// ---- dq: a block owns query rows and visits tiles of keys ----

template <int WIDTH>
struct RowPass {
    static constexpr int E = WIDTH;
    static constexpr int PIECES = E <= 64 ? 2 : 1;
    static constexpr int WARPS = E <= 64 || E > 128 ? 4 : 8, THREADS = WARPS * WARP;
    static constexpr int BLOCKS = 8 / WARPS;                                  // of a multiprocessor, at least
    static constexpr int WARP_ROWS = 16 * PIECES, ROWS = WARPS * WARP_ROWS;
    static constexpr int KEYS = E <= 128 ? 64 : 16;
    static constexpr int STEP = E <= 64 || E > 128 ? 16 : 32;                 // keys in registers at a time
    static constexpr bool DO_HELD = E <= 128;                                 // dO stays in registers, as Q does

    // Shared memory: two stages of a K tile, a V tile and the ends of its keys; the limits of the rows; dO where it
    // does not move to registers. What moves there passes through the stages.
    static constexpr int TILE_BYTES = KEYS * row_bytes<E>, OWN_BYTES = ROWS * row_bytes<E>;
    static constexpr int ENDS_AT = 2 * TILE_BYTES;
    static constexpr int STAGE_BYTES = ENDS_AT + KEYS * 4;
    static constexpr int LIMITS_AT = 2 * STAGE_BYTES;
    static constexpr int DO_AT = DO_HELD ? OWN_BYTES : LIMITS_AT + ROWS * 8;
    static_assert((DO_HELD ? 2 : 1) * OWN_BYTES <= LIMITS_AT, "what passes through the stages fits them");
};

template <int E>
__device__ inline void backward_q(bf16* dq, const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                  const float* lse2_HP, const float* minus_delta_HP, const int2* limits,
                                  const int* ends, const int4* tasks, const int* visits, float scale, int N,
                                  int P, int T, int H, int K)
{
    using R = RowPass<E>;
    constexpr int PIECES = R::PIECES, KEYS = R::KEYS, STEP = R::STEP;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int head = blockIdx.x, kv_head = head / (H / K);
    const int4 task = tasks[blockIdx.y];
    const int first_row = task.x * R::ROWS + warp * R::WARP_ROWS;
    const unsigned shared = shared_address(memory);
    const float scale_log2 = scale * LOG2E;

    const TileCopy<E, R::ROWS, R::THREADS> copy_own(head * E, H * E, N);
    copy_own.start(shared, q, task.x);
    copy_own.start(shared + R::DO_AT, d_o, task.x);
    if (threadIdx.x < R::ROWS / 2)
        cp_async16(shared + R::LIMITS_AT + threadIdx.x * 16, limits + task.x * R::ROWS + threadIdx.x * 2);
    cp_async_commit();

    float lse2[PIECES][2], minus_delta[PIECES][2];
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const size_t row = (size_t)head * P + first_row + p * 16 + half * 8 + lane / 4;
            lse2[p][half] = lse2_HP[row];
            minus_delta[p][half] = minus_delta_HP[row / 2 * 4 + row % 2];
        }

    const unsigned own_at = shared + warp * R::WARP_ROWS * row_bytes<E> + down_then_right<E>(lane);
    unsigned own_q[E / 16][PIECES][4], own_do[R::DO_HELD ? E / 16 : 1][PIECES][4];
    cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int e = 0; e < E / 16; ++e) {
        read_own<E>(own_q[e], own_at, e);
        if (R::DO_HELD) read_own<E>(own_do[R::DO_HELD ? e : 0], own_at + R::DO_AT, e);
    }
    __syncthreads();   // all have read: the stages are free

    const TileCopy<E, KEYS, R::THREADS> copy(kv_head * E, K * E, T);
    const auto start_stage = [&](int stage, int tile) {
        const unsigned to = shared + stage * R::STAGE_BYTES;
        copy.start(to, k, tile);
        copy.start(to + R::TILE_BYTES, v, tile);
        if (threadIdx.x < KEYS / 4)
            cp_async16(to + R::ENDS_AT + threadIdx.x * 16, ends + tile * KEYS + threadIdx.x * 4);
    };

    Sums<PIECES, E> sum_dq = {};
    Visits visit(visits, task);
    start_stage(0, visited_tile(visit.current));
    cp_async_commit();
    for (int stage = 0; visit.left > 0; visit.advance(), stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();   // the tile is there for all; all are done with the other stage
        if (visit.more()) start_stage(stage ^ 1, visited_tile(visit.next));
        cp_async_commit();

        const Sight sight = sight_of(visit.current, warp);
        if (sight == NOTHING) continue;
        const unsigned k_at = shared + stage * R::STAGE_BYTES;
        const int* tile_ends = reinterpret_cast<const int*>(memory + stage * R::STAGE_BYTES + R::ENDS_AT);
        const int2* own_limits = reinterpret_cast<const int2*>(memory + R::LIMITS_AT) + warp * R::WARP_ROWS;
#pragma unroll
        for (int step = 0; step < KEYS; step += STEP) {
            Scores<PIECES, STEP> s = {}, ds;
#pragma unroll
            for (int p = 0; p < PIECES; ++p)
#pragma unroll
                for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) ds[p][n][i] = minus_delta[p][i / 2];
            const unsigned rows_at = k_at + step * row_bytes<E> + right_then_down<E>(lane);
#pragma unroll
            for (int e = 0; e < E / 16; ++e) add_scores<E, STEP>(s, own_q[e], rows_at, e);
#pragma unroll
            for (int e = 0; e < E / 16; ++e) {
                if (!R::DO_HELD) read_own<E>(own_do[0], own_at + R::DO_AT, e);
                add_scores<E, STEP>(ds, own_do[R::DO_HELD ? e : 0], rows_at + R::TILE_BYTES, e);
            }
            if (sight == SOME)
                hide_unseen<STEP>(s, own_limits, tile_ends + step, visited_tile(visit.current) * KEYS + step);
#pragma unroll
            for (int p = 0; p < PIECES; ++p)
#pragma unroll
                for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        ds[p][n][i] *= exp2_approx(fmaf(s[p][n][i], scale_log2, -lse2[p][i / 2]));
            add_weighted<E, STEP, E>(sum_dq, ds, k_at + step * row_bytes<E> + down_then_right<E>(lane));
        }
    }

#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int n = 0; n < E / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) sum_dq[p][n][i] *= scale;
    __syncthreads();   // all are done with the stages: the output passes through them
    store_sums<E, E>(dq + (size_t)first_row * H * E + head * E, H * E, N - first_row, sum_dq,
                     memory + warp * R::WARP_ROWS * row_bytes<E>);
}

// ---- dk, dv: a block owns keys and visits tiles of query rows, of each query head that shares the key-value head ----

template <int WIDTH>
struct KeyPass {
    static constexpr int E = WIDTH;
    static constexpr int PIECES = E <= 64 ? 2 : 1;
    static constexpr int WARPS = E <= 64 ? 4 : 8, THREADS = WARPS * WARP;
    static constexpr int BLOCKS = 8 / WARPS;                                  // of a multiprocessor, at least
    // Warps that share their keys: each makes a part of the columns of dk and dv.
    static constexpr int SHARERS = E <= 128 ? 1 : 2, COLUMNS = E / SHARERS;
    static constexpr int WARP_KEYS = 16 * PIECES, KEYS = WARPS / SHARERS * WARP_KEYS;
    static constexpr int ROWS = E <= 128 ? 32 : 16;
    static constexpr int STEP = E <= 64 || E > 128 ? 16 : 32;                 // rows in registers at a time

    // Shared memory: two stages of a Q tile, a dO tile and -delta, limits and lse2 of their rows; the block's V. Its
    // K passes through the stages to registers, for which both are too many.
    static constexpr int TILE_BYTES = ROWS * row_bytes<E>;
    static constexpr int DELTA_AT = 2 * TILE_BYTES;
    static constexpr int LIMITS_AT = DELTA_AT + ROWS * 8;
    static constexpr int LSE_AT = LIMITS_AT + ROWS * 8;
    static constexpr int STAGE_BYTES = LSE_AT + ROWS * 4;
    static constexpr int V_AT = 2 * STAGE_BYTES;
    static_assert(KEYS * row_bytes<E> <= V_AT, "K fits the stages");
};

template <int E>
__device__ inline void backward_kv(bf16* dk, bf16* dv, const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                   const float* lse2_HP, const float* minus_delta_HP, const int2* limits,
                                   const int* ends, const int4* tasks, const int* visits, float scale, int N,
                                   int P, int T, int H, int K)
{
    using R = KeyPass<E>;
    constexpr int PIECES = R::PIECES, ROWS = R::ROWS, STEP = R::STEP, COLUMNS = R::COLUMNS;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int share = warp / R::SHARERS, first_column = warp % R::SHARERS * COLUMNS;
    const int kv_head = blockIdx.x, group = H / K;
    const int4 task = tasks[blockIdx.y];
    const int first_key = task.x * R::KEYS + share * R::WARP_KEYS;
    const unsigned shared = shared_address(memory);
    const float scale_log2 = scale * LOG2E;

    const TileCopy<E, R::KEYS, R::THREADS> copy_own(kv_head * E, K * E, T);
    copy_own.start(shared, k, task.x);
    copy_own.start(shared + R::V_AT, v, task.x);
    cp_async_commit();
    const unsigned own_at = shared + share * R::WARP_KEYS * row_bytes<E> + down_then_right<E>(lane);
    unsigned own_k[E / 16][PIECES][4];
    cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int e = 0; e < E / 16; ++e) read_own<E>(own_k[e], own_at, e);
    __syncthreads();   // all have read: the stages are free

    // Of a tile's small things a thread copies 16 bytes at most: two rows of -delta, two limits or four lse2.
    const TileCopy<E, ROWS, R::THREADS> copy(kv_head * group * E, H * E, N);
    const int kind = threadIdx.x / (ROWS / 2), place = threadIdx.x % (ROWS / 2), head_rows = kv_head * group * P;
    const char* small = kind == 0 ? (const char*)(minus_delta_HP + head_rows * 2 + place * 4)
                      : kind == 1 ? (const char*)(limits + place * 2)
                                  : (const char*)(lse2_HP + head_rows + place * 4);
    const int small_row = kind < 2 ? 8 : 4, small_head = kind == 1 ? 0 : small_row * P;
    const auto start_stage = [&](int stage, int head, int tile) {   // head: of the group
        const unsigned to = shared + stage * R::STAGE_BYTES;
        copy.start(to, q, tile, head * E);
        copy.start(to + R::TILE_BYTES, d_o, tile, head * E);
        if (threadIdx.x < ROWS + ROWS / 4)
            cp_async16(to + R::DELTA_AT + threadIdx.x * 16, small + (tile * ROWS * small_row + head * small_head));
    };

    Sums<PIECES, COLUMNS> sum_dk = {}, sum_dv = {};
    Visits visit(visits, task, group);
    start_stage(0, 0, visited_tile(visit.current));
    cp_async_commit();
    for (int stage = 0; visit.left > 0; visit.advance(), stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();   // the tile is there for all; all are done with the other stage
        if (visit.more()) start_stage(stage ^ 1, visit.round, visited_tile(visit.next));
        cp_async_commit();

        const Sight sight = sight_of(visit.current, share);
        if (sight == NOTHING) continue;
        const unsigned q_at = shared + stage * R::STAGE_BYTES;
        const unsigned char* small_at = memory + stage * R::STAGE_BYTES + lane % 4 * 16;
#pragma unroll
        for (int step = 0; step < ROWS; step += STEP) {
            // transposed: a row is a key, a column a query
            Scores<PIECES, STEP> p_t = {}, ds_t;
            const unsigned rows_at = q_at + step * row_bytes<E> + right_then_down<E>(lane);
            const unsigned sums_at = q_at + step * row_bytes<E> + down_then_right<E>(lane) + first_column * 2;
#pragma unroll
            for (int e = 0; e < E / 16; ++e) add_scores<E, STEP>(p_t, own_k[e], rows_at, e);
            if (sight == SOME) {
#pragma unroll
                for (int p = 0; p < PIECES; ++p)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int key = first_key + p * 16 + half * 8 + lane / 4, end = ends[key];
#pragma unroll
                        for (int n = 0; n < STEP / 8; ++n) {
                            const int4 two =
                                *reinterpret_cast<const int4*>(small_at + R::LIMITS_AT + (step + n * 8) * 8);
                            if (!sees(make_int2(two.x, two.y), key, end)) p_t[p][n][2 * half] = unseen();
                            if (!sees(make_int2(two.z, two.w), key, end)) p_t[p][n][2 * half + 1] = unseen();
                        }
                    }
            }
#pragma unroll
            for (int n = 0; n < STEP / 8; ++n) {
                const float2 lse2 = *reinterpret_cast<const float2*>(
                    memory + stage * R::STAGE_BYTES + R::LSE_AT + (step + n * 8 + lane % 4 * 2) * 4);
                const float4 start =
                    *reinterpret_cast<const float4*>(small_at + R::DELTA_AT + (step + n * 8) * 8);
#pragma unroll
                for (int p = 0; p < PIECES; ++p)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        p_t[p][n][i] = exp2_approx(fmaf(p_t[p][n][i], scale_log2, -(i % 2 ? lse2.y : lse2.x)));
                        ds_t[p][n][i] = i == 0 ? start.x : i == 1 ? start.y : i == 2 ? start.z : start.w;
                    }
            }
            add_weighted<E, STEP, COLUMNS>(sum_dv, p_t, sums_at + R::TILE_BYTES);
#pragma unroll
            for (int e = 0; e < E / 16; ++e) {
                unsigned own_v[PIECES][4];
                read_own<E>(own_v, own_at + R::V_AT, e);
                add_scores<E, STEP>(ds_t, own_v, rows_at + R::TILE_BYTES, e);
            }
#pragma unroll
            for (int p = 0; p < PIECES; ++p)
#pragma unroll
                for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) ds_t[p][n][i] *= p_t[p][n][i];
            add_weighted<E, STEP, COLUMNS>(sum_dk, ds_t, sums_at);
        }
    }

#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) sum_dk[p][n][i] *= scale;
    __syncthreads();   // all are done with the stages: the outputs pass through them
    const size_t out = (size_t)first_key * K * E + kv_head * E + first_column;
    unsigned char* mine = memory + share * R::WARP_KEYS * row_bytes<E> + first_column * 2;
    store_sums<E, COLUMNS>(dk + out, K * E, T - first_key, sum_dk, mine);
    store_sums<E, COLUMNS>(dv + out, K * E, T - first_key, sum_dv, mine);
}

}  // namespace

#define ENTRY(E)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(DELTA_WARPS * WARP) attention_delta_bf16_e##E(                      \
        float* __restrict__ lse2_HP, float* __restrict__ minus_delta_HP2, const bf16* __restrict__ do_NHE,           \
        const bf16* __restrict__ o_NHE, const float* __restrict__ lse_HN, int N, int P, int H)                       \
    {                                                                                                                \
        row_terms<E>(lse2_HP, minus_delta_HP2, do_NHE, o_NHE, lse_HN, N, P, H);                                      \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(RowPass<E>::THREADS, RowPass<E>::BLOCKS)                            \
    attention_backward_q_bf16_e##E(                                                                                  \
        bf16* __restrict__ dq_NHE, const bf16* __restrict__ do_NHE, const bf16* __restrict__ q_NHE,                  \
        const bf16* __restrict__ k_TKE, const bf16* __restrict__ v_TKE, const float* __restrict__ lse2_HP,           \
        const float* __restrict__ minus_delta_HP2, const int2* __restrict__ limits_P,                                \
        const int* __restrict__ ends_T, const int4* __restrict__ tasks, const int* __restrict__ visits,              \
        float scale, int N, int P, int T, int H, int K)                                                              \
    {                                                                                                                \
        backward_q<E>(dq_NHE, do_NHE, q_NHE, k_TKE, v_TKE, lse2_HP, minus_delta_HP2, limits_P, ends_T, tasks,        \
                      visits, scale, N, P, T, H, K);                                                                 \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(KeyPass<E>::THREADS, KeyPass<E>::BLOCKS)                            \
    attention_backward_kv_bf16_e##E(                                                                                 \
        bf16* __restrict__ dk_TKE, bf16* __restrict__ dv_TKE, const bf16* __restrict__ do_NHE,                       \
        const bf16* __restrict__ q_NHE, const bf16* __restrict__ k_TKE, const bf16* __restrict__ v_TKE,              \
        const float* __restrict__ lse2_HP, const float* __restrict__ minus_delta_HP2,                                \
        const int2* __restrict__ limits_P, const int* __restrict__ ends_T, const int4* __restrict__ tasks,           \
        const int* __restrict__ visits, float scale, int N, int P, int T, int H, int K)                              \
    {                                                                                                                \
        backward_kv<E>(dk_TKE, dv_TKE, do_NHE, q_NHE, k_TKE, v_TKE, lse2_HP, minus_delta_HP2, limits_P, ends_T,      \
                       tasks, visits, scale, N, P, T, H, K);                                                         \
    }
ENTRY(32)
ENTRY(64)
ENTRY(96)
ENTRY(128)
ENTRY(256)
