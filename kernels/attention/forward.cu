// forward.cu - softmax attention over a token forest, tile by tile, without a matrix of scores.
//
//   s[i,j] = scale q[i] . k[j]   for first[i] <= j <= last[i] < end[j]      lse[i] = ln sum_j exp(s[i,j])
//   o[i]   = sum_j exp(s[i,j] - lse[i]) v[j]
//
// Source    Dao, "FlashAttention-2", 2023, but for the top that is subtracted from scores. There it is the
//           running maximum; here it is raised only when a sum would pass 2^32, so a step of a full tile takes
//           no maximum and no rescaling: see docs/math.md#attention. Who sees whom: tile.cuh, host lists in
//           src/ops/attention/cuda.rs.
// Shapes    q, o: bf16 [N, H, E]   k, v: bf16 [T, K, E]   lse: f32 [H, N]   limits: [N]   ends: [T up to a
//           multiple of 64]   T tokens, N query rows (a subset of tokens), H query heads, K key-value heads
//           (head h reads h / (H / K)), E head width
// Numerics  scores, sums and output in f32; weights are rounded to bf16 before they meet v, not before they
//           are summed; one rounding of o. exp2 is the hardware's, relative error 2^-22
// Needs     E a multiple of 16 up to 128, or 256; scale > 0; H % K == 0; every row sees a key; q, k, v, o 16-byte
//           aligned; visits of a task in any order, each tile once
// Grid      (H, tasks) blocks of 128 threads; a block owns ROWS query rows of a head. Tasks come longest
//           first; the heads of one task are neighbours, so that they share K and V in L2
// Shared    SHARED_BYTES, dynamic: 37.9 KB for E = 64, 70.9 KB for E = 128. Fragments and copies meet no bank
//           conflict
// Repeats   bit-identical from run to run: each output has one owner, tiles come in the order of the list
// Cost      4 E FLOPs a pair of row and key; q, o and lse move once, K and V once per block that sees them
// Oracle    src/ops/attention/forward.rs
#include "attention/tile.cuh"

namespace {

constexpr int PIECES = E <= 128 ? 2 : 1;         // pieces of 16 query rows in a warp: K and V are read once for all
constexpr int WARP_ROWS = 16 * PIECES;
constexpr int ROWS = WARPS * WARP_ROWS;          // query rows of a block
constexpr int KEYS = E <= 96 ? 64 : 32;          // keys of a tile
constexpr int STEP = 32;                         // keys whose scores are in registers at a time
constexpr bool Q_RESIDENT = E <= 96;             // Q stays in registers, else it is read again for each step
constexpr int Q_HELD = Q_RESIDENT ? E / 16 : 1;

// Shared memory: two stages of a K tile, a V tile and the ends of its keys; limits of the rows; Q, which
// borrows the second stage where it then moves to registers.
constexpr int TILE_BYTES = KEYS * ROW_BYTES;
constexpr int ENDS_AT = 2 * TILE_BYTES;
constexpr int STAGE_BYTES = ENDS_AT + KEYS * 4;
constexpr int LIMITS_AT = 2 * STAGE_BYTES;
constexpr int Q_AT = Q_RESIDENT ? STAGE_BYTES : LIMITS_AT + ROWS * 8;
static_assert(!Q_RESIDENT || ROWS * ROW_BYTES <= STAGE_BYTES, "Q fits the second stage");

constexpr float LOWEST = -1e30f;                 // below every score, but finite
constexpr float TOO_HIGH = 4294967296.0f;

extern __shared__ __align__(16) unsigned char memory[];

typedef float Scores[PIECES][STEP / 8][4];
typedef float Output[PIECES][E / 8][4];
typedef float RowValues[PIECES][2];              // of rows l/4 and l/4 + 8 of each piece, in lane l

__device__ inline void scores(Scores& s, unsigned (&q)[Q_HELD][PIECES][4], unsigned q_at, unsigned k_at)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int n = 0; n < STEP / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) s[p][n][i] = 0.0f;
#pragma unroll
    for (int e = 0; e < E / 16; ++e) {
        if (!Q_RESIDENT) {
#pragma unroll
            for (int p = 0; p < PIECES; ++p) ldmatrix_x4(q[0][p], q_at + p * 16 * ROW_BYTES + e * 32);
        }
#pragma unroll
        for (int n = 0; n < STEP / 8; n += 2) {
            unsigned b[4];
            ldmatrix_x4(b, k_at + n * 8 * ROW_BYTES + e * 32);
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
                mma_bf16(s[p][n], q[e % Q_HELD][p], b[0], b[1]);
                mma_bf16(s[p][n + 1], q[e % Q_HELD][p], b[2], b[3]);
            }
        }
    }
}

