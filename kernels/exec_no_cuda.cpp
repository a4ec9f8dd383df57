// What stands in for the CUDA device in a build without it: a sentence.
#include "kernels/device_memory.h"
#include "kernels/exec.h"

namespace ringfort {
namespace {

[[noreturn]] void refuse() { fail("this build of Ringfort has no CUDA backend; use --device cpu"); }

}  // namespace

class CudaContext {};

void CudaContextDeleter::operator()(CudaContext* context) const { delete context; }

CudaContextHandle make_cuda_context(int) { refuse(); }

int cuda_device_count() { return 0; }
std::string cuda_device_name(int) { refuse(); }
std::string cuda_library_version() { refuse(); }

void synchronize(Exec&) {}

namespace cuda {

void* allocate(int64_t, const char*) { refuse(); }
void release(void*) {}
int64_t free_memory() { refuse(); }
void copy(Exec&, void*, const void*, int64_t, CopyDirection) { refuse(); }
void clear(Exec&, void*, int64_t) { refuse(); }
void copy_now(void*, const void*, int64_t, CopyDirection) { refuse(); }
void clear_now(void*, int64_t) { refuse(); }
double seconds_per_call(Exec&, int, const std::function<void()>&) { refuse(); }

}  // namespace cuda
}  // namespace ringfort
