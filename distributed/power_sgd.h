// PowerSGD (Vogels et al. 2019): the gradient of a filter or matrix, as a matrix M of its outputs
// by the rest, is replaced by P Q^T of small rank: one step of the power method per training step,
// from the Q of the step before. Sums of factors are factors of sums, so two ordinary all-reduces
// do.
//
//   P = sum over ranks of M Q, its columns made orthonormal;  Q = sum over ranks of M^T P
//   the sum of the gradients is taken to be P Q^T; a rank keeps M - P (M^T P)^T, of its own M
#pragma once

#include "distributed/exchange.h"
#include "kernels/orthonormal.h"

namespace ringfort {

class PowerSgd {
 public:
  // matrices: where they lie in the flat gradient. seed: of the first Q, the same on all ranks.
  PowerSgd(Exec& exec, std::vector<MatrixAt> matrices, int rank, uint64_t seed);

  // Whether the factors are at most half as long as the matrix.
  static bool is_worth_it(int64_t rows, int64_t columns, int rank);

  // values: the flat gradient, summed in place where the matrices lie. residual: as there, or null.
  // Errors: those of the exchange.
  void all_reduce(Exchange& exchange, Exec& exec, float* values, float* residual,
                  const std::string& what);

  int64_t bytes() const;  // of both factors
  // What is carried from step to step, the same on all ranks.
  View state() const { return q_; }

 private:
  View matrix(float* values, const MatrixAt& at) const;

  std::vector<MatrixAt> matrices_, p_at_, q_at_;
  int64_t longest_ = 1;
  Pool pool_;
  Tensor p_, q_, own_q_;
  DeviceMemory p_table_;
  std::unique_ptr<Codec> p_codec_, q_codec_;
};

}  // namespace ringfort
