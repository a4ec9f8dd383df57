// save: what it takes to put a training down and to take it up again, beside writing and reading as
// many bytes plainly on the same disk. Files are read from the disk, not from the memory in which
// the system keeps what was written.
#include <fcntl.h>

#include "bench/bench.h"
#include "bench/temporary_folder.h"
#include "bench/timing.h"
#include "engine/snapshot.h"
#include "engine/state_file.h"
#include "models/checkpoint.h"

namespace ringfort::bench {
namespace {

namespace fs = std::filesystem;

class OpenFile {
 public:
  OpenFile(const fs::path& path, int flags) : file_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    require(file_ != -1, "{}: cannot be opened", path.string());
  }
  ~OpenFile() { ::close(file_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int get() const { return file_; }

 private:
  int file_;
};

void write_plainly(const fs::path& path, const std::vector<std::byte>& bytes) {
  const OpenFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    require(count > 0, "{}: cannot be written", path.string());
    done += static_cast<size_t>(count);
  }
  require(::fsync(file.get()) == 0, "{}: cannot be written", path.string());
}

void read_plainly(const fs::path& path, std::vector<std::byte>& bytes) {
  const OpenFile file(path, O_RDONLY);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    require(count > 0, "{}: cannot be read", path.string());
    done += static_cast<size_t>(count);
  }
}

// Has the system forget what it keeps of the file's bytes; they are on the disk.
void forget(const fs::path& path) {
  const OpenFile file(path, O_RDONLY);
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

struct Kind {
  std::string name;  // "training state"
  std::function<void(const fs::path&path)> save, load;
};

void report_kind(Context& context, const Kind& kind, const fs::path& folder) {
  Exec& exec = context.exec;
  const fs::path ours = folder / "ours.safetensors", plain = folder / "plain";
  kind.save(ours);
  std::vector<std::byte> bytes(fs::file_size(ours));
  write_plainly(plain, bytes);
  const auto from_disk = [&exec](const fs::path& path, std::function<void()> read) -> Timed {
    return [path, reading = timed(exec, std::move(read))] {
      forget(path);
      return reading();
    };
  };
  const std::vector<double> seconds =
      medians_in_turns(context.repeats, {timed(exec, [&] { kind.save(ours); }),
                                         timed(exec, [&] { write_plainly(plain, bytes); }),
                                         from_disk(ours, [&] { kind.load(ours); }),
                                         from_disk(plain, [&] { read_plainly(plain, bytes); })});
  const auto size = static_cast<double>(bytes.size());
  const auto report = [&](const char* what, const char* reference, size_t at) {
    context.report.add({fmt::format("{}, {}", kind.name, what),
                        size / seconds[at] / 1e6,
                        "MB/s",
                        {{.reference_name = reference, .reference = size / seconds[at + 1] / 1e6}},
                        fmt::format("{:.2f} s for {:.0f} MB", seconds[at], size / 1e6)});
  };
  report("saved", "written and synchronised plainly", 0);
  report("loaded", "read plainly", 2);
}

void report_model(Context& context, const char* name, const fs::path& folder) {
  Exec& exec = context.exec;
  ModelSpec spec;
  spec.name = name;
  const auto model = make_model(spec, {.device = exec.device()});
  ParamStore& params = model->params();
  initialize(exec, params, 1);
  const Optimizer optimizer(params, {});
  const std::vector<NamedView> state = training_state(params, optimizer);
  report_kind(
      context,
      {fmt::format("{} state", name),
       [&](const fs::path& path) { save_state(path, exec.device(), state, {}); },
       [&](const fs::path& path) { load_state(load_safetensors(path), exec.device(), state); }},
      folder);
  report_kind(context,
              {fmt::format("{} checkpoint", name),
               [&](const fs::path& path) { save_checkpoint(path, *model, {}); },
               [&](const fs::path& path) { put_weights(exec, read_checkpoint(path), *model); }},
              folder);
}

}  // namespace

void run_save(Context& context) {
  // Where runs lie; a system's folder for temporary files may be none of a disk.
  const TemporaryFolder folder("build");
  for (const char* name : {"preact_resnet18", "wrn_34_10"})
    report_model(context, name, folder.path);
}

}  // namespace ringfort::bench
