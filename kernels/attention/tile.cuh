// tile.cuh - tiles of rows of E values in shared memory, and the products that attention makes of them.
//
// A warp owns PIECES pieces of 16 rows as a operand; each fragment of the other side is read once for all of them.
#pragma once
#include "attention/sight.cuh"

// Bytes from a row in shared memory to the next: one piece of 16 bytes more than in global memory. Their number is
// odd, so equal pieces of 8 consecutive rows lie in 8 different groups of banks, and all addresses differ by
// constants.
template <int E> constexpr int row_bytes = E * 2 + 16;

template <int PIECES, int STEP> using Scores = float[PIECES][STEP / 8][4];
template <int PIECES, int COLUMNS> using Sums = float[PIECES][COLUMNS / 8][4];

// One thread's share of copying tiles of ROWS rows to shared memory. Offsets are 32 bits wide: a tensor has fewer than
// 2^31 elements.
template <int E, int ROWS, int THREADS>
struct TileCopy {
    static constexpr int CHUNKS = E / 8;
    // Where 8 lanes do not fill a row they copy halves of rows r and r + 4, which lie in different banks; so rows are
    // taken in eights, and some threads may have nothing to copy.
    static constexpr bool HALVES = CHUNKS % 8 == 4;
    static_assert(HALVES || CHUNKS % 8 == 0, "E is a multiple of 32");
    static constexpr int ROWS_APART = HALVES ? THREADS / CHUNKS / 8 * 8 : THREADS / CHUNKS;
    static_assert(ROWS % ROWS_APART == 0, "every thread copies as often");
    int first, stride;   // element of this thread's piece of tile 0; elements between rows
    int room;            // rows from this thread's first on
    unsigned to;

    // `rows` rows, the first one from element `begin` on.
    __device__ TileCopy(int begin, int stride, int rows) : stride(stride)
    {
        const int place = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        const int row = HALVES ? place / 8 * 8 + place % 8 / 2 + place % 2 * 4 : place;
        first = begin + row * stride + chunk * 8;
        room = rows - row;
        to = row * row_bytes<E> + chunk * 16;
    }
    // Starts the copy of a tile of x, `column` elements further on. Rows past the last become zeros.
    __device__ void start(unsigned shared, const bf16* x, int tile, int column = 0) const
    {
        if (THREADS > ROWS_APART * CHUNKS && threadIdx.x >= ROWS_APART * CHUNKS) return;
        const bf16* piece = x + (first + tile * (ROWS * stride) + column);
        const int left = room - tile * ROWS;
#pragma unroll
        for (int i = 0; i < ROWS; i += ROWS_APART) {
            cp_async16(shared + to + i * row_bytes<E>, piece, i < left);
            piece += ROWS_APART * stride;
        }
    }
};

// Where this lane's row of a 16 x 16 fragment lies whose 8x8 pieces go down, then right: an a operand, or b operands
// that are transposed on the way.
template <int E>
__device__ inline unsigned down_then_right(int lane) { return lane % 16 * row_bytes<E> + lane / 16 * 16; }
// The same where pieces go right, then down: two b operands, one below the other.
template <int E>
__device__ inline unsigned right_then_down(int lane)
{
    return (lane / 16 * 8 + lane % 8) * row_bytes<E> + lane / 8 % 2 * 16;
}

// Columns 16 e .. 16 e + 15 of a warp's own rows; own_at: down_then_right.
template <int E, int PIECES>
__device__ inline void read_own(unsigned (&own)[PIECES][4], unsigned own_at, int e)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p) ldmatrix_x4(own[p], own_at + p * 16 * row_bytes<E> + e * 32);
}

// scores += own other^T over columns 16 e .. 16 e + 15; other: STEP rows at other_at, right_then_down.
template <int E, int STEP, int PIECES>
__device__ inline void add_scores(Scores<PIECES, STEP>& scores, const unsigned (&own)[PIECES][4], unsigned other_at,
                                  int e)
{
#pragma unroll
    for (int n = 0; n < STEP / 8; n += 2) {
        unsigned b[4];
        ldmatrix_x4(b, other_at + n * 8 * row_bytes<E> + e * 32);
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            mma_bf16(scores[p][n], own[p], b[0], b[1]);
            mma_bf16(scores[p][n + 1], own[p], b[2], b[3]);
        }
    }
}

// Hides from own rows, whose limits and the ends of STEP keys are in shared memory, the keys that they do not see.
template <int STEP, int PIECES>
__device__ inline void hide_unseen(Scores<PIECES, STEP>& s, const int2* limits, const int* ends, int first_key)
{
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < STEP / 8; ++n) {
        const int column = n * 8 + lane % 4 * 2, key = first_key + column;
        const int2 end = *reinterpret_cast<const int2*>(ends + column);
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int2 row = limits[p * 16 + half * 8 + lane / 4];
                if (!sees(row, key, end.x)) s[p][n][2 * half] = unseen();
                if (!sees(row, key + 1, end.y)) s[p][n][2 * half + 1] = unseen();
            }
    }
}

// sums += weights other, over STEP rows and COLUMNS columns at other_at, down_then_right. The weights are rounded to
// bf16. They are accumulators and become a operands as they lie.
template <int E, int STEP, int COLUMNS, int PIECES>
__device__ inline void add_weighted(Sums<PIECES, COLUMNS>& sums, const Scores<PIECES, STEP>& weights,
                                    unsigned other_at)
{
#pragma unroll
    for (int n = 0; n < STEP / 8; n += 2) {
        unsigned a[PIECES][4];
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[p][i] = to_bf16(weights[p][n + i / 2][i % 2 * 2], weights[p][n + i / 2][i % 2 * 2 + 1]).bits;
#pragma unroll
        for (int e = 0; e < COLUMNS / 16; ++e) {
            unsigned b[4];
            ldmatrix_x4_trans(b, other_at + n * 8 * row_bytes<E> + e * 32);
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
                mma_bf16(sums[p][2 * e], a[p], b[0], b[1]);
                mma_bf16(sums[p][2 * e + 1], a[p], b[2], b[3]);
            }
        }
    }
}

// Rounds and stores a warp's sums as rows of out, of which `rows` exist. They pass through shared memory, row_bytes<E>
// apart from `mine` on, so that whole sectors are written.
template <int E, int COLUMNS, int PIECES>
__device__ inline void store_sums(bf16* out, int stride, int rows, const Sums<PIECES, COLUMNS>& sums,
                                  unsigned char* mine)
{
    constexpr int CHUNKS = COLUMNS / 8;
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; ++n)
                *reinterpret_cast<unsigned*>(mine + (p * 16 + half * 8 + lane / 4) * row_bytes<E> + n * 16
                                             + lane % 4 * 4) =
                    to_bf16(sums[p][n][2 * half], sums[p][n][2 * half + 1]).bits;
    __syncwarp();   // lanes read what others wrote
    for (int i = lane; i < PIECES * 16 * CHUNKS; i += WARP) {
        const int row = i / CHUNKS, chunk = i % CHUNKS;
        if (row < rows)
            *reinterpret_cast<uint4*>(out + (size_t)row * stride + chunk * 8) =
                *reinterpret_cast<const uint4*>(mine + row * row_bytes<E> + chunk * 16);
    }
    __syncwarp();   // before the next sums are written there
}
