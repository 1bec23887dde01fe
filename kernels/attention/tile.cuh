// tile.cuh - what the attention kernels share: tiles of rows in shared memory, who sees whom, exponentials.
//
// The kernels are compiled once for each head width: E is defined by the compiler's options.
#pragma once
#include "prelude.cuh"

// Entries are named for the head width: ENTRY(attention_forward_bf16) is attention_forward_bf16_e64.
#define JOIN(name, width) name##_e##width
#define NAME(name, width) JOIN(name, width)
#define ENTRY(name) NAME(name, E)

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int CHUNKS = E / 8;   // 16-byte pieces of a row
// A row in shared memory is one piece longer than in memory. Its number of pieces is odd, so equal pieces of
// 8 consecutive rows lie in 8 different groups of banks, and all addresses differ by constants.
constexpr int ROW_BYTES = E * 2 + 16;
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;

static_assert(E % 16 == 0, "a product takes 16 values at a time");

// ---- who sees whom ----
//
// In pre-order, query row i sees key j if first[i] <= j <= last[i] < end[j]: last is its own token, first the
// first token of its tree that lies in the window, end the end of the run of tokens that descend from j.

// The keys that a query row may see.
struct Limits { int first; int last; };

// One block's work: the tile that it owns, and the list of tiles that it visits.
struct Task {
    int tile;
    int first_visit, last_visit;   // last exclusive, above first
    int unused;                    // 16 bytes, one load
};

// What the rows of one warp and a visited tile have to do with each other.
enum Sight { NOTHING = 0, SOME = 1, ALL = 2 };

// A visit is the number of the visited tile and, two bits each, the sight of the four warps.
__device__ inline int visited_tile(unsigned visit) { return (int)(visit >> (2 * WARPS)); }
__device__ inline Sight sight_of(unsigned visit, int warp) { return (Sight)(visit >> (2 * warp) & 3); }

// The score of a key that is not seen: -infinity.
__device__ inline float unseen() { return __int_as_float(0xff800000); }

// ---- tiles ----

// One thread's share of copying tiles of ROWS rows of E values to shared memory.
template <int ROWS>
struct TileCopy {
    static constexpr int ROWS_APART = THREADS / CHUNKS;
    const bf16* from;
    long long stride;
    int room;          // rows from this thread's first on
    unsigned to;

    __device__ TileCopy(const bf16* x, long long stride, int rows) : stride(stride)
    {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        from = x + row * stride + chunk * 8;
        room = rows - row;
        to = row * ROW_BYTES + chunk * 16;
    }
    // Rows past the last become zeros.
    __device__ void start(unsigned shared, int tile) const
    {
        if (THREADS % CHUNKS != 0 && threadIdx.x >= ROWS_APART * CHUNKS) return;
        const bf16* piece = from + tile * (ROWS * stride);
#pragma unroll
        for (int i = 0; i < ROWS; i += ROWS_APART) {
            if (ROWS % ROWS_APART == 0 || i + (int)threadIdx.x / CHUNKS < ROWS)
                cp_async16(shared + to + i * ROW_BYTES, piece, tile * ROWS + i < room);
            piece += ROWS_APART * stride;
        }
    }
};

// Address of this lane's row of a fragment of 16 rows x 16 values whose 8x8 pieces go down, then right: an a
// operand, or a b operand that is transposed on the way.
__device__ inline unsigned down_then_right(int lane) { return lane % 16 * ROW_BYTES + lane / 16 * 16; }
// The same where pieces go right, then down: two b operands, one a row of pieces.
__device__ inline unsigned right_then_down(int lane)
{
    return (lane / 16 * 8 + lane % 8) * ROW_BYTES + lane / 8 % 2 * 16;
}

__device__ inline float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
