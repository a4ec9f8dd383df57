// MPI's own all-reduce, beside which ours is measured.
#pragma once

#include <span>

#include "kernels/error.h"

namespace ringfort::bench {

// Whether MPI has been started.
bool has_mpi_all_reduce();

// values <- their sums over all ranks.
void mpi_all_reduce(std::span<float> values);

}  // namespace ringfort::bench
