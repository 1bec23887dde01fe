// sight.cuh - who sees whom in a token forest, and the lists that take blocks to the tiles that they see.
//
// Tokens stand in pre-order, so query row i sees key j if
//
//   first[i] <= j <= last[i] < end[j]
//
// last is the row's own token, first the first token of its tree that the window reaches, and end the end of the run
// of tokens that descend from j. A tree's tokens before i that are no ancestors of i have ended by then.
//
// The host (src/ops/attention/cuda/plan.rs) cuts rows and keys into tiles and lists for each tile the tiles that it has
// anything to do with. A task {tile, first visit, last visit (exclusive), 0} is one block's work. A visit is the
// number of the visited tile, times 2^16, plus two bits for each warp (or pair of warps) that owns rows of the block:
// what they and the visited tile see of each other. Tiles number fewer than 2^15. A task has at
// least one visit, if need be one without any sight.
#pragma once
#include "prelude.cuh"

enum Sight { NOTHING = 0, SOME = 1, ALL = 2 };

__device__ inline int visited_tile(int visit) { return visit >> 16; }
__device__ inline Sight sight_of(int visit, int share) { return (Sight)(visit >> (2 * share) & 3); }

// limits: first and last of a row.
__device__ inline bool sees(int2 limits, int key, int end)
{
    return limits.x <= key && key <= limits.y && limits.y < end;
}

// The score of a key that is not seen: -infinity.
__device__ inline float unseen() { return __int_as_float(0xff800000); }

// One visit after another, with the next one already known so that its tile can be fetched. The list is gone through
// `rounds` times.
struct Visits {
    const int* list;
    int first, last;       // last exclusive
    int ahead;             // place of the visit after the next
    int round;             // of the next
    int left;              // visits from the current one on
    int current, next;

    __device__ Visits(const int* list, int4 task, int rounds = 1)
        : list(list), first(task.y), last(task.z), ahead(first), round(0), left(rounds * (last - first))
    {
        current = list[first];
        step();
        next = list[ahead];
    }
    __device__ bool more() const { return left > 1; }
    __device__ void advance()
    {
        current = next;
        step();
        next = list[ahead];
        --left;
    }

private:
    __device__ void step()
    {
        if (++ahead == last) {
            ahead = first;
            ++round;
        }
    }
};
