// Ranks as threads of one process: for tests, and to try a distributed training without MPI.
#pragma once

#include <functional>
#include <vector>

#include "distributed/transport.h"

namespace ringfort {

// Transports of `size` ranks that share mailboxes; each serves one thread at a time.
std::vector<std::unique_ptr<Transport>> thread_transports(int size);

// body(transport) on a thread per rank; returns when all are done and rethrows what was thrown
// first.
void run_ranks(int size, const std::function<void(std::unique_ptr<Transport>)>& body);

}  // namespace ringfort
