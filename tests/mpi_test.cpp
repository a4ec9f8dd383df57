// Ranks as processes: tests/mpi/ranks.cpp started by the real mpirun. What ranks say they write
// into files of a folder; the exit code is mpirun's.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "distributed/launch.h"
#include "tests/program.h"
#include "tests/temp_folder.h"

namespace ringfort {
namespace {

struct Job {
  test::Outcome outcome;
  std::vector<std::string> said;  // by rank
};

Job mpirun(int ranks, const std::string& name) {
  const test::TempFolder folder;
  Job job;
  // A job that does not end is a failure, not a wait. More ranks than cores, as root too, not bound
  // to cores that other tests use; ob1 is memory and TCP, and the others are slow to say that their
  // hardware is not here. Open MPI leaks, in plugins that it has unloaded by the time a
  // sanitizer looks, so that none can be told to ignore them: exit codes do not count leaks, and
  // what is said of them may not name code of ours.
  job.outcome = test::run_command(
      fmt::format("LSAN_OPTIONS=exitcode=0 timeout -k 1 200 {} --allow-run-as-root --oversubscribe "
                  "--bind-to none --mca pml ob1 -np {} {} {} {}",
                  RINGFORT_MPIRUN, ranks, RINGFORT_MPI_RANKS, name, folder.path().string()));
  INFO(job.outcome.output);
  for (const char* finding : {"ringfort::", "ERROR: AddressSanitizer", "runtime error"})
    CHECK_THAT(job.outcome.output, !Catch::Contains(finding));
  for (int rank = 0; rank < ranks; ++rank) {
    std::ifstream file(folder.path() / fmt::format("rank-{}", rank));
    std::ostringstream text;
    text << file.rdbuf();
    job.said.push_back(file.good() ? text.str() : "nothing");
  }
  return job;
}

TEST_CASE("mpi: collectives deliver what threads deliver and from any thread", "[mpi]") {
  for (const int ranks : {1, 2, 4}) {
    const Job job = mpirun(ranks, "collectives");
    INFO(job.outcome.output);
    CHECK(job.outcome.exit_code == 0);
    CHECK_THAT(job.outcome.output, !Catch::Contains("ringfort-mpi-ranks:"));
    for (const std::string& name : job.said)
      CHECK_THAT(name, Catch::StartsWith(ranks == 1 ? "threads" : "MPI ("));
  }
}

TEST_CASE("mpi: long messages travel in parts", "[mpi]") {
  const Job job = mpirun(2, "parts");
  INFO(job.outcome.output);
  CHECK(job.outcome.exit_code == 0);
  CHECK(job.said == std::vector<std::string>{"in parts", "in parts"});
}

TEST_CASE("mpi: ranks at different collectives all name both", "[mpi]") {
  for (const int ranks : {2, 4}) {
    const Job job = mpirun(ranks, "mismatch");
    CHECK(job.outcome.exit_code == kRestartExitCode);
    for (const std::string& sentence : job.said)
      CHECK_THAT(sentence, Catch::Contains("gradients of 4") && Catch::Contains("gradients of 5") &&
                               Catch::Contains(fmt::format("rank {}", ranks - 1)));
    CHECK_THAT(job.outcome.output, Catch::Contains("gradients of 5"));
  }
}

TEST_CASE("mpi: a rank that falls silent is named by all others", "[mpi]") {
  const Job job = mpirun(4, "silent");
  CHECK(job.outcome.exit_code == kRestartExitCode);
  for (const size_t rank : {0, 2, 3})
    CHECK_THAT(job.said[rank],
               Catch::Contains("rank 1 does not answer") && Catch::Contains("step 2"));
}

TEST_CASE("mpi: a rank that fails of itself is heard and its exit code is the job's", "[mpi]") {
  const Job job = mpirun(3, "gives-up");
  CHECK(job.outcome.exit_code == 1);
  CHECK(job.said == std::vector<std::string>{"rank 1 has given up: its disk is full",
                                             "its disk is full",
                                             "rank 1 has given up: its disk is full"});
}

TEST_CASE("mpi: a message of another length is told", "[mpi]") {
  const Job job = mpirun(2, "lengths");
  CHECK(job.outcome.exit_code == 1);
  CHECK_THAT(job.said[0], Catch::Contains("more than 8 bytes came from rank 1"));
  CHECK_THAT(job.said[1], Catch::Contains("10 bytes came from rank 0 where 12 were expected"));
}

TEST_CASE("mpi: what was sent in vain keeps nobody waiting", "[mpi]") {
  const Job job = mpirun(2, "unfinished");
  CHECK(job.outcome.exit_code == kRestartExitCode);
  for (const std::string& sentence : job.said)
    CHECK_THAT(sentence, Catch::Contains("nothing more can be sent"));
}

TEST_CASE("mpi: a job that MPI cannot see is refused with how to launch it", "[mpi]") {
  const test::TempFolder folder;
  const test::Outcome outcome = test::run_command(
      fmt::format("OMPI_MCA_pml=ob1 RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 {} collectives {}",
                  RINGFORT_MPI_RANKS, folder.path().string()));
  CHECK(outcome.exit_code == 1);
  CHECK_THAT(outcome.output, Catch::Contains("torchrun has launched this process as rank 1 of 2") &&
                                 Catch::Contains("mpirun -np 2"));
}

}  // namespace
}  // namespace ringfort
