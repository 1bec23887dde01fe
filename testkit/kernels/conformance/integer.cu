// integer.cu - integer arithmetic, bits and comparisons: the same bits on every device.
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
// A 64-bit value shifted or filled by a 32-bit count.
#define SHIFT(name, text, T, c)                                                                                  \
extern "C" __global__ void name(T* out, const T* a, const unsigned* b)                                           \
{ T y; asm volatile(text " %0, %1, %2;" : "=" c(y) : c(a[thread()]), "r"(b[thread()] % 70)); out[thread()] = y; }
// Compares and turns the predicate into a number.
#define COMPARE(name, text, T, c)                                                                                \
extern "C" __global__ void name(unsigned* out, const T* a, const T* b)                                           \
{ unsigned y; asm volatile("{ .reg .pred p; " text " p, %1, %2; selp.u32 %0, 1, 0, p; }"                         \
                           : "=r"(y) : c(a[thread()]), c(b[thread()])); out[thread()] = y; }
// The high and low parts of a wide product.
#define WIDE(name, text, c)                                                                                      \
extern "C" __global__ void name(unsigned long long* out, const unsigned* a, const unsigned* b)                   \
{ unsigned long long y; asm volatile(text " %0, %1, %2;" : "=l"(y) : "r"(a[thread()]), "r"(b[thread()]));        \
  out[thread()] = y; }

BINARY(add_u32, "add.u32", unsigned, "r")
BINARY(sub_u32, "sub.u32", unsigned, "r")
BINARY(mul_lo_u32, "mul.lo.u32", unsigned, "r")
BINARY(mul_hi_u32, "mul.hi.u32", unsigned, "r")
BINARY(mul_hi_s32, "mul.hi.s32", unsigned, "r")
BINARY(div_u32, "div.u32", unsigned, "r")
BINARY(div_s32, "div.s32", unsigned, "r")
BINARY(rem_u32, "rem.u32", unsigned, "r")
BINARY(rem_s32, "rem.s32", unsigned, "r")
BINARY(min_u32, "min.u32", unsigned, "r")
BINARY(min_s32, "min.s32", unsigned, "r")
BINARY(max_u32, "max.u32", unsigned, "r")
BINARY(max_s32, "max.s32", unsigned, "r")
BINARY(and_b32, "and.b32", unsigned, "r")
BINARY(or_b32, "or.b32", unsigned, "r")
BINARY(xor_b32, "xor.b32", unsigned, "r")
UNARY(not_b32, "not.b32", unsigned, "r")
UNARY(neg_s32, "neg.s32", unsigned, "r")
UNARY(abs_s32, "abs.s32", unsigned, "r")
UNARY(brev_b32, "brev.b32", unsigned, "r")
UNARY(popc_b32, "popc.b32", unsigned, "r")
UNARY(clz_b32, "clz.b32", unsigned, "r")
UNARY(bfind_u32, "bfind.u32", unsigned, "r")
UNARY(bfind_s32, "bfind.s32", unsigned, "r")
SHIFT(shl_b32, "shl.b32", unsigned, "r")
SHIFT(shr_u32, "shr.u32", unsigned, "r")
SHIFT(shr_s32, "shr.s32", unsigned, "r")
SHIFT(shl_b64, "shl.b64", unsigned long long, "l")
SHIFT(shr_u64, "shr.u64", unsigned long long, "l")
SHIFT(shr_s64, "shr.s64", unsigned long long, "l")
TERNARY(mad_lo_u32, "mad.lo.u32", unsigned, "r")
TERNARY(mad_hi_u32, "mad.hi.u32", unsigned, "r")
TERNARY(shf_l_wrap, "shf.l.wrap.b32", unsigned, "r")
TERNARY(shf_r_wrap, "shf.r.wrap.b32", unsigned, "r")
TERNARY(shf_l_clamp, "shf.l.clamp.b32", unsigned, "r")
TERNARY(shf_r_clamp, "shf.r.clamp.b32", unsigned, "r")
TERNARY(prmt_b32, "prmt.b32", unsigned, "r")
TERNARY(prmt_f4e, "prmt.b32.f4e", unsigned, "r")
TERNARY(prmt_rc16, "prmt.b32.rc16", unsigned, "r")
TERNARY(bfe_u32, "bfe.u32", unsigned, "r")
TERNARY(bfe_s32, "bfe.s32", unsigned, "r")
WIDE(mul_wide_u32, "mul.wide.u32", "r")
WIDE(mul_wide_s32, "mul.wide.s32", "r")
BINARY(add_u64, "add.u64", unsigned long long, "l")
BINARY(sub_u64, "sub.u64", unsigned long long, "l")
BINARY(mul_lo_u64, "mul.lo.u64", unsigned long long, "l")
BINARY(mul_hi_u64, "mul.hi.u64", unsigned long long, "l")
BINARY(mul_hi_s64, "mul.hi.s64", unsigned long long, "l")
BINARY(div_u64, "div.u64", unsigned long long, "l")
BINARY(rem_s64, "rem.s64", unsigned long long, "l")
BINARY(max_s64, "max.s64", unsigned long long, "l")
BINARY(min_u64, "min.u64", unsigned long long, "l")
COMPARE(setp_lt_u32, "setp.lt.u32", unsigned, "r")
COMPARE(setp_lt_s32, "setp.lt.s32", unsigned, "r")
COMPARE(setp_ge_s32, "setp.ge.s32", unsigned, "r")
COMPARE(setp_eq_u32, "setp.eq.u32", unsigned, "r")
COMPARE(setp_gt_u64, "setp.gt.u64", unsigned long long, "l")
COMPARE(setp_le_s64, "setp.le.s64", unsigned long long, "l")

extern "C" __global__ void bfi_b32(unsigned* out, const unsigned* a, const unsigned* b, const unsigned* d)
{
    unsigned y;
    asm volatile("bfi.b32 %0, %1, %2, %3, %4;"
                 : "=r"(y) : "r"(a[thread()]), "r"(b[thread()]), "r"(d[thread()] % 40), "r"(d[thread()] >> 8 & 63));
    out[thread()] = y;
}

extern "C" __global__ void lop3_b32(unsigned* out, const unsigned* a, const unsigned* b, const unsigned* d)
{
    unsigned x, y, z;
    asm volatile("lop3.b32 %0, %1, %2, %3, 0xb8;" : "=r"(x) : "r"(a[thread()]), "r"(b[thread()]), "r"(d[thread()]));
    asm volatile("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(y) : "r"(x), "r"(b[thread()]), "r"(d[thread()]));
    asm volatile("lop3.b32 %0, %1, %2, %3, 0x1d;" : "=r"(z) : "r"(a[thread()]), "r"(y), "r"(x));
    out[thread()] = z;
}

extern "C" __global__ void slct_and_selp(unsigned* out, const unsigned* a, const unsigned* b, const int* d)
{
    unsigned y;
    asm volatile("{ .reg .pred p, q; setp.ge.and.s32 p|q, %3, 5, 1; selp.b32 %0, %1, %2, q; }"
                 : "=r"(y) : "r"(a[thread()]), "r"(b[thread()]), "r"(d[thread()]));
    out[thread()] = y;
}
