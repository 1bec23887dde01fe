// memory.cu - loads, stores, asynchronous copies and atomics: the same bits on every device.
#include "form.cuh"

extern "C" __global__ void vectors(unsigned* out, const uint4* a)
{
    const uint4 v = a[thread()];
    reinterpret_cast<uint4*>(out)[thread()] = make_uint4(v.w, v.z, v.y, v.x);
}

extern "C" __global__ void bytes_and_halves(unsigned* out, const unsigned* a)
{
    unsigned u8, s8, u16, s16;
    const unsigned* p = a + thread();
    asm volatile("ld.global.u8 %0, [%1+1];" : "=r"(u8) : "l"(p));
    asm volatile("ld.global.s8 %0, [%1+2];" : "=r"(s8) : "l"(p));
    asm volatile("{ .reg .u16 h; ld.global.u16 h, [%1+2]; cvt.u32.u16 %0, h; }" : "=r"(u16) : "l"(p));
    asm volatile("{ .reg .s16 h; ld.global.s16 h, [%1]; cvt.s32.s16 %0, h; }" : "=r"(s16) : "l"(p));
    out[thread()] = u8 + s8 * 3 + u16 * 5 + s16 * 7;
}

extern "C" __global__ void through_shared(unsigned* out, const unsigned* a)
{
    __shared__ unsigned tile[128];
    tile[threadIdx.x * 5 % 128] = a[thread()];
    __syncthreads();
    out[thread()] = tile[threadIdx.x];
}

#define COPY(name, form, bytes)                                                                                  \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{                                                                                                                \
    __shared__ alignas(16) unsigned tile[128 * 4];                                                               \
    const unsigned place = (unsigned)__cvta_generic_to_shared(tile + threadIdx.x * 4);                           \
    tile[threadIdx.x * 4] = tile[threadIdx.x * 4 + 1] = tile[threadIdx.x * 4 + 2] = tile[threadIdx.x * 4 + 3] = 7; \
    asm volatile(form " [%0], [%1], " #bytes ", %2;"                                                             \
                 :: "r"(place), "l"(a + thread() * 4), "r"(threadIdx.x % 5 * 4 > bytes ? 0 : threadIdx.x % 5 * 4) : "memory"); \
    asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");                                 \
    __syncthreads();                                                                                             \
    const unsigned* other = tile + (threadIdx.x ^ 33) * 4;                                                       \
    out[thread()] = other[0] ^ other[1] * 3 ^ other[2] * 5 ^ other[3] * 7;                                       \
}
COPY(cp_async_ca_4, "cp.async.ca.shared.global", 4)
COPY(cp_async_ca_8, "cp.async.ca.shared.global", 8)
COPY(cp_async_cg_16, "cp.async.cg.shared.global", 16)

#define ATOMIC(name, text)                                                                                       \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{                                                                                                                \
    asm volatile(text " [%0], %1;" :: "l"(out + thread() % 61), "r"(a[thread()]) : "memory");                    \
}
ATOMIC(red_add_u32, "red.global.add.u32")
ATOMIC(red_max_s32, "red.global.max.s32")
ATOMIC(red_min_u32, "red.global.min.u32")
ATOMIC(red_or_b32, "red.global.or.b32")
ATOMIC(red_xor_b32, "red.global.xor.b32")

extern "C" __global__ void shared_atomics(unsigned* out, const unsigned* a)
{
    __shared__ unsigned sums[16];
    if (threadIdx.x < 16) sums[threadIdx.x] = threadIdx.x;
    __syncthreads();
    atomicAdd(&sums[a[thread()] % 16], a[thread()]);
    atomicMax(&sums[threadIdx.x % 16], 0u);
    __syncthreads();
    if (threadIdx.x < 16) out[blockIdx.x * 16 + threadIdx.x] = sums[threadIdx.x];
}
