#include "bench/peer.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "kernels/error.h"

extern char** environ;

namespace ringfort::bench {
namespace {

// [0]: to read from, [1]: to write to. Closed in programs started later unless handed to them.
std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  require(::pipe2(ends.data(), O_CLOEXEC) == 0, "bench: no pipe to the peer can be made");
  return ends;
}

int spawn(const std::vector<std::string>& command, int standard_in, int standard_out) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, standard_in, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, standard_out, STDOUT_FILENO);
  pid_t process = -1;
  const int error =
      ::posix_spawn(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? process : -1;
}

}  // namespace

std::unique_ptr<Peer> PeerPython::start(const std::string& script,
                                        const std::vector<std::string>& arguments) const {
  if (python_.empty() || !std::filesystem::exists(python_)) return nullptr;
  const std::filesystem::path file = scripts_ / script;
  require(std::filesystem::exists(file),
          "bench: {} is not there; run the benches from the repository's root", file.string());
  std::signal(SIGPIPE, SIG_IGN);  // a script that has ended is noticed when its answer is missing

  const auto to = make_pipe(), from = make_pipe();
  std::vector<std::string> command = {python_.string(), file.string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::unique_ptr<Peer> peer(new Peer());
  peer->script_ = script;
  peer->process_ = spawn(command, to[0], from[1]);
  ::close(to[0]);
  ::close(from[1]);
  peer->to_ = to[1];
  peer->from_ = from[0];
  require(peer->process_ > 0, "bench: {} cannot be run", python_.string());

  const std::string greeting = peer->read_line();
  if (greeting == "no torch") return nullptr;
  require(!greeting.empty(), "bench: {} ended before it began; its message is above", script);
  peer->version_ = nlohmann::json::parse(greeting).at("torch").get<std::string>();
  return peer;
}

Peer::~Peer() {
  ::close(to_);
  ::close(from_);
  if (process_ > 0) ::waitpid(process_, nullptr, 0);
}

std::string Peer::read_line() {
  for (;;) {
    if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> part{};
    const ssize_t count = ::read(from_, part.data(), part.size());
    if (count <= 0) return {};
    buffer_.append(part.data(), static_cast<size_t>(count));
  }
}

nlohmann::json Peer::ask(const std::string& line) {
  const std::string question = line + "\n";
  const ssize_t sent = ::write(to_, question.data(), question.size());
  const std::string answer =
      sent == static_cast<ssize_t>(question.size()) ? read_line() : std::string();
  require(!answer.empty(), "bench: {} ended without an answer to '{}'; its message is above",
          script_, line);
  const auto json = nlohmann::json::parse(answer, nullptr, false);
  require(!json.is_discarded(), "bench: {} answered '{}' to '{}'", script_, answer, line);
  return json;
}

}  // namespace ringfort::bench
