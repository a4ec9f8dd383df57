// Loaded in front of the C library (LD_PRELOAD), for tests: counts what a program does to the files
// below one folder, and lets one of these operations go wrong. As these calls are all that changes
// the folder, being killed before each of them, and in the middle of each write, is being killed at
// every moment.
//   RINGFORT_FAULT_FOLDER  the folder, absolute
//   RINGFORT_FAULT_LOG     a file outside of it that gets a line per operation: "write summary.csv"
//   RINGFORT_FAULT         "KIND N", of the N-th operation, from 1 on:
//     kill   the process is killed by SIGKILL before it
//     half   half of the bytes are written, then it is killed; no write: it is killed before it
//     full   the disk is full: half of the bytes are written; from then on nothing is written
//     term, int   the process gets SIGTERM or SIGINT, and the operation is carried out
// Only calls that Ringfort makes are here; tests/faults_test.cpp says how to find others.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio_ext.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

// The C library's own function, of the type of the one defined here.
template <class Function>
Function* real(Function*, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

enum class Fault { kNone, kKill, kHalf, kFull };

// Says what is to happen to an operation on `path`.
Fault next(const char* operation, const std::string& path) {
  static const std::string folder = setting("RINGFORT_FAULT_FOLDER");
  static const std::string fault = setting("RINGFORT_FAULT");
  static const std::string kind = fault.substr(0, fault.find(' '));
  static const int at = fault.empty() ? 0 : std::atoi(fault.c_str() + kind.size());
  static const int log = real(open, "open")(setting("RINGFORT_FAULT_LOG").c_str(),
                                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  static std::atomic<int> count{0};
  if (folder.empty() || (path != folder && !path.starts_with(folder + "/"))) return Fault::kNone;
  const int number = ++count;
  const std::string line =
      std::string(operation) + " " + path.substr(std::min(folder.size() + 1, path.size())) + "\n";
  if (log >= 0 && real(write, "write")(log, line.data(), line.size()) < 0) std::abort();
  if (kind == "full") return number >= at ? Fault::kFull : Fault::kNone;
  if (number != at) return Fault::kNone;
  if (kind == "kill") return Fault::kKill;
  if (kind == "half") return Fault::kHalf;
  ::raise(kind == "term" ? SIGTERM : SIGINT);
  return Fault::kNone;
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

std::string path_of(int fd) {
  std::array<char, 4096> path;
  const ssize_t length =
      ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
  return {path.data(), length < 0 ? 0 : static_cast<size_t>(length)};
}

std::atomic<bool> was_full{false};  // the rest of the disk has been written to

int full() {
  errno = ENOSPC;
  return -1;
}

// An operation that is no write. Whether it is carried out; a full disk has no room for what
// `grows`.
bool goes_well(const char* operation, const std::string& path, bool grows) {
  const Fault fault = next(operation, path);
  if (fault == Fault::kKill || fault == Fault::kHalf) die();
  return fault == Fault::kNone || !grows;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_CREAT) != 0 && !goes_well("create", path, true)) return full();
  return real(open, "open")(path, flags, mode);
}

FILE* fopen(const char* path, const char* mode) {
  if (*mode == 'w' && !goes_well("create", path, true)) {
    full();
    return nullptr;
  }
  FILE* file = real(fopen, "fopen")(path, mode);
  // So that what it holds is written by fflush() and by nothing else.
  if (file != nullptr) std::setvbuf(file, nullptr, _IOFBF, 1 << 20);
  return file;
}

ssize_t write(int fd, const void* bytes, size_t count) {
  const Fault fault = next("write", path_of(fd));
  if (fault == Fault::kKill) die();
  if (fault == Fault::kNone) return real(write, "write")(fd, bytes, count);
  if (fault == Fault::kFull && (was_full.exchange(true) || count < 2)) return full();
  const ssize_t written = real(write, "write")(fd, bytes, count / 2);
  if (fault == Fault::kHalf) die();
  return written;
}

// The bytes that it writes are not to be had from outside: it writes them, then half is cut off.
int fflush(FILE* file) {
  const auto pending = file == nullptr ? 0 : static_cast<off_t>(::__fpending(file));
  if (pending == 0) return real(fflush, "fflush")(file);
  const int fd = ::fileno(file);
  const Fault fault = next("write", path_of(fd));
  if (fault == Fault::kKill) die();
  if (fault == Fault::kFull && was_full.exchange(true)) {
    ::__fpurge(file);
    return full();
  }
  const int status = real(fflush, "fflush")(file);
  if (fault == Fault::kNone) return status;
  const off_t end = ::lseek(fd, 0, SEEK_CUR);
  if (real(ftruncate, "ftruncate")(fd, end - (pending + 1) / 2) != 0) std::abort();
  if (fault == Fault::kHalf) die();
  return full();
}

int fsync(int fd) {
  return goes_well("fsync", path_of(fd), true) ? real(fsync, "fsync")(fd) : full();
}

int ftruncate(int fd, off_t length) noexcept {
  goes_well("cut", path_of(fd), false);
  return real(ftruncate, "ftruncate")(fd, length);
}

int mkdir(const char* path, mode_t mode) noexcept {
  return goes_well("mkdir", path, true) ? real(mkdir, "mkdir")(path, mode) : full();
}

int rename(const char* from, const char* to) noexcept {
  goes_well("rename", to, false);
  return real(rename, "rename")(from, to);
}

int unlink(const char* path) noexcept {
  goes_well("remove", path, false);
  return real(unlink, "unlink")(path);
}

int remove(const char* path) noexcept {
  goes_well("remove", path, false);
  return real(remove, "remove")(path);
}

}  // extern "C"
