// Ranks as threads: what collectives deliver, and how ranks that differ, fail or fall silent find
// out about each other.
#include "distributed/comm.h"

#include <catch2/catch.hpp>
#include <mutex>
#include <numeric>

#include "distributed/thread_transport.h"

namespace ringfort {
namespace {

void each_rank(int ranks, const std::function<void(Comm&)>& body, CommOptions options = {}) {
  run_ranks(ranks, [&](std::unique_ptr<Transport> transport) {
    Comm comm(std::move(transport), options);
    body(comm);
  });
}

// What each rank throws, by rank; "" where it does not.
std::vector<std::string> complaints(int ranks, const std::function<void(Comm&)>& body,
                                    CommOptions options = {}) {
  std::vector<std::string> said(static_cast<size_t>(ranks));
  each_rank(
      ranks,
      [&](Comm& comm) {
        try {
          body(comm);
        } catch (const CommError& error) {
          said[static_cast<size_t>(comm.rank())] = error.what();
        }
      },
      options);
  return said;
}

// Catch's assertions serve one thread; what ranks find is judged afterwards.
template <class T>
std::vector<T> of_ranks(int ranks, const std::function<T(Comm&)>& body) {
  std::vector<T> results(static_cast<size_t>(ranks));
  each_rank(ranks, [&](Comm& comm) { results[static_cast<size_t>(comm.rank())] = body(comm); });
  return results;
}

TEST_CASE("comm: sums are those of all ranks and the same bits everywhere", "[comm]") {
  for (int ranks = 1; ranks <= 9; ++ranks)
    for (const size_t length : {0, 1, 7, 1000}) {
      const auto sums = of_ranks<std::vector<double>>(ranks, [&](Comm& comm) {
        std::vector<double> values(length);
        for (size_t i = 0; i < length; ++i)
          values[i] = comm.rank() + 1 + 0.25 * static_cast<double>(i);
        comm.sum(values, "a test");
        return values;
      });
      for (const std::vector<double>& sum : sums) {
        CHECK(sum == sums[0]);
        for (size_t i = 0; i < length; ++i)
          CHECK(sum[i] == ranks * (ranks + 1) / 2 + 0.25 * static_cast<double>(i) * ranks);
      }
    }
}

TEST_CASE("comm: gathers what ranks have of whatever length", "[comm]") {
  const auto gathered = of_ranks<std::vector<std::vector<std::byte>>>(4, [](Comm& comm) {
    const auto own = static_cast<size_t>(comm.rank());
    return comm.all_gather_any(std::vector<std::byte>(own, std::byte(comm.rank())), "a test");
  });
  for (const auto& parts : gathered)
    for (size_t rank = 0; rank < 4; ++rank)
      CHECK(parts[rank] == std::vector<std::byte>(rank, std::byte(rank)));
}

TEST_CASE("comm: broadcast reaches all and only what was sent counts as traffic", "[comm]") {
  const auto sent = of_ranks<int64_t>(3, [](Comm& comm) {
    int value = comm.rank() == 1 ? 42 : 0;
    comm.broadcast(std::as_writable_bytes(std::span(&value, 1)), 1, "a test");
    require(value == 42, "rank {} has {}", comm.rank(), value);
    comm.barrier("a test");
    return comm.traffic().bytes_sent;
  });
  CHECK(sent == std::vector<int64_t>{2, 2 + 8, 2});
}

TEST_CASE("comm: ranks at different collectives all name both", "[comm]") {
  const auto said = complaints(3, [](Comm& comm) {
    std::vector<double> values(comm.rank() == 2 ? 5 : 4);
    comm.sum(values, comm.rank() == 2 ? "gradients of 5" : "gradients of 4");
  });
  for (const std::string& sentence : said) {
    CAPTURE(sentence);
    CHECK(sentence.find("gradients of 4") != std::string::npos);
    CHECK(sentence.find("gradients of 5") != std::string::npos);
    CHECK(sentence.find("rank 2") != std::string::npos);
  }
}

TEST_CASE("comm: a message of another length is refused although it says the same", "[comm]") {
  for (const std::string& sentence : complaints(2, [](Comm& comm) {
         std::vector<double> values(comm.rank() == 0 ? 4 : 5);
         comm.sum(values, "gradients");
       }))
    CHECK(sentence.find("32 bytes") != std::string::npos);
}

TEST_CASE("comm: a rank that falls silent is named by all others within the deadline", "[comm]") {
  const auto said = complaints(4,
                               [](Comm& comm) {
                                 std::vector<double> values(1);
                                 comm.sum(values, "step 1");
                                 if (comm.rank() != 2) comm.sum(values, "step 2");
                               },
                               {.deadline = 0.3, .grace = 2});
  CHECK(said[2].empty());
  for (const int rank : {0, 1, 3}) {
    CAPTURE(said[static_cast<size_t>(rank)]);
    CHECK(said[static_cast<size_t>(rank)].find("rank 2 does not answer") != std::string::npos);
    CHECK(said[static_cast<size_t>(rank)].find("step 2") != std::string::npos);
  }
}

TEST_CASE("comm: ranks that wait for each other say where each is", "[comm]") {
  const auto said = complaints(3,
                               [](Comm& comm) {
                                 comm.begin("a circle");
                                 std::vector<std::byte> bytes(8);
                                 Comm::Message message = comm.receive((comm.rank() + 1) % 3, bytes);
                                 comm.finish(message);
                               },
                               {.deadline = 0.3, .grace = 5});
  for (const std::string& sentence : said) {
    CAPTURE(sentence);
    CHECK(sentence.find("all ranks wait for each other") != std::string::npos);
  }
}

TEST_CASE("comm: some of the ranks have collectives of their own", "[comm]") {
  const auto sums = of_ranks<std::vector<double>>(5, [](Comm& comm) {
    const bool even = comm.rank() % 2 == 0;
    Comm some(comm, even ? std::vector<int>{4, 0, 2} : std::vector<int>{1, 3});
    std::vector<double> values = {static_cast<double>(comm.rank()), 1};
    some.sum(values, "the even or the odd");
    if (even) some.sum(values, "the even once more");
    std::vector<double> all = {1};
    comm.sum(all, "all");  // which counts for itself
    values.push_back(all[0]);
    values.push_back(some.rank());
    return values;
  });
  CHECK(sums[4] == std::vector<double>{18, 9, 5, 0});
  CHECK(sums[2] == std::vector<double>{18, 9, 5, 2});
  CHECK(sums[3] == std::vector<double>{4, 2, 5, 1});
}

TEST_CASE("comm: one that falls silent among some ranks is named to all", "[comm]") {
  const auto said = complaints(4,
                               [](Comm& comm) {
                                 std::vector<double> values(1);
                                 if (comm.rank() < 2) {
                                   Comm some(comm, {0, 1});
                                   if (comm.rank() == 0) some.sum(values, "of two");
                                 }
                                 if (comm.rank() != 1) comm.sum(values, "of all");
                               },
                               {.deadline = 0.3, .grace = 2});
  for (const int rank : {0, 2, 3})
    CHECK(said[static_cast<size_t>(rank)].find("rank 1 does not answer") != std::string::npos);
  CHECK(said[0].find("of two") != std::string::npos);
}

TEST_CASE("comm: a rank that gives up takes the others with it", "[comm]") {
  const auto said = complaints(3, [](Comm& comm) {
    if (comm.rank() == 1) return comm.give_up("its disk is full");
    std::vector<double> values(1);
    comm.sum(values, "a test");
  });
  CHECK(said[0].find("rank 1 has given up: its disk is full") != std::string::npos);
  CHECK(said[2].find("its disk is full") != std::string::npos);
}

}  // namespace
}  // namespace ringfort
