// attention/forward.cu - softmax attention over a token forest, tile by tile, without a matrix of scores.
//
//   s[i,j] = scale q[i] . k[j]   for the keys j that row i sees: sight.cuh      lse[i] = ln sum_j exp(s[i,j])
//   o[i]   = sum_j exp(s[i,j] - lse[i]) v[j]
//
// Source    Dao, "FlashAttention-2", 2023, but for the number that is subtracted from the scores. There it is their
//           running maximum. Here the top is raised to the maximum only when a sum of 32 weights would pass 2^32, so a
//           step takes no maximum and no rescaling: docs/math.md#attention
// Shapes    q, o: bf16 [N, H, E]   k, v: bf16 [T, K, E]   lse: f32 [H, N]   limits: i32 pairs [N up to a multiple of
//           128]   ends: i32 [T up to a multiple of 128]   tasks, visits: sight.cuh
//           T tokens, N query rows (those of a subset of the tokens), H query heads, K key-value heads (head h reads
//           h / (H / K)), E head width
// Numerics  scores, sums and output in f32; weights are summed in f32 and rounded to bf16 before they meet v; one
//           rounding of o
// Needs     an entry for E; scale > 0; H % K == 0; every row sees a key; fewer than 2^31 elements in a tensor; pointers
//           16-byte aligned; limits past row N are {0, -1}, ends past key T are 0
// Grid      (H, tasks) blocks of 128 threads, a task for each tile of 128 query rows (64 where E is 256), visits of 64
//           keys (32 where E is above 64). Tasks come longest first. Heads run side by side, so that those that share
//           K and V do so in L2
// Shared    dynamic, about 22, 38, 55, 71 and 68 KB for E = 32, 64, 96, 128 and 256. Copies and fragments meet no bank
//           conflict
// Repeats   bit-identical from run to run: one owner of each output, visits in the order of the list, no atomics
// Cost      4 E FLOPs for each row and key of a visited tile that is not hidden from a whole warp; q, o and lse move
//           once, K and V once for each block that visits them. sm_80 counts 3.05 instructions a matrix product for
//           E = 128 and 3.94 for E = 64, with hidden keys 4.19 and 6.27
// Oracle    src/ops/attention/forward.rs
#include "attention/tile.cuh"

namespace {

template <int WIDTH>
struct Forward {
    static constexpr int E = WIDTH;
    static constexpr int PIECES = E <= 128 ? 2 : 1;
    static constexpr int WARPS = 4, THREADS = WARPS * WARP;
    static constexpr int WARP_ROWS = 16 * PIECES, ROWS = WARPS * WARP_ROWS;   // query rows of a warp, of a block
    static constexpr int KEYS = E <= 64 ? 64 : 32;    // keys of a visited tile
    static constexpr int STEP = E <= 128 ? 32 : 16;   // keys whose scores are in registers at a time
    static constexpr bool Q_HELD = E <= 64 || E > 128;   // Q stays in registers, else it is read again for each step

