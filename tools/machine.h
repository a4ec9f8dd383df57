// Where the program runs: the Exec that the command line's --device and --threads ask for.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "kernels/exec.h"

namespace ringfort {

// device: auto (CUDA where a device and a build for it are there), cpu, cuda or cuda:N. threads: 0
// for all cores. Plans are kept in plan_file(device). Errors: an unknown device, a device this
// build or machine does not have.
std::unique_ptr<Exec> open_exec(const std::string& device, int threads);

// $XDG_CACHE_HOME/ringfort/plans.json, or ~/.cache/ringfort/plans.json; plans-cuda.json for a GPU,
// because what one library has measured says nothing of the other. Empty where there is no home.
std::filesystem::path plan_file(const Device& device);

}  // namespace ringfort
