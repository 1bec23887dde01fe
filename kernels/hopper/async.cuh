// async.cuh - what Hopper's kernels share: mbarriers, tensor copies (TMA), products of warpgroups (wgmma).
//
// Instructions are those of sm_90a, which no other architecture has. Sources: PTX ISA, "mbarrier",
// "cp.async.bulk.tensor", "Asynchronous Warpgroup Level Matrix Instructions".
#pragma once

// A tensor's address, shape and tiles, as the driver encodes it.
struct alignas(64) tensor_map { unsigned char bytes[128]; };

// ---- mbarriers: phases that end when the expected arrivals and bytes are there; addresses are of shared memory ----

__device__ inline void mbarrier_init(unsigned barrier, unsigned arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}
// Makes what was initialised known to the copies; a barrier of the block must follow.
__device__ inline void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void mbarrier_arrive(unsigned barrier)
{
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" :: "r"(barrier) : "memory");
}
// Arrives, and makes the phase wait for so many bytes of copies.
__device__ inline void mbarrier_expect(unsigned barrier, unsigned bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}
// Waits for the end of the phase of this parity: 0, 1, 0, ... from the first one on.
__device__ inline void mbarrier_wait(unsigned barrier, unsigned parity)
{
    unsigned done;
    do {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    } while (!done);
}

// ---- TMA: the tile of a matrix at (row, column) to shared memory; its bytes arrive at the barrier ----

__device__ inline void copy_tile(unsigned to, const tensor_map& map, int column, int row, unsigned barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
                 :: "r"(to), "l"(&map), "r"(barrier), "r"(column), "r"(row) : "memory");
}

// `bytes`, a multiple of 16, from memory to shared memory, both 16-byte aligned.
__device__ inline void copy_bytes(unsigned to, const void* from, unsigned bytes, unsigned barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :: "r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

// ---- registers: a role's warpgroup gives what it does not need to those that need more ----

template <int REGISTERS> __device__ inline void keep_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(REGISTERS)); }
template <int REGISTERS> __device__ inline void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(REGISTERS)); }

// ---- wgmma ----

// A tile whose lines of 128 bytes TMA has swizzled, as wgmma wants it named: 8 lines after each other, `stride` bytes
// to the next 8; where lines run along m or n, `leading` bytes to the next 64 of these. Add bytes / 16 to move on.
__device__ inline unsigned long long describe(unsigned shared, int leading, int stride)
{
    return (unsigned long long)(shared >> 4) | (unsigned long long)(leading >> 4) << 16
        | (unsigned long long)(stride >> 4) << 32 | 1ull << 62;
}

// Registers are settled before the first product reads or adds to them.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `LEFT` groups are not done.
template <int LEFT> __device__ inline void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory"); }

#define SUM4(j) "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
#define SUM16(j) SUM4(j), SUM4(j + 1), SUM4(j + 2), SUM4(j + 3)
#define SUM64(j) SUM16(j), SUM16(j + 4), SUM16(j + 8), SUM16(j + 12)

// sum[64, N] += a[64, 16] b[16, N] for N = 256 and 192; b's lines run along n where ALONG_N, else along k.
// Lane l of warp w holds rows 16 w + l / 4 and 8 below it, columns 8 j + l % 4 * 2 and the next: sum[j][0..1], [2..3].
template <bool ALONG_N>
__device__ inline void wgmma(float (&sum)[32][4], unsigned long long a, unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, 1, 1, 1, 0, %130;"
        : SUM64(0), SUM64(16)
        : "l"(a), "l"(b), "n"(ALONG_N ? 1 : 0));
}
template <bool ALONG_N>
__device__ inline void wgmma(float (&sum)[24][4], unsigned long long a, unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
        "%96, %97, 1, 1, 1, 0, %98;"
        : SUM64(0), SUM16(16), SUM16(20)
        : "l"(a), "l"(b), "n"(ALONG_N ? 1 : 0));
}

// sum[64, N] (+)= a[64, 16] b[16, N] for N = 128 and 64, both in shared memory; the old sums count only where ADD.
template <bool ALONG_N, bool ADD>
__device__ inline void wgmma(float (&sum)[16][4], unsigned long long a, unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, %66, 1, 1, 0, %67;"
        : SUM64(0)
        : "l"(a), "l"(b), "n"(ADD ? 1 : 0), "n"(ALONG_N ? 1 : 0));
}

template <bool ALONG_N, bool ADD>
__device__ inline void wgmma(float (&sum)[8][4], unsigned long long a, unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, %34, 1, 1, 0, %35;"
        : SUM16(0), SUM16(4)
        : "l"(a), "l"(b), "n"(ADD ? 1 : 0), "n"(ALONG_N ? 1 : 0));
}

// sum[64, N] += a[64, 16] b[16, N] for N = 128 and 64, a in registers as mma_bf16 has it: each warp its 16 rows.
template <bool ALONG_N>
__device__ inline void wgmma(float (&sum)[16][4], const unsigned (&a)[4], unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, 1, 1, 1, %69;"
        : SUM64(0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ALONG_N ? 1 : 0));
}
template <bool ALONG_N>
__device__ inline void wgmma(float (&sum)[8][4], const unsigned (&a)[4], unsigned long long b)
{
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, 1, 1, 1, %37;"
        : SUM16(0), SUM16(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ALONG_N ? 1 : 0));
}
