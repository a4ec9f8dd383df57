// POSIX calls are used directly because the standard streams offer neither fsync nor the reason of
// a failure.
#include "engine/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "kernels/error.h"

namespace ringfort {
namespace {

// Of the last failed call. Call it after the condition of `require` is known: arguments have no
// order of evaluation.
std::string reason() { return std::generic_category().message(errno); }

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

// Removes the temporary file unless it has been renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::filesystem::path& path() const { return path_; }
  void release() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// Creates a file beside `path` under a name nobody uses (O_EXCL decides), with the user's normal
// permissions.
int create_beside(const std::filesystem::path& path, std::filesystem::path& created) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    created = folder_of(path) /
              fmt::format(".{}.tmp-{}-{}", path.filename().string(), ::getpid(), attempt);
    const int fd = ::open(created.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  constexpr size_t kMostPerCall = size_t{1} << 30;  // Linux writes at most 2 GiB at once
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), std::min(bytes.size(), kMostPerCall));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

// Bytes read: fewer than `bytes.size()` only at the end of the file; -1 on an error.
int64_t read_all(int fd, std::span<uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::read(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<int64_t>(done);
}

}  // namespace

std::vector<uint8_t> read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer; it has no effect on regular files.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  require(file.valid(), "cannot open '{}': {}; check the path", path.string(), reason());
  struct stat info {};
  const bool known = ::fstat(file.get(), &info) == 0;
  require(known, "cannot read '{}': {}", path.string(), reason());
  require(S_ISREG(info.st_mode), "'{}' is not a regular file; give the path of a file",
          path.string());
  const auto size = static_cast<uint64_t>(info.st_size);
  require(size <= max_bytes, "'{}' has {} bytes, at most {} are expected; is it the right file?",
          path.string(), size, max_bytes);
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  const int64_t count = read_all(file.get(), bytes);
  require(count >= 0, "cannot read '{}': {}", path.string(), reason());
  require(static_cast<uint64_t>(count) == size,
          "'{}' shrank while it was read; try again when nothing writes to it", path.string());
  return bytes;
}

std::string read_text(const std::filesystem::path& path, uint64_t max_bytes) {
  const std::vector<uint8_t> bytes = read_file(path, max_bytes);
  return {bytes.begin(), bytes.end()};
}

void write_file_atomic(const std::filesystem::path& path,
                       std::span<const std::span<const std::byte>> parts) {
  const std::string name = path.string();
  require(path.has_filename(), "cannot write '{}': it names a folder, not a file", name);
  // A rename replaces whatever has the name, a device or a pipe too; only files are ours to
  // replace.
  struct stat present {};
  const bool exists = ::stat(path.c_str(), &present) == 0;
  require(exists || errno == ENOENT || errno == ENOTDIR || errno == EACCES,
          "cannot write '{}': {}; name another file", name, reason());
  require(!exists || S_ISREG(present.st_mode),
          "cannot write '{}': what is there is not a regular file; name another file", name);
  std::filesystem::path created;
  const FileDescriptor file(create_beside(path, created));
  require(file.valid(), "cannot write '{}': {}; check that the folder exists and is writable", name,
          reason());
  TemporaryFile temporary(std::move(created));
  bool ok = true;
  for (const std::span<const std::byte> part : parts) ok = ok && write_all(file.get(), part);
  ok = ok && ::fsync(file.get()) == 0;
  require(ok, "cannot write '{}': {}; the file of that name, if any, is unchanged", name, reason());
  ok = ::rename(temporary.path().c_str(), path.c_str()) == 0;
  require(ok, "cannot replace '{}': {}; what is there is unchanged", name, reason());
  temporary.release();
  // Without this the rename itself may be lost with the power. Some file systems refuse it
  // (EINVAL): nothing to do.
  const FileDescriptor folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ok = folder.valid() && (::fsync(folder.get()) == 0 || errno == EINVAL);
  require(ok, "'{}' is written, but its folder could not be flushed to disk: {}", name, reason());
}

void remove_unfinished_writes(const std::filesystem::path& folder) {
  // As create_beside names them: ".NAME.tmp-PID-N".
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    const size_t mark = name.rfind(".tmp-");
    if (!name.starts_with('.') || mark == std::string::npos) continue;
    int pid = 0;
    const char* first = name.c_str() + mark + 5;
    const auto [rest, bad] = std::from_chars(first, name.c_str() + name.size(), pid);
    if (bad != std::errc() || *rest != '-' || pid <= 0) continue;
    const bool alive = ::kill(pid, 0) == 0 || errno != ESRCH;
    if (!alive) ::unlink(at->path().c_str());
  }
}

void write_text_atomic(const std::filesystem::path& path, std::string_view text) {
  const std::array<std::span<const std::byte>, 1> parts{std::as_bytes(std::span(text))};
  write_file_atomic(path, parts);
}

}  // namespace ringfort
