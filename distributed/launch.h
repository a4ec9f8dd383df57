// How this process was launched, and the transport that goes with it.
#pragma once

#include <functional>
#include <string_view>

#include "distributed/comm.h"
#include "kernels/exec.h"

namespace ringfort {

// What the launcher's variables say; a process that nobody launched is the only rank.
struct Launch {
  std::string launcher;  // "mpirun", "PMI", "torchrun", "srun"; "" where there is none
  int rank = 0;
  int size = 1;
  int local_rank = 0;  // among those on the same machine
  int local_size = 1;  // how many those are, where the launcher says so
};

// Variables of Open MPI (OMPI_COMM_WORLD_RANK ...), PMI (PMI_RANK ...), torchrun (RANK,
// WORLD_SIZE, LOCAL_RANK) and srun (SLURM_PROCID ...), in this order: mpirun inside of a SLURM
// allocation is mpirun. variable: getenv, but in tests.
// Errors: a rank without a size, a number that is none, a rank that is not below the size; mpirun
// and torchrun that do not agree.
Launch read_launch(const std::function<const char*(const char*)>& variable);
Launch read_launch();

enum class CommKind { kAuto, kThreads, kMpi, kNccl };
CommKind parse_comm_kind(std::string_view name);  // auto, threads, mpi, nccl

// The transport of this process. kAuto: of a single rank nothing is started; else MPI, and NCCL
// where exec is on a CUDA device and this build has it. exec outlives the transport. deadline:
// seconds to wait for other ranks at the start. Errors: what this build lacks; CommError; MPI that
// finds another number of ranks than the launcher has started.
std::unique_ptr<Transport> open_transport(CommKind kind, const Launch& launch, Exec& exec,
                                          double deadline);

// body() as this rank's part of the job. What it throws is told to the other ranks, which then end
// too, and thrown on.
void run_rank(Comm& comm, const std::function<void()>& body);

// Exit code of a rank whose job ended because of another one: started again, it may go on.
constexpr int kRestartExitCode = 5;
// Before it exits with that: a rank that has failed of itself goes first, and its exit code is the
// job's. (No rank calls MPI_Abort: mpirun may hang when several do it at once, and ends the job all
// the same when a process exits without having ended MPI.)
constexpr std::chrono::seconds kRestartExitPause{1};

}  // namespace ringfort
