// A build without MPI.
#include "distributed/mpi_transport.h"

namespace ringfort {

std::unique_ptr<Transport> mpi_transport(size_t /*largest_part*/) {
  fail(
      "this build has no MPI; install libopenmpi-dev and openmpi-bin, and configure again with "
      "-DRINGFORT_MPI=ON");
}

bool has_mpi() { return false; }

}  // namespace ringfort
