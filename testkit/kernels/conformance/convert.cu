// convert.cu - conversions, with each rounding: the same bits on every device.
#include "form.cuh"

#define CONVERT(name, text, To, to, From, from)                                                                  \
extern "C" __global__ void name(To* out, const From* a)                                                          \
{ To y; asm volatile(text " %0, %1;" : "=" to(y) : from(a[thread()])); out[thread()] = y; }
// From f32 to a 16-bit type.
#define NARROW(name, text)                                                                                       \
extern "C" __global__ void name(unsigned* out, const float* a)                                                   \
{ unsigned short y; asm volatile(text " %0, %1;" : "=h"(y) : "f"(a[thread()])); out[thread()] = y; }
// From a 16-bit type.
#define WIDEN(name, text, To, to)                                                                                \
extern "C" __global__ void name(To* out, const unsigned* a)                                                      \
{ To y; asm volatile(text " %0, %1;" : "=" to(y) : "h"((unsigned short)a[thread()])); out[thread()] = y; }
// Two f32 to a packed pair.
#define PACK(name, text)                                                                                         \
extern "C" __global__ void name(unsigned* out, const float* a, const float* b)                                   \
{ unsigned y; asm volatile(text " %0, %1, %2;" : "=r"(y) : "f"(a[thread()]), "f"(b[thread()])); out[thread()] = y; }

CONVERT(cvt_rn_f32_s32, "cvt.rn.f32.s32", float, "f", int, "r")
CONVERT(cvt_rn_f32_u32, "cvt.rn.f32.u32", float, "f", unsigned, "r")
CONVERT(cvt_rz_f32_s32, "cvt.rz.f32.s32", float, "f", int, "r")
CONVERT(cvt_rn_f32_u64, "cvt.rn.f32.u64", float, "f", unsigned long long, "l")
CONVERT(cvt_rni_s32_f32, "cvt.rni.s32.f32", int, "r", float, "f")
CONVERT(cvt_rzi_s32_f32, "cvt.rzi.s32.f32", int, "r", float, "f")
CONVERT(cvt_rmi_s32_f32, "cvt.rmi.s32.f32", int, "r", float, "f")
CONVERT(cvt_rpi_u32_f32, "cvt.rpi.u32.f32", unsigned, "r", float, "f")
CONVERT(cvt_rzi_u32_f32, "cvt.rzi.u32.f32", unsigned, "r", float, "f")
CONVERT(cvt_rmi_f32_f32, "cvt.rmi.f32.f32", float, "f", float, "f")
CONVERT(cvt_rni_f32_f32, "cvt.rni.f32.f32", float, "f", float, "f")
CONVERT(cvt_sat_f32_f32, "cvt.sat.f32.f32", float, "f", float, "f")
CONVERT(cvt_f64_f32, "cvt.f64.f32", double, "d", float, "f")
CONVERT(cvt_rn_f32_f64, "cvt.rn.f32.f64", float, "f", double, "d")
CONVERT(cvt_s64_s32, "cvt.s64.s32", unsigned long long, "l", int, "r")
CONVERT(cvt_u64_u32, "cvt.u64.u32", unsigned long long, "l", unsigned, "r")
CONVERT(cvt_u32_u64, "cvt.u32.u64", unsigned, "r", unsigned long long, "l")
CONVERT(cvt_sat_s32_s64, "cvt.sat.s32.s64", int, "r", unsigned long long, "l")
CONVERT(cvt_rna_tf32_f32, "cvt.rna.tf32.f32", unsigned, "r", float, "f")
NARROW(cvt_rn_bf16_f32, "cvt.rn.bf16.f32")
NARROW(cvt_rz_bf16_f32, "cvt.rz.bf16.f32")
NARROW(cvt_rn_f16_f32, "cvt.rn.f16.f32")
NARROW(cvt_rz_f16_f32, "cvt.rz.f16.f32")
WIDEN(cvt_f32_f16, "cvt.f32.f16", float, "f")
WIDEN(cvt_rn_f32_u16, "cvt.rn.f32.u16", float, "f")
WIDEN(cvt_rn_f32_s16, "cvt.rn.f32.s16", float, "f")
WIDEN(cvt_s32_s16, "cvt.s32.s16", int, "r")
PACK(cvt_rn_bf16x2_f32, "cvt.rn.bf16x2.f32")
PACK(cvt_rz_bf16x2_f32, "cvt.rz.bf16x2.f32")
PACK(cvt_rn_relu_bf16x2_f32, "cvt.rn.relu.bf16x2.f32")
PACK(cvt_rn_f16x2_f32, "cvt.rn.f16x2.f32")