    // Shared memory: two stages of a K tile, a V tile and the ends of its keys; the limits of the rows; Q, which
    // borrows the second stage where it then moves to registers.
    static constexpr int TILE_BYTES = KEYS * row_bytes<E>;
    static constexpr int ENDS_AT = 2 * TILE_BYTES;
    static constexpr int STAGE_BYTES = ENDS_AT + KEYS * 4;
    static constexpr int LIMITS_AT = 2 * STAGE_BYTES;
    static constexpr int Q_AT = Q_HELD ? STAGE_BYTES : LIMITS_AT + ROWS * 8;
    static_assert(!Q_HELD || ROWS * row_bytes<E> <= STAGE_BYTES, "Q fits the second stage");
};

constexpr float LOWEST = -1e30f;             // below every score, but finite
constexpr float TOO_HIGH = 4294967296.0f;

extern __shared__ __align__(16) unsigned char memory[];

// Of rows l/4 and l/4 + 8 of each piece, in lane l.
template <int PIECES> using RowValues = float[PIECES][2];

// Raises the tops to the highest score so far, and scales what was summed under the old ones.
template <int STEP, int E, int PIECES>
__device__ inline void raise(RowValues<PIECES>& top, RowValues<PIECES>& sum_p, Sums<PIECES, E>& sum_o,
                             const Scores<PIECES, STEP>& s, float scale_log2)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float highest = unseen();
#pragma unroll
            for (int n = 0; n < STEP / 8; ++n)
                highest = fmaxf(highest, fmaxf(s[p][n][2 * half], s[p][n][2 * half + 1]));
            highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
            highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
            const float raised = fmaxf(top[p][half], highest * scale_log2);
            const float fade = exp2_approx(top[p][half] - raised);
            top[p][half] = raised;
            sum_p[p][half] *= fade;
#pragma unroll
            for (int n = 0; n < E / 8; ++n) {
                sum_o[p][n][2 * half] *= fade;
                sum_o[p][n][2 * half + 1] *= fade;
            }
        }
}

// Turns scores into exp2(scale_log2 s - top). Returns, to all lanes alike, whether a sum is too high.
template <int STEP, int PIECES>
__device__ inline bool exponentiate(Scores<PIECES, STEP>& s, RowValues<PIECES>& sum, const RowValues<PIECES>& top,
                                    float scale_log2)
{
    bool high = false;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[p][half] = 0.0f;
#pragma unroll
            for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    s[p][n][i] = exp2_approx(fmaf(s[p][n][i], scale_log2, -top[p][half]));
                    sum[p][half] += s[p][n][i];
                }
            high |= sum[p][half] > TOO_HIGH;
        }
    return __any_sync(0xffffffffu, high);
}

template <int E>
__device__ inline void forward(bf16* o, float* lse, const bf16* q, const bf16* k, const bf16* v, const int2* limits,
                               const int* ends, const int4* tasks, const int* visits, float scale, int N, int T,
                               int H, int K)
{
    using F = Forward<E>;
    constexpr int PIECES = F::PIECES, KEYS = F::KEYS, STEP = F::STEP;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int head = blockIdx.x, kv_head = head / (H / K);
    const int4 task = tasks[blockIdx.y];
    const int first_row = task.x * F::ROWS + warp * F::WARP_ROWS;
    const unsigned shared = shared_address(memory);
    const float scale_log2 = scale * LOG2E;

    const TileCopy<E, KEYS, F::THREADS> copy(kv_head * E, K * E, T);
    const auto start_stage = [&](int stage, int tile) {
        const unsigned to = shared + stage * F::STAGE_BYTES;
        copy.start(to, k, tile);
        copy.start(to + F::TILE_BYTES, v, tile);
        if (threadIdx.x < KEYS / 4)
            cp_async16(to + F::ENDS_AT + threadIdx.x * 16, ends + tile * KEYS + threadIdx.x * 4);
    };

    Visits visit(visits, task);
    start_stage(0, visited_tile(visit.current));
    TileCopy<E, F::ROWS, F::THREADS>(head * E, H * E, N).start(shared + F::Q_AT, q, task.x);
    if (threadIdx.x < F::ROWS / 2)
        cp_async16(shared + F::LIMITS_AT + threadIdx.x * 16, limits + task.x * F::ROWS + threadIdx.x * 2);
    cp_async_commit();
    const unsigned q_at = shared + F::Q_AT + warp * F::WARP_ROWS * row_bytes<E> + down_then_right<E>(lane);
    unsigned q_own[F::Q_HELD ? E / 16 : 1][PIECES][4];
    if (F::Q_HELD) {
        cp_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int e = 0; e < E / 16; ++e) read_own<E>(q_own[F::Q_HELD ? e : 0], q_at, e);
    }

    Sums<PIECES, E> sum_o = {};
    RowValues<PIECES> sum_p = {}, top;