__device__ inline void hide_unseen(Scores& s, const Limits* limits, const int* ends, int first_key, int lane)
{
#pragma unroll
    for (int n = 0; n < STEP / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2, key = first_key + column;
        const int2 end = *reinterpret_cast<const int2*>(ends + column);
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const Limits row = limits[p * 16 + half * 8 + lane / 4];
                if (!(row.first <= key && key <= row.last && row.last < end.x)) s[p][n][2 * half] = unseen();
                if (!(row.first <= key + 1 && key + 1 <= row.last && row.last < end.y))
                    s[p][n][2 * half + 1] = unseen();
            }
    }
}

// Raises the tops to the highest score so far, and scales what was summed by the old ones.
__device__ inline void raise(RowValues& top, RowValues& sum_p, Output& sum_o, const Scores& s, float scale_log2)
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
__device__ inline bool exponentiate(Scores& s, RowValues& sum, const RowValues& top, float scale_log2)
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

__device__ inline void add_values(Output& sum_o, const Scores& weight, unsigned v_at)
{
#pragma unroll
    for (int n = 0; n < STEP / 8; n += 2) {
        unsigned a[PIECES][4];
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[p][i] = to_bf16(weight[p][n + i / 2][i % 2 * 2], weight[p][n + i / 2][i % 2 * 2 + 1]).bits;
#pragma unroll
        for (int e = 0; e < E / 16; ++e) {
            unsigned b[4];
            ldmatrix_x4_trans(b, v_at + n * 8 * ROW_BYTES + e * 32);
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
                mma_bf16(sum_o[p][2 * e], a[p], b[0], b[1]);
                mma_bf16(sum_o[p][2 * e + 1], a[p], b[2], b[3]);
            }
        }
    }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, 2) ENTRY(attention_forward_bf16)(
    bf16* __restrict__ o_NHE,                // out, rows of queries
    float* __restrict__ lse_HN,              // out
    const bf16* __restrict__ q_NHE,
    const bf16* __restrict__ k_TKE,          // rows of tokens
    const bf16* __restrict__ v_TKE,
    const Limits* __restrict__ limits_N,
    const int* __restrict__ ends_T,          // zeros up to a multiple of 64
    const Task* __restrict__ tasks,          // [gridDim.y]
    const unsigned* __restrict__ visits,
    float scale, int N, int T, int H, int K)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int head = blockIdx.x, kv_head = head / (H / K);
    const Task task = tasks[blockIdx.y];
    const unsigned shared = shared_address(memory);
    const float scale_log2 = scale * LOG2E;
    Limits* limits = reinterpret_cast<Limits*>(memory + LIMITS_AT);

    const TileCopy<KEYS> copy_k(k_TKE + kv_head * E, (long long)K * E, T);
    const TileCopy<KEYS> copy_v(v_TKE + kv_head * E, (long long)K * E, T);
    const auto start_stage = [&](int stage, int tile) {
        const unsigned to = shared + stage * STAGE_BYTES;
        copy_k.start(to, tile);
        copy_v.start(to + TILE_BYTES, tile);
        if (threadIdx.x < KEYS / 4) cp_async16(to + ENDS_AT + threadIdx.x * 16, ends_T + tile * KEYS + threadIdx.x * 4);
    };

    unsigned visit = visits[task.first_visit];
    TileCopy<ROWS>(q_NHE + head * E, (long long)H * E, N).start(shared + Q_AT, task.tile);
    start_stage(0, visited_tile(visit));
    cp_async_commit();
    for (int i = threadIdx.x; i < ROWS; i += THREADS) {
        const int row = task.tile * ROWS + i;
        limits[i] = row < N ? limits_N[row] : Limits{0, -1};
    }
    const unsigned q_at = shared + Q_AT + warp * WARP_ROWS * ROW_BYTES + down_then_right(lane);
    unsigned q[Q_HELD][PIECES][4];
    if (Q_RESIDENT) {
        cp_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int e = 0; e < E / 16; ++e)
