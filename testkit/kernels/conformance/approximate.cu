// approximate.cu - instructions that PTX gives an error bound: the device may differ from the exact value by it.
#include "form.cuh"

#define BOUNDED(name, text, limit)                                                                               \
extern "C" __global__ void name(float* out, const unsigned* a)                                                   \
{ float y; asm volatile(text " %0, %1;" : "=f"(y) : "f"(within(limit, a[thread()]))); out[thread()] = y; }
#define POSITIVE(name, text, limit)                                                                              \
extern "C" __global__ void name(float* out, const unsigned* a)                                                   \
{ float y; asm volatile(text " %0, %1;" : "=f"(y) : "f"(fabsf(within(limit, a[thread()])) + 1e-3f));             \
  out[thread()] = y; }

BOUNDED(ex2_approx_f32_ulp4, "ex2.approx.f32", 100.0f)
BOUNDED(ex2_approx_ftz_f32_ulp4, "ex2.approx.ftz.f32", 100.0f)
BOUNDED(tanh_approx_f32_ulp8192, "tanh.approx.f32", 8.0f)
BOUNDED(sin_approx_f32_abs20, "sin.approx.f32", 3.14159f)
BOUNDED(cos_approx_f32_abs20, "cos.approx.f32", 3.14159f)
POSITIVE(lg2_approx_f32_abs20, "lg2.approx.f32", 4.0f)
POSITIVE(rcp_approx_f32_ulp1, "rcp.approx.f32", 1000.0f)
POSITIVE(rcp_approx_ftz_f32_ulp1, "rcp.approx.ftz.f32", 1000.0f)
POSITIVE(rsqrt_approx_f32_ulp4, "rsqrt.approx.f32", 1000.0f)
POSITIVE(sqrt_approx_f32_ulp4, "sqrt.approx.f32", 1000.0f)

extern "C" __global__ void div_approx_f32_ulp2(float* out, const unsigned* a, const unsigned* b)
{
    float y;
    asm volatile("div.approx.f32 %0, %1, %2;"
                 : "=f"(y) : "f"(within(100.0f, a[thread()])), "f"(fabsf(within(100.0f, b[thread()])) + 1e-3f));
    out[thread()] = y;
}

extern "C" __global__ void div_full_f32_ulp2(float* out, const unsigned* a, const unsigned* b)
{
    float y;
    asm volatile("div.full.f32 %0, %1, %2;"
                 : "=f"(y) : "f"(within(100.0f, a[thread()])), "f"(fabsf(within(100.0f, b[thread()])) + 1e-3f));
    out[thread()] = y;
}
