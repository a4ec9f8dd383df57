#include <mpi.h>

#include "bench/all_reduce.h"

namespace ringfort::bench {

bool has_mpi_all_reduce() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  return initialized != 0;
}

void mpi_all_reduce(std::span<float> values) {
  const int result = MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()),
                                   MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  require(result == MPI_SUCCESS, "MPI_Allreduce failed");
}

}  // namespace ringfort::bench
