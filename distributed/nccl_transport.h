// Payloads between GPUs by NCCL; everything else by another transport, over which NCCL's
// communicator is made too.
#pragma once

#include "distributed/transport.h"
#include "kernels/exec.h"

namespace ringfort {

// control: MPI; carries headers and notices, and outlives nothing. exec: on the CUDA device of this
// rank; what was queued on its stream when a payload is posted is done before the payload moves.
//
// Payloads travel in groups, one after the other: a group takes the oldest that are posted, at most
// one to and one from each rank, and begins when somebody waits. A rank must therefore post its
// k-th payload to a rank before it waits for a (k+1)-th from any, as rings and all-to-alls do.
//
// deadline: seconds for all ranks to come together.
// Errors: a build without NCCL; a control that speaks of devices itself; CommError with NCCL's
// reason.
std::unique_ptr<Transport> nccl_transport(std::unique_ptr<Transport> control, Exec& exec,
                                          double deadline);

// Whether this build has NCCL.
bool has_nccl();

}  // namespace ringfort
