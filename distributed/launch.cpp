#include "distributed/launch.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "distributed/mpi_transport.h"
#include "distributed/nccl_transport.h"
#include "distributed/thread_transport.h"

namespace ringfort {
namespace {

struct Launcher {
  const char* name;
  const char *rank, *size, *local_rank, *local_size;
};

constexpr Launcher kMpirun{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Launcher kPmi{"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Launcher kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Launcher kSrun{"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
                         "SLURM_NTASKS_PER_NODE"};

using Variable = std::function<const char*(const char*)>;

std::optional<int> read_number(const Variable& variable, const char* name) {
  const char* text = variable(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::string_view digits(text);
  int number = -1;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), number);
  require(error == std::errc() && end == digits.end() && number >= 0,
          "the variable {} is '{}', which is no number of ranks; launch with mpirun, or unset it",
          name, text);
  return number;
}

std::optional<Launch> read_launcher(const Variable& variable, const Launcher& launcher) {
  const std::optional<int> rank = read_number(variable, launcher.rank);
  const std::optional<int> size = read_number(variable, launcher.size);
  if (!rank && !size) return std::nullopt;
  require(
      rank && size, "of {}'s variables {} is set and {} is not; launch with mpirun, or unset it",
      launcher.name, rank ? launcher.rank : launcher.size, rank ? launcher.size : launcher.rank);
  require(*rank < *size, "{} is {} and {} is {}: ranks count from 0 and stay below the size",
          launcher.rank, *rank, launcher.size, *size);
  const int local_rank = read_number(variable, launcher.local_rank).value_or(0);
  require(local_rank <= *rank,
          "{} is {} and {} is {}: a machine cannot have more ranks than there are",
          launcher.local_rank, local_rank, launcher.rank, *rank);
  const int local_size = read_number(variable, launcher.local_size).value_or(1);
  return Launch{launcher.name, *rank, *size, local_rank, std::max(local_size, 1)};
}

}  // namespace

Launch read_launch(const Variable& variable) {
  const std::optional<Launch> mpirun = read_launcher(variable, kMpirun);
  const std::optional<Launch> torchrun = read_launcher(variable, kTorchrun);
  if (mpirun && torchrun)
    require(mpirun->rank == torchrun->rank && mpirun->size == torchrun->size,
            "mpirun says that this is rank {} of {}, and RANK and WORLD_SIZE that it is rank {} of "
            "{}; unset those two",
            mpirun->rank, mpirun->size, torchrun->rank, torchrun->size);
  if (mpirun) return *mpirun;
  if (const std::optional<Launch> pmi = read_launcher(variable, kPmi)) return *pmi;
  if (torchrun) return *torchrun;
  // A batch script has SLURM_PROCID too, although nobody has launched it as a rank.
  if (variable(kSrun.size) == nullptr) return {};
  return read_launcher(variable, kSrun).value_or(Launch{});
}

Launch read_launch() {
  return read_launch([](const char* name) { return std::getenv(name); });
}

CommKind parse_comm_kind(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames = {"auto", "threads", "mpi", "nccl"};
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return static_cast<CommKind>(i);
  fail("--comm: there is no '{}'; known are auto, threads, mpi and nccl", name);
}

namespace {

// Errors: MPI that has not found the ranks of the launcher.
std::unique_ptr<Transport> open_mpi(const Launch& launch) {
  auto transport = mpi_transport();
  require(
      transport->size() == launch.size && transport->rank() == launch.rank,
      "{} has launched this process as rank {} of {}, and MPI finds itself rank {} of {}; launch "
      "with mpirun -np {}, or with an srun that speaks PMIx (srun --mpi=pmix)",
      launch.launcher, launch.rank, launch.size, transport->rank(), transport->size(), launch.size);
  return transport;
}

}  // namespace

std::unique_ptr<Transport> open_transport(CommKind kind, const Launch& launch, Exec& exec,
                                          double deadline) {
  if (kind == CommKind::kAuto && launch.size > 1)
    kind = exec.on_cuda() && has_nccl() ? CommKind::kNccl : CommKind::kMpi;
  if (kind == CommKind::kMpi) return open_mpi(launch);
  if (kind == CommKind::kNccl) return nccl_transport(open_mpi(launch), exec, deadline);
  require(
      launch.size == 1,
      "--comm threads: threads are ranks of one process, and {} has launched {}; use --comm mpi",
      launch.launcher, launch.size);
  return std::move(thread_transports(1).front());
}

void run_rank(Comm& comm, const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError&) {
    throw;  // has been told already
  } catch (const std::exception& error) {
    comm.give_up(error.what());
    throw;
  }
}

}  // namespace ringfort
