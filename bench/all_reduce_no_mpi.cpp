#include "bench/all_reduce.h"

namespace ringfort::bench {

bool has_mpi_all_reduce() { return false; }

void mpi_all_reduce(std::span<float> /*values*/) { fail("this build has no MPI"); }

}  // namespace ringfort::bench
