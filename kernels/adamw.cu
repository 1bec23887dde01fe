// adamw.cu - AdamW with decoupled weight decay and clipping by the global norm, in two launches.
//
//   adamw_norm_f32     partials[b] = sum of g^2 over the elements of block b
//   adamw_update_f32   norm = sqrt(sum_b partials[b])        c = min(1, max_norm / (norm + 1e-6)), 1 if max_norm = 0
//                      m = b1 m + (1 - b1) c g               v = b2 v + (1 - b2) (c g)^2
//                      p = decay p - step m / (sqrt(v) / root + eps)
//                      decay = 1 - lr wd        step = lr / (1 - b1^t)        root = sqrt(1 - b2^t)
//
// Source    Loshchilov & Hutter 2019, in the order of operations of torch.optim.AdamW; docs/math.md#adamw
// Shapes    p, g, m, v: f32 [P], one contiguous arena of all adapters   p_bf16: bf16 [P], p rounded to nearest
//           partials: f32 [G]   norm: f32 [1]
// Numerics  f32. Every operation of the update is rounded by itself, as in the CPU form: for the same c the same
//           bits. Squares add up in f32 over a tree: the error of the norm stays below (P / (1024 G) + 30) 2^-25 of
//           it. f64 would cost the norm a conversion of quarter rate or less an element, for digits nobody reads
// Needs     p, g, m, v 16-byte aligned, p_bf16 8-byte aligned; G <= 1024
// Grid      256 threads a block. norm: G = P / 8192 rounded up, at least 1, at most 1024: of P alone, so that the
//           norm has the same bits on every device. update: any number of blocks, which stride over the arena and
//           give the same bits; each reads all partials, so no more than fill the device
// Shared    32 bytes
// Repeats   bit-identical from run to run: partials are added in one fixed tree, by every block for itself, which
//           is what saves a third launch; no atomics
// Trouble   if the norm is not finite (a NaN or infinity in g, or squares above 3.4e38, which is a norm of 1.8e19),
//           p, m, v and p_bf16 stay untouched and norm says NaN or infinity: the host stops there
// Gradient  g is read only. Clearing it here would write the 4 bytes an element that a memset before the next
//           backward pass writes, and would take away what a stopped run wants to look at
// Cost      34 P bytes: norm 4 P; update 16 P read, 12 P + 2 P written; + 4 G blocks; about 50 FLOPs an element;
//           memory-bound
// Oracle    src/ops/adamw.rs
#include "prelude.cuh"

constexpr int THREADS = 256, WARPS = THREADS / WARP;

// The sum over the block, the same bits in every thread. To be called once by a block.
__device__ inline float block_sum(float x)
{
    __shared__ float of_warp[WARPS];
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = x;
    __syncthreads();   // orders the sums before their reads
    x = of_warp[threadIdx.x % WARPS];
#pragma unroll
    for (int apart = WARPS / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}

extern "C" __global__ void __launch_bounds__(THREADS) adamw_norm_f32(
    float* __restrict__ partials_G,    // out
    const float* __restrict__ g_P,
    long long P)
{
    const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x, threads = (long long)gridDim.x * THREADS;
    const float4* four_g = reinterpret_cast<const float4*>(g_P);
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
    for (long long i = thread; i < P / 4; i += threads) {
        const float4 g = four_g[i];
        sum.x = fmaf(g.x, g.x, sum.x);
        sum.y = fmaf(g.y, g.y, sum.y);
        sum.z = fmaf(g.z, g.z, sum.z);
        sum.w = fmaf(g.w, g.w, sum.w);
    }
    if (thread < P % 4) {   // the last elements, which fill no vector
        const float g = g_P[P / 4 * 4 + thread];
        sum.x = fmaf(g, g, sum.x);
    }
    const float of_block = block_sum((sum.x + sum.y) + (sum.z + sum.w));
    if (threadIdx.x == 0) partials_G[blockIdx.x] = of_block;
}

struct Rates { float decay, step, root, beta1, rest1, beta2, rest2, epsilon, clip; };

// One element. The intrinsics keep the compiler from fusing a product with a sum.
__device__ inline void update(float& p, float g, float& m, float& v, const Rates& r)
{
    g = __fmul_rn(g, r.clip);
    m = __fadd_rn(__fmul_rn(r.beta1, m), __fmul_rn(r.rest1, g));
    v = __fadd_rn(__fmul_rn(r.beta2, v), __fmul_rn(__fmul_rn(r.rest2, g), g));
    const float spread = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), r.root), r.epsilon);
    p = __fsub_rn(__fmul_rn(p, r.decay), __fdiv_rn(__fmul_rn(r.step, m), spread));
}

extern "C" __global__ void __launch_bounds__(THREADS) adamw_update_f32(
    float* __restrict__ p_P,           // in and out
    float* __restrict__ m_P,           // in and out
    float* __restrict__ v_P,           // in and out
    bf16* __restrict__ p_bf16_P,       // out
    float* __restrict__ norm,          // out, [1]
    const float* __restrict__ g_P,
    const float* __restrict__ partials_G,
    float max_norm, float decay, float step, float root, float beta1, float rest1, float beta2, float rest2,
    float epsilon, int G, long long P)
{
    float sum_sq = 0.0f;
    for (int b = threadIdx.x; b < G; b += THREADS) sum_sq += partials_G[b];
    const float length = __fsqrt_rn(block_sum(sum_sq));
    const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x, threads = (long long)gridDim.x * THREADS;
    if (thread == 0) *norm = length;
    if (!(length <= 3.402823466e38f)) return;   // infinity or NaN: the same in every block

    const float clip = max_norm == 0.0f ? 1.0f : fminf(1.0f, __fdiv_rn(max_norm, __fadd_rn(length, 1e-6f)));
    const Rates rates = {decay, step, root, beta1, rest1, beta2, rest2, epsilon, clip};
    for (long long i = thread; i < P / 4; i += threads) {
        const float4 g = reinterpret_cast<const float4*>(g_P)[i];
        float4 p = reinterpret_cast<float4*>(p_P)[i];
        float4 m = reinterpret_cast<float4*>(m_P)[i];
        float4 v = reinterpret_cast<float4*>(v_P)[i];
        update(p.x, g.x, m.x, v.x, rates);
        update(p.y, g.y, m.y, v.y, rates);
        update(p.z, g.z, m.z, v.z, rates);
        update(p.w, g.w, m.w, v.w, rates);
        reinterpret_cast<float4*>(p_P)[i] = p;
        reinterpret_cast<float4*>(m_P)[i] = m;
        reinterpret_cast<float4*>(v_P)[i] = v;
        reinterpret_cast<uint2*>(p_bf16_P)[i] = make_uint2(to_bf16(p.x, p.y).bits, to_bf16(p.z, p.w).bits);
    }
    if (thread < P % 4) {   // the last elements, which fill no vector
        const long long i = P / 4 * 4 + thread;
        update(p_P[i], g_P[i], m_P[i], v_P[i], rates);
        p_bf16_P[i] = to_bf16(p_P[i]);
    }
}