#pragma unroll
            for (int p = 0; p < PIECES; ++p) ldmatrix_x4(q[e % Q_HELD][p], q_at + p * 16 * ROW_BYTES + e * 32);
    }

    Output sum_o = {};
    RowValues sum_p = {}, top;
#pragma unroll
    for (int p = 0; p < PIECES; ++p) top[p][0] = top[p][1] = LOWEST;
    bool too_high = true;

    unsigned next = task.first_visit + 1 < task.last_visit ? visits[task.first_visit + 1] : 0;
    int stage = 0;
    for (int at = task.first_visit; at < task.last_visit; ++at) {
        cp_async_wait<0>();
        __syncthreads();   // the tile is there for all; all are done with the other stage
        if (at + 1 < task.last_visit) start_stage(stage ^ 1, visited_tile(next));
        cp_async_commit();
        const unsigned now = visit;
        visit = next;
        if (at + 2 < task.last_visit) next = visits[at + 2];

        const Sight sight = sight_of(now, warp);
        const unsigned k_at = shared + stage * STAGE_BYTES + right_then_down(lane);
        const unsigned v_at = shared + stage * STAGE_BYTES + TILE_BYTES + down_then_right(lane);
        const int* ends = reinterpret_cast<const int*>(memory + stage * STAGE_BYTES + ENDS_AT);
        stage ^= 1;
        if (sight == NOTHING) continue;
#pragma unroll
        for (int step = 0; step < KEYS; step += STEP) {
            Scores s;
            RowValues sum;
            do {
                scores(s, q, q_at, k_at + step * ROW_BYTES);
                if (sight == SOME)
                    hide_unseen(s, limits + warp * WARP_ROWS, ends + step, visited_tile(now) * KEYS + step, lane);
                if (too_high) raise(top, sum_p, sum_o, s, scale_log2);
                too_high = exponentiate(s, sum, top, scale_log2);
            } while (too_high);
#pragma unroll
            for (int p = 0; p < PIECES; ++p)
#pragma unroll
                for (int half = 0; half < 2; ++half) sum_p[p][half] += sum[p][half];
            add_values(sum_o, s, v_at + step * ROW_BYTES);
        }
    }

    __syncthreads();   // all are done with the stages: each warp puts its rows in order there
    unsigned char* out = memory + warp * WARP_ROWS * ROW_BYTES;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float total = sum_p[p][half];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            const float inverse = 1.0f / total;
            const int in_warp = p * 16 + half * 8 + lane / 4, row = task.tile * ROWS + warp * WARP_ROWS + in_warp;
            if (lane % 4 == 0 && row < N) lse_HN[(size_t)head * N + row] = (top[p][half] + __log2f(total)) * LN2;
#pragma unroll
            for (int n = 0; n < E / 8; ++n)
                *reinterpret_cast<unsigned*>(out + in_warp * ROW_BYTES + n * 16 + lane % 4 * 4) =
                    to_bf16(sum_o[p][n][2 * half] * inverse, sum_o[p][n][2 * half + 1] * inverse).bits;
        }
    __syncwarp();
    for (int i = lane; i < WARP_ROWS * CHUNKS; i += WARP) {
        const int in_warp = i / CHUNKS, chunk = i % CHUNKS, row = task.tile * ROWS + warp * WARP_ROWS + in_warp;
        if (row < N)
            *reinterpret_cast<uint4*>(o_NHE + (size_t)row * H * E + head * E + chunk * 8) =
                *reinterpret_cast<const uint4*>(out + in_warp * ROW_BYTES + chunk * 16);
    }
}
