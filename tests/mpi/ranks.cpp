// One rank of a job, for tests that start it with mpirun:
//   ringfort-mpi-ranks CASE FOLDER
// It judges what it receives by closed forms. What it has to say of other ranks' failures goes to
// FOLDER/rank-N. Exit codes are those of the ringfort program.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "distributed/launch.h"
#include "distributed/mpi_transport.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

struct Case {
  const Launch launch = read_launch();
  Exec exec{{}, 1};
  fs::path folder;

  std::unique_ptr<Comm> open(CommOptions options = {.deadline = 60}) {
    return std::make_unique<Comm>(open_transport(CommKind::kAuto, launch, exec, 60), options);
  }
  fs::path file(int rank) const { return folder / fmt::format("rank-{}", rank); }
  void say(const std::string& sentence) const {
    const fs::path unfinished = file(launch.rank).string() + "-unfinished";
    std::ofstream(unfinished) << sentence;
    fs::rename(unfinished, file(launch.rank));
  }
  // mpirun ends all ranks as soon as one has failed; what the others say would be lost.
  void wait_for_others() const {
    for (int rank = 0; rank < launch.size; ++rank)
      for (int tenths = 0; rank != launch.rank && !fs::exists(file(rank)); ++tenths) {
        require(tenths < 300, "rank {} has said nothing", rank);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
  }
  // What body throws is this rank's to say.
  void expect_failure(const std::function<void()>& body) const {
    try {
      body();
    } catch (const Error& error) {
      say(error.what());
      wait_for_others();
      throw;
    }
    fail("rank {}: nothing went wrong", launch.rank);
  }
};

std::byte pattern(int from, int to, size_t i) {
  return static_cast<std::byte>((static_cast<size_t>(from * 31 + to * 7) + i) % 251);
}

void check_sums(Comm& comm) {
  const int ranks = comm.size();
  for (const size_t length : {0, 1, 7, 1000, 100003}) {
    std::vector<double> values(length);
    for (size_t i = 0; i < length; ++i) values[i] = comm.rank() + 1 + 0.25 * static_cast<double>(i);
    comm.sum(values, "sums");
    for (size_t i = 0; i < length; ++i)
      require(values[i] == ranks * (ranks + 1) / 2 + 0.25 * static_cast<double>(i) * ranks,
              "sum {} of {} is {}", i, length, values[i]);
  }
}

void check_all_to_all(Comm& comm) {
  for (const size_t length : {0, 1, 4096, 4097, 100003}) {
    std::vector<std::vector<std::byte>> out(static_cast<size_t>(comm.size())), in(out.size());
    std::vector<std::span<const std::byte>> to;
    std::vector<std::span<std::byte>> from;
    for (size_t rank = 0; rank < out.size(); ++rank) {
      for (size_t i = 0; i < length; ++i)
        out[rank].push_back(pattern(comm.rank(), static_cast<int>(rank), i));
      in[rank].resize(length);
      to.emplace_back(out[rank]);
      from.emplace_back(in[rank]);
    }
    comm.all_to_all(to, from, "all to all");
    for (int rank = 0; rank < comm.size(); ++rank)
      for (size_t i = 0; rank != comm.rank() && i < length; ++i)
        require(in[static_cast<size_t>(rank)][i] == pattern(rank, comm.rank(), i),
                "byte {} of {} from rank {} is wrong", i, length, rank);
  }
}

void check_collectives(Comm& comm) {
  check_sums(comm);
  check_all_to_all(comm);
  const auto parts = comm.all_gather_any(
      std::vector<std::byte>(static_cast<size_t>(comm.rank()), std::byte(comm.rank())), "gather");
  for (size_t rank = 0; rank < parts.size(); ++rank)
    require(parts[rank] == std::vector<std::byte>(rank, std::byte(rank)), "part {} is wrong", rank);
  int value = comm.rank() == comm.size() - 1 ? 42 : 0;
  comm.broadcast(std::as_writable_bytes(std::span(&value, 1)), comm.size() - 1, "broadcast");
  require(value == 42, "rank {} has {}", comm.rank(), value);
  comm.barrier("barrier");
}

void collectives(Case& job) {
  const auto comm = job.open();
  require(comm->size() == job.launch.size && comm->rank() == job.launch.rank, "another rank");
  check_collectives(*comm);
  // Later from another thread, as a progress thread does it.
  std::thread([&] { check_collectives(*comm); }).join();
  job.say(comm->transport().name());
}

// Messages travel in parts of 1000 bytes.
void parts(Case& job) {
  Comm comm(mpi_transport(1000), {.deadline = 60});
  check_collectives(comm);
  job.say("in parts");
}

void mismatch(Case& job) {
  const auto comm = job.open();
  job.expect_failure([&] {
    const bool last = comm->rank() == comm->size() - 1;
    std::vector<double> values(last ? 5 : 4);
    comm->sum(values, last ? "gradients of 5" : "gradients of 4");
  });
}

void silent(Case& job) {
  const auto comm = job.open({.deadline = 1, .grace = 5});
  comm->barrier("step 1");
  if (comm->rank() == 1) {
    job.say("");
    job.wait_for_others();
    return;
  }
  job.expect_failure([&] { comm->barrier("step 2"); });
}

void gives_up(Case& job) {
  const auto comm = job.open();
  job.expect_failure([&] {
    run_rank(*comm, [&] {
      comm->barrier("step 1");
      if (comm->rank() == 1) fail("its disk is full");
      comm->barrier("step 2");
    });
  });
}

// Rank 1 expects another length than rank 0 has sent.
void lengths(Case& job) {
  const auto transport = mpi_transport();
  const size_t expected = job.launch.rank == 0 ? 8 : 12;
  std::vector<std::byte> out(10), in(expected);
  const int peer = 1 - job.launch.rank;
  job.expect_failure([&] {
    const auto sent = transport->send(peer, Channel::kPayload, out);
    const auto received = transport->receive(peer, Channel::kPayload, in);
    while (!received->done()) transport->rest();
  });
}

// A long message that nobody takes, and one that nobody sends.
void unfinished(Case& job) {
  const auto transport = mpi_transport();
  std::vector<std::byte> out(size_t{8} << 20), in(100);
  const int peer = 1 - job.launch.rank;
  {
    const auto sent = transport->send(peer, Channel::kPayload, out);
    const auto received = transport->receive(peer, Channel::kHeader, in);
    for (int i = 0; i < 100; ++i)
      require(!sent->done() && !received->done(), "a message that nobody took has arrived");
  }
  job.expect_failure([&] {
    transport->send(peer, Channel::kPayload, out);
    fail("the transport does not say that it has failed");
  });
}

// Bytes are exchanged until the test makes something of it: kills, stops, cuts.
void forever(Case& job) {
  const auto comm = job.open({.deadline = 8, .grace = 2});
  std::vector<double> values(20000, 1.0);
  job.say(fmt::format("{}", ::getpid()));
  run_rank(*comm, [&] {
    for (;;) comm->sum(values, "a sum without end");
  });
}

int run(const std::string& name, const fs::path& folder) {
  const std::map<std::string, void (*)(Case&)> cases = {
      {"collectives", collectives}, {"parts", parts},       {"mismatch", mismatch},
      {"silent", silent},           {"gives-up", gives_up}, {"lengths", lengths},
      {"unfinished", unfinished},   {"forever", forever},
  };
  Case job;
  job.folder = folder;
  const auto found = cases.find(name);
  require(found != cases.end(), "there is no case '{}'", name);
  found->second(job);
  return 0;
}

int complain(const std::exception& error, int exit_code) {
  fmt::print(stderr, "ringfort-mpi-ranks: {}\n", error.what());
  return exit_code;
}

}  // namespace
}  // namespace ringfort

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    return ringfort::run(argv[1], argv[2]);
  } catch (const ringfort::CommError& error) {
    const int exit_code = ringfort::complain(error, ringfort::kRestartExitCode);
    std::this_thread::sleep_for(ringfort::kRestartExitPause);
    return exit_code;
  } catch (const std::exception& error) {
    return ringfort::complain(error, 1);
  }
}
