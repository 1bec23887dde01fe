// float.cu - IEEE arithmetic of f32, f64, f16 and bf16: the same bits on every device.
#include "form.cuh"

#define UNARY(name, text, T, c)                                                                                  \
extern "C" __global__ void name(T* out, const T* a)                                                              \
{ T y; asm volatile(text " %0, %1;" : "=" c(y) : c(a[thread()])); out[thread()] = y; }
#define BINARY(name, text, T, c)                                                                                 \
extern "C" __global__ void name(T* out, const T* a, const T* b)                                                  \
{ T y; asm volatile(text " %0, %1, %2;" : "=" c(y) : c(a[thread()]), c(b[thread()])); out[thread()] = y; }
#define TERNARY(name, text, T, c)                                                                                \
extern "C" __global__ void name(T* out, const T* a, const T* b, const T* d)                                      \
{ T y; asm volatile(text " %0, %1, %2, %3;" : "=" c(y) : c(a[thread()]), c(b[thread()]), c(d[thread()]));        \
  out[thread()] = y; }
#define COMPARE(name, text)                                                                                      \
extern "C" __global__ void name(unsigned* out, const float* a, const float* b)                                   \
{ unsigned y; asm volatile("{ .reg .pred p; " text " p, %1, %2; selp.u32 %0, 1, 0, p; }"                         \
                           : "=r"(y) : "f"(a[thread()]), "f"(b[thread()])); out[thread()] = y; }
// 16-bit scalars: the low half of each input.
#define SIGN16(name, text)                                                                                       \
extern "C" __global__ void name(unsigned* out, const unsigned* a)                                                \
{ unsigned short y; asm volatile(text " %0, %1;" : "=h"(y) : "h"((unsigned short)a[thread()])); out[thread()] = y; }
#define SCALAR16(name, text)                                                                                     \
extern "C" __global__ void name(unsigned* out, const unsigned* a, const unsigned* b)                             \
{ unsigned short y; asm volatile(text " %0, %1, %2;" : "=h"(y) : "h"((unsigned short)a[thread()]),               \
                                 "h"((unsigned short)b[thread()])); out[thread()] = y; }

BINARY(add_f32, "add.rn.f32", float, "f")
BINARY(sub_f32, "sub.rn.f32", float, "f")
BINARY(mul_f32, "mul.rn.f32", float, "f")
BINARY(add_ftz_f32, "add.rn.ftz.f32", float, "f")
BINARY(mul_ftz_f32, "mul.rn.ftz.f32", float, "f")
BINARY(add_rz_f32, "add.rz.f32", float, "f")
BINARY(add_rm_f32, "add.rm.f32", float, "f")
BINARY(add_rp_f32, "add.rp.f32", float, "f")
BINARY(sub_rm_f32, "sub.rm.f32", float, "f")
BINARY(mul_rm_f32, "mul.rm.f32", float, "f")
BINARY(mul_rp_f32, "mul.rp.f32", float, "f")
BINARY(div_rn_f32, "div.rn.f32", float, "f")
BINARY(min_f32, "min.f32", float, "f")
BINARY(max_f32, "max.f32", float, "f")
BINARY(max_nan_f32, "max.NaN.f32", float, "f")
BINARY(copysign_f32, "copysign.f32", float, "f")
UNARY(neg_f32, "neg.f32", float, "f")
UNARY(abs_f32, "abs.f32", float, "f")
UNARY(neg_ftz_f32, "neg.ftz.f32", float, "f")
UNARY(abs_ftz_f32, "abs.ftz.f32", float, "f")
UNARY(sqrt_rn_f32, "sqrt.rn.f32", float, "f")
UNARY(rcp_rn_f32, "rcp.rn.f32", float, "f")
TERNARY(fma_f32, "fma.rn.f32", float, "f")
TERNARY(fma_rm_f32, "fma.rm.f32", float, "f")
TERNARY(fma_rp_f32, "fma.rp.f32", float, "f")
TERNARY(fma_rz_f32, "fma.rz.f32", float, "f")
TERNARY(fma_ftz_f32, "fma.rn.ftz.f32", float, "f")
TERNARY(fma_sat_f32, "fma.rn.sat.f32", float, "f")
COMPARE(setp_lt_f32, "setp.lt.f32")
COMPARE(setp_ltu_f32, "setp.ltu.f32")
COMPARE(setp_ne_f32, "setp.ne.f32")
COMPARE(setp_neu_f32, "setp.neu.f32")
COMPARE(setp_num_f32, "setp.num.f32")
COMPARE(setp_nan_f32, "setp.nan.f32")
BINARY(add_f64, "add.rn.f64", double, "d")
BINARY(mul_f64, "mul.rn.f64", double, "d")
BINARY(div_f64, "div.rn.f64", double, "d")
TERNARY(fma_f64, "fma.rn.f64", double, "d")
UNARY(sqrt_f64, "sqrt.rn.f64", double, "d")
BINARY(add_f16x2, "add.rn.f16x2", unsigned, "r")
BINARY(mul_f16x2, "mul.rn.f16x2", unsigned, "r")
TERNARY(fma_f16x2, "fma.rn.f16x2", unsigned, "r")
TERNARY(fma_bf16x2, "fma.rn.bf16x2", unsigned, "r")
BINARY(min_bf16x2, "min.bf16x2", unsigned, "r")
BINARY(max_nan_bf16x2, "max.NaN.bf16x2", unsigned, "r")
BINARY(max_f16x2, "max.f16x2", unsigned, "r")
UNARY(neg_bf16x2, "neg.bf16x2", unsigned, "r")
UNARY(neg_f16x2, "neg.f16x2", unsigned, "r")
UNARY(abs_bf16x2, "abs.bf16x2", unsigned, "r")
UNARY(abs_f16x2, "abs.f16x2", unsigned, "r")
SIGN16(neg_f16, "neg.f16")
SIGN16(abs_f16, "abs.f16")
SIGN16(neg_bf16, "neg.bf16")
SIGN16(abs_bf16, "abs.bf16")
SCALAR16(add_f16, "add.rn.f16")
SCALAR16(mul_f16, "mul.rn.f16")
SCALAR16(min_bf16, "min.bf16")
SCALAR16(max_bf16, "max.bf16")
