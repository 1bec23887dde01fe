// swiglu.cu - the gated middle of a feed-forward block, with SiLU (SwiGLU) and GELU's tanh form (GeGLU).
//
//   h = act(gate) up        dup = dh act(gate)        dgate = dh up act'(gate)
//   act(g) = g s(g)         act'(g) = s + g s (1 - s) z'(g)        s(g) = 1 / (1 + e^-z(g))
//   SiLU: z = g             GELU: z = 2 sqrt(2/pi) (g + 0.044715 g^3), for (1 + tanh(z/2)) / 2 = 1 / (1 + e^-z)
//
// Source    Shazeer 2020; Hendrycks & Gimpel 2016; docs/math.md#gated
// Shapes    h, gate, up, dh, dgate, dup: bf16 [count], count = N F, contiguous
// Numerics  all in f32; one rounding to bf16, at each store. e^x and 1/x are the approximate instructions, good to
//           2 ulp of f32, so s is relatively as exact for gate = -20 as for 20. tanh.approx would take one
//           instruction for their two, but its absolute error of 5e-4 is all there is of s from gate = -8 down
// Needs     count % 8 == 0, which F % 8 == 0 gives; 16-byte aligned pointers
//           dgate may be gate, dup may be up: a thread reads its elements before it writes them
// Grid      a thread 8 elements, 256 threads a block: ceil(count / 2048) blocks; no shared memory
// Repeats   bit-identical from run to run
// Cost      forward 6 bytes an element, backward 10: every tensor once; memory-bound
// Oracle    src/ops/gated.rs
#include "prelude.cuh"

constexpr int THREADS = 256;

// act and act' at one point.
struct Gate { float value, slope; };

// 1 / (1 + 2^exponent): 0 and 1 at the ends, never NaN for a number.
__device__ inline float sigmoid(float exponent)
{
    float power, s;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + power));
    return s;
}

struct Silu {
    static __device__ Gate at(float g)
    {
        const float s = sigmoid(-1.44269504f * g), value = g * s;   // log2(e)
        return {value, fmaf(value, 1.0f - s, s)};
    }
};

struct GeluTanh {
    static __device__ Gate at(float g)
    {
        constexpr float SCALE = 1.59576912f, CUBE = 0.044715f, LOG2_E = 1.44269504f;   // SCALE: 2 sqrt(2/pi)
        const float square = g * g;
        const float s = sigmoid(g * fmaf(-LOG2_E * SCALE * CUBE, square, -LOG2_E * SCALE)), value = g * s;
        return {value, fmaf(value * (1.0f - s), fmaf(3.0f * SCALE * CUBE, square, SCALE), s)};
    }
};

template <class Activation>
__device__ inline void forward(bf16* h, const bf16* gate, const bf16* up, long long count)
{
    const long long at = 8 * ((long long)blockIdx.x * THREADS + threadIdx.x);
    if (at >= count) return;
    const f32x8 g = to_f32(load8(gate + at)), u = to_f32(load8(up + at));
    f32x8 y;
#pragma unroll
    for (int i = 0; i < 8; ++i) y[i] = Activation::at(g[i]).value * u[i];
    store8(h + at, to_bf16(y));
}

template <class Activation>
__device__ inline void backward(bf16* dgate, bf16* dup, const bf16* dh, const bf16* gate, const bf16* up,
                                long long count)
{
    const long long at = 8 * ((long long)blockIdx.x * THREADS + threadIdx.x);
    if (at >= count) return;
    const f32x8 d = to_f32(load8(dh + at)), g = to_f32(load8(gate + at)), u = to_f32(load8(up + at));
    f32x8 dg, du;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const Gate act = Activation::at(g[i]);
        dg[i] = d[i] * u[i] * act.slope;
        du[i] = d[i] * act.value;
    }
    store8(dgate + at, to_bf16(dg));
    store8(dup + at, to_bf16(du));
}

extern "C" __global__ void __launch_bounds__(THREADS) swiglu_forward_bf16(
    bf16* __restrict__ h,              // out
    const bf16* __restrict__ gate,
    const bf16* __restrict__ up,
    long long count)
{
    forward<Silu>(h, gate, up, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) swiglu_backward_bf16(
    bf16* dgate,                       // out, may be gate
    bf16* dup,                         // out, may be up
    const bf16* __restrict__ dh,
    const bf16* gate,
    const bf16* up,
    long long count)
{
    backward<Silu>(dgate, dup, dh, gate, up, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) geglu_forward_bf16(
    bf16* __restrict__ h,              // out
    const bf16* __restrict__ gate,
    const bf16* __restrict__ up,
    long long count)
{
    forward<GeluTanh>(h, gate, up, count);
}

extern "C" __global__ void __launch_bounds__(THREADS) geglu_backward_bf16(
    bf16* dgate,                       // out, may be gate
    bf16* dup,                         // out, may be up
    const bf16* __restrict__ dh,
    const bf16* gate,
    const bf16* up,
    long long count)
{
    backward<GeluTanh>(dgate, dup, dh, gate, up, count);
}
