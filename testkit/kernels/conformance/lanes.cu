// lanes.cu - exchange between the lanes of a warp: the same bits on every device.
#include "form.cuh"

#define SHUFFLE(name, text, step, clamp)                                                                         \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{ unsigned y, inside; asm volatile("{ .reg .pred p; " text " %0|p, %2, %3, %4, 0xffffffff; selp.u32 %1, 1, 0, p; }" \
                           : "=r"(y), "=r"(inside) : "r"(a[thread()]), "r"(step), "r"(clamp));                   \
  out[thread()] = y ^ inside; }
#define REDUX(name, text)                                                                                        \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{ unsigned y; asm volatile(text " %0, %1, 0xffffffff;" : "=r"(y) : "r"(a[thread()])); out[thread()] = y; }
#define VOTE(name, text)                                                                                         \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{ unsigned y; asm volatile("{ .reg .pred p, q; setp.lt.u32 p, %1, 0x80000000; " text                             \
                           " q, p, 0xffffffff; selp.u32 %0, 1, 0, q; }" : "=r"(y) : "r"(a[thread()]));           \
  out[thread()] = y; }

SHUFFLE(shfl_up, "shfl.sync.up.b32", 3, 0)
SHUFFLE(shfl_down, "shfl.sync.down.b32", 5, 31)
SHUFFLE(shfl_bfly, "shfl.sync.bfly.b32", 9, 31)
SHUFFLE(shfl_idx, "shfl.sync.idx.b32", threadIdx.x * 7 % 32, 31)
SHUFFLE(shfl_down_in_eights, "shfl.sync.down.b32", 2, 0x181f)
SHUFFLE(shfl_up_in_eights, "shfl.sync.up.b32", 2, 0x1800)
SHUFFLE(shfl_bfly_in_quarters, "shfl.sync.bfly.b32", 2, 0x1c1f)
REDUX(redux_add, "redux.sync.add.u32")
REDUX(redux_min_s32, "redux.sync.min.s32")
REDUX(redux_max_u32, "redux.sync.max.u32")
REDUX(redux_and, "redux.sync.and.b32")
REDUX(redux_xor, "redux.sync.xor.b32")
VOTE(vote_any, "vote.sync.any.pred")
VOTE(vote_all, "vote.sync.all.pred")
VOTE(vote_uni, "vote.sync.uni.pred")

extern "C" __global__ void vote_ballot(unsigned* out, const unsigned* a)
{
    unsigned y;
    asm volatile("{ .reg .pred p; setp.lt.u32 p, %1, 0x80000000; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
                 : "=r"(y) : "r"(a[thread()]));
    out[thread()] = y;
}

extern "C" __global__ void match_any(unsigned* out, const unsigned* a)
{
    unsigned y;
    asm volatile("match.any.sync.b32 %0, %1, 0xffffffff;" : "=r"(y) : "r"(a[thread()] % 5));
    out[thread()] = y;
}

extern "C" __global__ void divergent_paths(unsigned* out, const unsigned* a)
{
    unsigned x = a[thread()];
    for (unsigned step = 0; step < threadIdx.x % 7; ++step) {
        if (x & 1) x = x * 3 + 1;
        else x >>= 1;
    }
    __syncwarp();
    out[thread()] = __shfl_xor_sync(0xffffffffu, x, 1) + x;
}
