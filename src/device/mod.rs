//! Where numbers live and run: memory, threads, the CPU's GEMM.
