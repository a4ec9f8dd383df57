// A recording of the work that an Exec's stream was given, to be run again without the host: a CUDA
// graph. Addresses, shapes and numbers given by value are recorded with it. On the CPU nothing can
// be recorded.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/exec.h"

namespace ringfort {

class Recording;
struct RecordingDeleter {
  void operator()(Recording* recording) const;
};
using RecordingHandle = std::unique_ptr<Recording, RecordingDeleter>;

// Calls work() and records, but does not run, what it queues. Null where CUDA cannot record it;
// then `why` says so. REQUIRES: a CUDA device.
RecordingHandle record(Exec& exec, const std::function<void()>& work, std::string& why);

// How many kernels a replay launches.
int64_t kernel_count(const Recording& recording);

// Queues the recorded work once more.
void replay(Exec& exec, Recording& recording);

}  // namespace ringfort
