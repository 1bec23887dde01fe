// form.cuh - the frame of a conformance kernel: one instruction on one value of each thread.
//
// An entry writes out[i] for each thread i of the grid, from inputs that are random bits, special values among
// them. Its name's end says how close a device must come to the interpreter: nothing = the same bits, those
// of NaN too, _ulpN = N units in the last place of f32, _absN = 2^-N; in these two any NaN equals any NaN.
#pragma once

__device__ inline unsigned thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Random bits made a pair of 16-bit floats with magnitudes in [0.5, 1).
__device__ inline unsigned bf16_pair(unsigned bits) { return (bits & 0x807f807fu) | 0x3f003f00u; }
__device__ inline unsigned f16_pair(unsigned bits) { return (bits & 0x83ff83ffu) | 0x38003800u; }
// Random bits made an f32 in [-limit, limit].
__device__ inline float within(float limit, unsigned bits) { return (int)bits * (limit * 4.656612873e-10f); }
