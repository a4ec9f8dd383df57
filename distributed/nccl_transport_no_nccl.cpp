// A build without NCCL.
#include "distributed/nccl_transport.h"

namespace ringfort {

std::unique_ptr<Transport> nccl_transport(std::unique_ptr<Transport> /*control*/, Exec& /*exec*/,
                                          double /*deadline*/) {
  fail(
      "this build has no NCCL; install it and configure a CUDA build again with "
      "-DRINGFORT_NCCL=ON, "
      "or use --comm mpi");
}

bool has_nccl() { return false; }

}  // namespace ringfort
