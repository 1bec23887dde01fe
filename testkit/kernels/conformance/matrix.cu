// matrix.cu - 8x8 pieces and matrix products of a warp. Sums are those of an H100's tensor cores, to the bit.
#include "form.cuh"

#define LDMATRIX(name, text, count)                                                                              \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{                                                                                                                \
    __shared__ alignas(16) unsigned tile[4][32 * 4];                                                             \
    unsigned* mine = tile[threadIdx.x / 32];                                                                     \
    for (int i = threadIdx.x % 32; i < 32 * 4; i += 32) mine[i] = a[thread() / 32 * 128 + i];                    \
    __syncwarp();                                                                                                \
    unsigned y[4] = {};                                                                                          \
    const unsigned row = (unsigned)__cvta_generic_to_shared(mine + threadIdx.x * 11 % 32 * 4);                   \
    asm volatile(text : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3]) : "r"(row));                              \
    for (int i = 0; i < count; ++i) out[thread() * 4 + i] = y[i];                                                \
}
LDMATRIX(ldmatrix_x4, "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];", 4)
LDMATRIX(ldmatrix_x4_trans, "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];", 4)
LDMATRIX(ldmatrix_x2, "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%4]; mov.u32 %2, 0; mov.u32 %3, 0;", 2)
LDMATRIX(ldmatrix_x1_trans, "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%4]; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0;", 1)

// Random bits made a pair with exponents -8..7 (bf16) and -7..8 (f16): terms of a sum are cut where they are smallest.
__device__ inline unsigned wide_bf16_pair(unsigned bits) { return (bits & 0x87ff87ffu) + 0x3b803b80u; }
__device__ inline unsigned wide_f16_pair(unsigned bits) { return (bits & 0xbfffbfffu) + 0x20002000u; }
// Random bits made a tf32 with exponents -8..7.
__device__ inline unsigned wide_tf32(unsigned bits) { return ((bits & 0x87ffe000u) + 0x3b800000u); }

#define MMA_F32(name, text, pair)                                                                                \
extern "C" __global__ void name(float* out, const uint4* a, const uint2* b, const unsigned* c)                   \
{                                                                                                                \
    const uint4 x = a[thread()];                                                                                 \
    const uint2 w = b[thread()];                                                                                 \
    float y[4];                                                                                                  \
    for (int i = 0; i < 4; ++i) y[i] = within(1.0f, c[thread() * 4 + i]);                                        \
    asm volatile(text " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                         \
                 : "+f"(y[0]), "+f"(y[1]), "+f"(y[2]), "+f"(y[3])                                                \
                 : "r"(pair(x.x)), "r"(pair(x.y)), "r"(pair(x.z)), "r"(pair(x.w)), "r"(pair(w.x)), "r"(pair(w.y))); \
    for (int i = 0; i < 4; ++i) out[thread() * 4 + i] = y[i];                                                    \
}
MMA_F32(mma_m16n8k16_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", bf16_pair)
MMA_F32(mma_m16n8k16_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", f16_pair)
MMA_F32(mma_m16n8k16_bf16_wide, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", wide_bf16_pair)
MMA_F32(mma_m16n8k16_f16_wide, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", wide_f16_pair)
MMA_F32(mma_m16n8k8_tf32_wide, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", wide_tf32)

// Accumulators of f16, two in a register.
#define MMA_F16(name, text, pair)                                                                                \
extern "C" __global__ void name(unsigned* out, const uint4* a, const uint2* b, const unsigned* c)                \
{                                                                                                                \
    const uint4 x = a[thread()];                                                                                 \
    const uint2 w = b[thread()];                                                                                 \
    unsigned y[2] = {f16_pair(c[thread() * 2]), f16_pair(c[thread() * 2 + 1])};                                  \
    asm volatile(text " {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"                                         \
                 : "+r"(y[0]), "+r"(y[1])                                                                        \
                 : "r"(pair(x.x)), "r"(pair(x.y)), "r"(pair(x.z)), "r"(pair(x.w)), "r"(pair(w.x)), "r"(pair(w.y))); \
    for (int i = 0; i < 2; ++i) out[thread() * 2 + i] = y[i];                                                    \
}
MMA_F16(mma_m16n8k16_f16_f16, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", f16_pair)

#define MMA_K8(name, text, pair)                                                                                 \
extern "C" __global__ void name(float* out, const uint2* a, const unsigned* b, const unsigned* c)                \
{                                                                                                                \
    const uint2 x = a[thread()];                                                                                 \
    float y[4];                                                                                                  \
    for (int i = 0; i < 4; ++i) y[i] = within(1.0f, c[thread() * 4 + i]);                                        \
    asm volatile(text " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                                     \
                 : "+f"(y[0]), "+f"(y[1]), "+f"(y[2]), "+f"(y[3])                                                \
                 : "r"(pair(x.x)), "r"(pair(x.y)), "r"(pair(b[thread()])));                                      \
    for (int i = 0; i < 4; ++i) out[thread() * 4 + i] = y[i];                                                    \
}
MMA_K8(mma_m16n8k8_bf16, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", bf16_pair)
MMA_K8(mma_m16n8k8_f16, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", f16_pair)
MMA_K8(mma_m16n8k8_bf16_wide, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", wide_bf16_pair)
MMA_K8(mma_m16n8k8_f16_wide, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", wide_f16_pair)
MMA_K8(mma_m16n8k4_tf32_wide, "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", wide_tf32)
