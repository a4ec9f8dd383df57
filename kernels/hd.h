// HD marks what runs on the host and, where device code is compiled, on the device: the one source
// of every kernel. Device code is compiled by nvcc, and by g++ for tests that run it on the CPU
// (tests/emulation).
#pragma once

#if defined(__CUDACC__) || defined(RINGFORT_CUDA_EMULATION)
#include <cuda_runtime.h>
#define RINGFORT_DEVICE_CODE
#define HD __host__ __device__
#else
#define HD
#endif
