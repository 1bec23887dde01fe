// prelude.cuh - what the kernels share: bf16, warp reductions, cp.async, ldmatrix, mma, swizzle, Philox.
//
// Includes nothing, so NVRTC needs no header folder. Everything is inlined. Instructions are those of sm_80,
// which every later architecture has. Fragment layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16".
#pragma once

constexpr int WARP = 32;

// ---- bf16: the upper half of an f32 ----

// One bf16. A struct, so that no arithmetic on the bits happens by accident.
struct bf16 { unsigned short bits; };
// Two bf16 in a register; the first in the low half, as in memory.
struct bf16x2 { unsigned bits; };
// Eight bf16, the 16 bytes of one vector access.
struct alignas(16) bf16x8 { bf16x2 pair[4]; };
// Eight f32.
struct f32x8 {
    float value[8];
    __device__ float& operator[](int k) { return value[k]; }
    __device__ float operator[](int k) const { return value[k]; }
};

__device__ inline float to_f32(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ inline float2 to_f32(bf16x2 x)
{
    return make_float2(__uint_as_float(x.bits << 16), __uint_as_float(x.bits & 0xffff0000u));
}
__device__ inline f32x8 to_f32(bf16x8 x)
{
    f32x8 y;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const float2 f = to_f32(x.pair[k]);
        y[2 * k] = f.x;
        y[2 * k + 1] = f.y;
    }
    return y;
}

// Round to nearest, ties to even.
__device__ inline bf16x2 to_bf16(float first, float second)
{
    bf16x2 y;   // the instruction's first source goes to the upper half
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y.bits) : "f"(second), "f"(first));
    return y;
}
__device__ inline bf16 to_bf16(float x) { return bf16{(unsigned short)to_bf16(x, 0.0f).bits}; }
__device__ inline bf16x8 to_bf16(f32x8 x)
{
    bf16x8 y;
#pragma unroll
    for (int k = 0; k < 4; ++k) y.pair[k] = to_bf16(x[2 * k], x[2 * k + 1]);
    return y;
}

// 16 bytes at once; p is 16-byte aligned.
__device__ inline bf16x8 load8(const bf16* p)
{
    const uint4 u = *reinterpret_cast<const uint4*>(p);
    return {{{u.x}, {u.y}, {u.z}, {u.w}}};
}
__device__ inline void store8(bf16* p, bf16x8 x)
{
    *reinterpret_cast<uint4*>(p) = make_uint4(x.pair[0].bits, x.pair[1].bits, x.pair[2].bits, x.pair[3].bits);
}

// ---- warp reductions: a butterfly, so every lane gets the same bits; all 32 lanes take part ----

__device__ inline float warp_sum(float x)
{
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}
__device__ inline float warp_max(float x)
{
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, apart));
    return x;
}

// ---- shared memory ----

// Where p lies in the block's shared memory, as ldmatrix and cp.async want it.
__device__ inline unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Byte offset of 16-byte chunk `chunk` of row `row` in a tile whose rows have CHUNKS chunks.
//
// The 32 banks are 8 groups of 16 bytes. ldmatrix reads one chunk of 8 consecutive rows at a time, which
// must lie in 8 different groups. Let G be the largest power of two that divides CHUNKS, at most 8. A row
// starts at group row * CHUNKS mod 8: that is a multiple of G, one of 8 / G, fixed by row mod (8 / G). The
// low bits of the group, chunk mod G, are xored with (row / (8 / G)) mod G. For 8 consecutive rows the pair
// (row mod (8 / G), (row / (8 / G)) mod G) takes 8 different values, hence so does the group. The xor stays
// below G, which divides CHUNKS, so no chunk leaves its row; a cp.async of a whole row keeps its groups.
template <int CHUNKS>
__device__ inline unsigned swizzle(unsigned row, unsigned chunk)
{
    constexpr unsigned G = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : CHUNKS % 2 == 0 ? 2 : 1;
    return (row * CHUNKS + (chunk ^ (row / (8 / G)) % G)) * 16;
}

// Copies 16 bytes to shared memory while the thread goes on. Where `valid` is false it writes zeros and reads
// nothing, whatever `global` is.
__device__ inline void cp_async16(unsigned shared, const void* global, bool valid = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
// Closes the group of copies that this thread has started since the last one.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most PENDING groups of this thread are under way. Other threads see the data after a barrier.
template <int PENDING>
__device__ inline void cp_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory"); }

// ---- tensor cores: 16-bit matrices in 8x8 pieces ----

// Four 8x8 pieces; lanes 8i .. 8i+7 hold the addresses of the rows of piece i. Lane l gets elements 2(l%4)
// and 2(l%4)+1 of row l/4 of each piece; transposed: the elements of rows 2(l%4), 2(l%4)+1 of column l/4.
__device__ inline void ldmatrix_x4(unsigned (&piece)[4], unsigned shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(piece[0]), "=r"(piece[1]), "=r"(piece[2]), "=r"(piece[3]) : "r"(shared) : "memory");
}
__device__ inline void ldmatrix_x4_trans(unsigned (&piece)[4], unsigned shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(piece[0]), "=r"(piece[1]), "=r"(piece[2]), "=r"(piece[3]) : "r"(shared) : "memory");
}

// sum[16, 8] += a[16, 16] b[16, 8], f32 sums. Pieces of a: rows 0-7 then 8-15 of k 0-7, the same of k 8-15;
// of b: k 0-7, k 8-15. Lane l holds sum[l/4][2(l%4)], [l/4][2(l%4)+1] and the same of row l/4 + 8.
__device__ inline void mma_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- exponentials ----

constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;

// The hardware's exponential; its relative error is 2^-22.
__device__ inline float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- random numbers ----

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): four numbers for a counter. Same bits as
// src/base/philox.rs, fn block.
__device__ inline uint4 philox(uint4 counter, uint2 key)
{
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned low0 = 0xd2511f53u * counter.x, high0 = __umulhi(0xd2511f53u, counter.x);
        const unsigned low1 = 0xcd9e8d57u * counter.z, high1 = __umulhi(0xcd9e8d57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key = make_uint2(key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
    }
    return counter;
}

// A mask for two bf16: the low half is all ones where the top bit of byte `byte` of `first` is set, the high
// half where that of `second` is. One instruction; shifts bring the wanted bits to the tops of bytes.
__device__ inline unsigned pair_mask(unsigned first, unsigned second, int byte)
{
    unsigned mask;   // a selector's bit 3 repeats the byte's sign
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(mask) : "r"(first), "r"(second), "r"(0xcc88 + byte * 0x1111));
    return mask;
}
