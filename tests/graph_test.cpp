// Graph: warm-up, replays, and the refusal of another shape.
#include "engine/graph.h"

#include <catch2/catch.hpp>

namespace ringfort {

using Catch::Contains;

TEST_CASE("A graph warms up, then counts replays, and every run does the work", "[graph]") {
  int calls = 0;
  Exec exec;
  Graph graph(exec, "attack", [&] { ++calls; }, {.warm_up = 2});
  const Shape shape = {8, 32, 32, 3};
  CHECK(graph.state() == Graph::State::kWarmUp);
  graph.run(shape);
  CHECK(graph.state() == Graph::State::kWarmUp);
  graph.run(shape);
  CHECK(graph.state() == Graph::State::kCaptured);
  CHECK(graph.replays() == 0);
  for (int i = 1; i <= 3; ++i) {
    graph.run(shape);
    CHECK(graph.replays() == i);
  }
  CHECK(calls == 5);
  CHECK_FALSE(graph.recorded());  // the CPU calls the work
}

TEST_CASE("A graph refuses another shape and names both", "[graph]") {
  int calls = 0;
  Exec exec;
  Graph graph(exec, "attack", [&] { ++calls; });
  graph.run({8, 32, 32, 3});
  CHECK_THROWS_WITH(graph.run({7, 32, 32, 3}),
                    Contains("attack") && Contains("(8, 32, 32, 3)") && Contains("(7, 32, 32, 3)"));
  CHECK(calls == 1);  // refused before any work
  CHECK(graph.replays() == 0);
  graph.run({8, 32, 32, 3});
  CHECK(graph.replays() == 1);
}

TEST_CASE("A graph needs work and a warm-up", "[graph]") {
  Exec exec;
  CHECK_THROWS_WITH(Graph(exec, "empty", {}), Contains("'empty'") && Contains("no work"));
  CHECK_THROWS_WITH(Graph(exec, "cold", [] {}, {.warm_up = 0}),
                    Contains("'cold'") && Contains("warm-up"));
}

}  // namespace ringfort
