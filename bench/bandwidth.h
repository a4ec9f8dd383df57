// What the benches of memory-bound kernels share: a kernel's bandwidth over the bytes it cannot but
// move, beside a copy of as many bytes and beside PyTorch's operations on the same arrays.
#pragma once

#include <functional>
#include <string>

#include "bench/bench.h"

namespace ringfort::bench {

struct BandwidthCase {
  std::string figure;         // "linf_step, 1024 images"
  std::function<void()> run;  // one call of the kernel
  double bytes;               // read and written by one call, each array once
  std::string peer_question;  // what the peer's script is asked; "" for nothing
};

// Kernel, copy and peer in turns; the goal is a share of the copy's bandwidth. peer: may be
// nullptr.
void report_bandwidth(Context& context, Peer* peer, const BandwidthCase& bandwidth_case,
                      std::optional<double> goal);

}  // namespace ringfort::bench