#pragma unroll
    for (int p = 0; p < PIECES; ++p) top[p][0] = top[p][1] = LOWEST;
    bool too_high = true;

    for (int stage = 0; visit.left > 0; visit.advance(), stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();   // the tile is there for all; all are done with the other stage
        if (visit.more()) start_stage(stage ^ 1, visited_tile(visit.next));
        cp_async_commit();

        const Sight sight = sight_of(visit.current, warp);
        if (sight == NOTHING) continue;
        const unsigned k_at = shared + stage * F::STAGE_BYTES + right_then_down<E>(lane);
        const unsigned v_at = shared + stage * F::STAGE_BYTES + F::TILE_BYTES + down_then_right<E>(lane);
        const int* tile_ends = reinterpret_cast<const int*>(memory + stage * F::STAGE_BYTES + F::ENDS_AT);
        const int2* own_limits = reinterpret_cast<const int2*>(memory + F::LIMITS_AT) + warp * F::WARP_ROWS;
#pragma unroll
        for (int step = 0; step < KEYS; step += STEP) {
            Scores<PIECES, STEP> s;
            RowValues<PIECES> sum;
            do {
#pragma unroll
                for (int p = 0; p < PIECES; ++p)
#pragma unroll
                    for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
                        for (int i = 0; i < 4; ++i) s[p][n][i] = 0.0f;
#pragma unroll
                for (int e = 0; e < E / 16; ++e) {
                    if (!F::Q_HELD) read_own<E>(q_own[0], q_at, e);
                    add_scores<E, STEP>(s, q_own[F::Q_HELD ? e : 0], k_at + step * row_bytes<E>, e);
                }
                if (sight == SOME)
                    hide_unseen<STEP>(s, own_limits, tile_ends + step, visited_tile(visit.current) * KEYS + step);
                if (too_high) raise<STEP, E>(top, sum_p, sum_o, s, scale_log2);
                too_high = exponentiate<STEP>(s, sum, top, scale_log2);
            } while (too_high);
#pragma unroll
            for (int p = 0; p < PIECES; ++p)
#pragma unroll
                for (int half = 0; half < 2; ++half) sum_p[p][half] += sum[p][half];
            add_weighted<E, STEP, E>(sum_o, s, v_at + step * row_bytes<E>);
        }
    }

#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float total = sum_p[p][half];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            const int row = first_row + p * 16 + half * 8 + lane / 4;
            if (lane % 4 == 0 && row < N) lse[(size_t)head * N + row] = (top[p][half] + __log2f(total)) * LN2;
            const float inverse = 1.0f / total;
#pragma unroll
            for (int n = 0; n < E / 8; ++n) {
                sum_o[p][n][2 * half] *= inverse;
                sum_o[p][n][2 * half + 1] *= inverse;
            }
        }
    __syncthreads();   // all are done with the stages: the output passes through them
    store_sums<E, E>(o + (size_t)first_row * H * E + head * E, H * E, N - first_row, sum_o,
                     memory + warp * F::WARP_ROWS * row_bytes<E>);
}

}  // namespace

#define ENTRY(E)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(Forward<E>::THREADS, 2) attention_forward_bf16_e##E(                \
        bf16* __restrict__ o_NHE, float* __restrict__ lse_HN, const bf16* __restrict__ q_NHE,                        \
        const bf16* __restrict__ k_TKE, const bf16* __restrict__ v_TKE, const int2* __restrict__ limits_P,           \
        const int* __restrict__ ends_T, const int4* __restrict__ tasks, const int* __restrict__ visits,              \
        float scale, int N, int T, int H, int K)                                                                     \
    {                                                                                                                \
        forward<E>(o_NHE, lse_HN, q_NHE, k_TKE, v_TKE, limits_P, ends_T, tasks, visits, scale, N, T, H, K);          \
    }
ENTRY(32)
ENTRY(64)
ENTRY(96)
ENTRY(128)
ENTRY(256)
