// HD marks what runs on the host and, where nvcc compiles it, on the device: the one source of
// every kernel.
#pragma once

#ifdef __CUDACC__
#define HD __host__ __device__
#else
#define HD
#endif
