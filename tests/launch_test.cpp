// What the variables of launchers mean, alone and together.
#include "distributed/launch.h"

#include <catch2/catch.hpp>
#include <map>

#include "distributed/mpi_transport.h"
#include "distributed/nccl_transport.h"
#include "tests/temp_folder.h"

namespace ringfort {
namespace {

using Variables = std::map<std::string, std::string>;

Launch launch_of(const Variables& variables) {
  return read_launch([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void check_launch(const Variables& variables, const Launch& expected) {
  const Launch launch = launch_of(variables);
  CHECK(launch.launcher == expected.launcher);
  CHECK(launch.rank == expected.rank);
  CHECK(launch.size == expected.size);
  CHECK(launch.local_rank == expected.local_rank);
}

const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "5"},
                            {"OMPI_COMM_WORLD_SIZE", "8"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST_CASE("launch: without a launcher there is one rank", "[launch]") {
  check_launch({}, {"", 0, 1, 0});
  check_launch({{"RANK", ""}, {"WORLD_SIZE", ""}}, {"", 0, 1, 0});
}

TEST_CASE("launch: every launcher's variables are read", "[launch]") {
  check_launch(kOpenMpi, {"mpirun", 5, 8, 1});
  check_launch({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}}, {"PMI", 1, 2, 1});
  check_launch({{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}}, {"torchrun", 3, 4, 1});
  check_launch({{"SLURM_PROCID", "2"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_LOCALID", "0"}},
               {"srun", 2, 4, 0});
}

TEST_CASE("launch: mpirun inside of a SLURM allocation is mpirun", "[launch]") {
  check_launch(with(kOpenMpi, {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}),
               {"mpirun", 5, 8, 1});
}

TEST_CASE("launch: a SLURM batch script itself is a single rank", "[launch]") {
  check_launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "16"}}, {"", 0, 1, 0});
}

TEST_CASE("launch: senseless variables are refused by name", "[launch]") {
  const std::vector<std::pair<Variables, std::string>> cases = {
      {{{"RANK", "4"}, {"WORLD_SIZE", "4"}}, "RANK is 4 and WORLD_SIZE is 4"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "4"}}, "the variable RANK is '-1'"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "WORLD_SIZE is 0"},
      {{{"RANK", "one"}, {"WORLD_SIZE", "4"}}, "the variable RANK is 'one'"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "4 "}}, "the variable WORLD_SIZE is '4 '"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "99999999999"}}, "the variable WORLD_SIZE"},
      {{{"RANK", "1"}}, "RANK is set and WORLD_SIZE is not"},
      {{{"WORLD_SIZE", "4"}}, "WORLD_SIZE is set and RANK is not"},
      {{{"SLURM_STEP_NUM_TASKS", "4"}}, "SLURM_STEP_NUM_TASKS is set and SLURM_PROCID is not"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "2"}}, "LOCAL_RANK is 2"},
      {with(kOpenMpi, {{"RANK", "0"}, {"WORLD_SIZE", "8"}}), "unset those two"},
      {with(kOpenMpi, {{"RANK", "5"}, {"WORLD_SIZE", "4"}}), "RANK is 5 and WORLD_SIZE is 4"},
  };
  for (const auto& [variables, part] : cases)
    CHECK_THAT(test::error_of([&, &v = variables] { launch_of(v); }), Catch::Contains(part));
  check_launch(with(kOpenMpi, {{"RANK", "5"}, {"WORLD_SIZE", "8"}}), {"mpirun", 5, 8, 1});
}

TEST_CASE("launch: a single rank starts no library", "[launch]") {
  Exec exec({}, 1);
  for (const CommKind kind : {CommKind::kAuto, CommKind::kThreads})
    CHECK(open_transport(kind, Launch{}, exec, 1)->name() == "threads");
}

TEST_CASE("launch: transports that cannot serve are refused", "[launch]") {
  Exec exec({}, 1);
  const Launch two{"mpirun", 0, 2, 0};
  CHECK_THAT(test::error_of([&] { open_transport(CommKind::kThreads, two, exec, 1); }),
             Catch::Contains("use --comm mpi"));
  CHECK_THAT(test::error_of([] { parse_comm_kind("gloo"); }), Catch::Contains("nccl"));
  CHECK(parse_comm_kind("mpi") == CommKind::kMpi);
  if (!has_mpi())
    CHECK_THAT(test::error_of([&] { open_transport(CommKind::kAuto, two, exec, 1); }),
               Catch::Contains("this build has no MPI"));
  if (!has_nccl())
    CHECK_THAT(test::error_of([&] { nccl_transport(nullptr, exec, 1); }),
               Catch::Contains("this build has no NCCL"));
}

}  // namespace
}  // namespace ringfort
