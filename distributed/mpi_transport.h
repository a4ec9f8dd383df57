// Ranks as processes that mpirun, or srun with PMIx, has started; messages in host memory.
#pragma once

#include "distributed/transport.h"

namespace ringfort {

// Starts MPI, and ends it when the transport is destroyed; once per process, both on the thread
// that started MPI. Any one thread at a time may use the transport. Where a transfer could not
// be finished, or an exception ends the transport, MPI is not ended: that would wait for ranks that
// may be gone. The process then ends by end_mpi_job.
// largest_part: longer messages travel in parts of so many bytes; MPI counts in 32 bits. The same
// on all ranks.
// Errors: a build without MPI; MPI has been ended in this process; its library cannot be used by
// several threads.
std::unique_ptr<Transport> mpi_transport(size_t largest_part = size_t{1} << 30);

// Whether this build has MPI.
bool has_mpi();

}  // namespace ringfort
