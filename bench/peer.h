// The peer: a Python with PyTorch, run as a process of its own beside the bench. A script of
// tools/peer answers each line it is sent with one line of JSON, so that its measurements take
// turns with ours. Nothing here is needed to build or test Ringfort.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ringfort::bench {

// One running script.
class Peer {
 public:
  ~Peer();  // closes its input, upon which it ends, and waits for it

  const std::string& torch_version() const { return version_; }  // "2.15.0"
  // Errors: the script has ended, or its answer is no JSON.
  nlohmann::json ask(const std::string& line);
  // ask(), "seconds" of the answer.
  double seconds(const std::string& line) { return ask(line).at("seconds").get<double>(); }

 private:
  friend class PeerPython;
  Peer() = default;
  std::string read_line();

  std::string script_, version_, buffer_;
  int to_ = -1, from_ = -1;
  int process_ = -1;
};

class PeerPython {
 public:
  // python: path of an interpreter. scripts: the folder of the scripts.
  PeerPython(std::filesystem::path python, std::filesystem::path scripts)
      : python_(std::move(python)), scripts_(std::move(scripts)) {}

  // nullptr where there is no such interpreter, or it has no PyTorch.
  std::unique_ptr<Peer> start(const std::string& script,
                              const std::vector<std::string>& arguments) const;

  static constexpr const char* kMissing = "PyTorch not installed (tools/setup --peer)";

 private:
  std::filesystem::path python_, scripts_;
};

}  // namespace ringfort::bench
