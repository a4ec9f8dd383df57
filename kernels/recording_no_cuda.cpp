// Without CUDA there is no device whose work could be recorded.
#include "kernels/recording.h"

namespace ringfort {

class Recording {};

void RecordingDeleter::operator()(Recording* recording) const { delete recording; }

RecordingHandle record(Exec&, const std::function<void()>&, std::string&) {
  fail("record: this build has no CUDA backend");
}

int64_t kernel_count(const Recording&) { return 0; }

void replay(Exec&, Recording&) { fail("replay: this build has no CUDA backend"); }

}  // namespace ringfort
