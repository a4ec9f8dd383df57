#include "distributed/power_sgd.h"

#include <algorithm>
#include <cmath>

#include "engine/transfer.h"
#include "kernels/gemm.h"
#include "kernels/vector.h"

namespace ringfort {
namespace {

constexpr int64_t kChunk = 4096;

View matrix_view(float* data, int64_t rows, int64_t columns) {
  return {data, Dtype::kFloat32, Shape{rows, 1, 1, columns}};
}

// N(0, 1) by Box and Muller.
std::vector<float> normal_numbers(int64_t count, uint64_t seed) {
  const RandomKey key{seed, Purpose::kCompress, 0};
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    const Philox4 words = key.words(static_cast<uint64_t>(i), 0);
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(uniform01(words.word[0]))));
    const double angle = 2 * M_PI * static_cast<double>(uniform01(words.word[1]));
    values.push_back(static_cast<float>(radius * std::cos(angle)));
  }
  return values;
}

}  // namespace

bool PowerSgd::is_worth_it(int64_t rows, int64_t columns, int rank) {
  return 2 * rank * (rows + columns) <= rows * columns;
}

PowerSgd::PowerSgd(Exec& exec, std::vector<MatrixAt> matrices, int rank, uint64_t seed)
    : matrices_(std::move(matrices)), pool_(exec.device()) {
  int64_t p_length = 0, q_length = 0;
  for (const MatrixAt& m : matrices_) {
    p_at_.push_back({p_length, m.rows, rank});
    q_at_.push_back({q_length, m.columns, rank});
    p_length += m.rows * rank;
    q_length += m.columns * rank;
    longest_ = std::max(longest_, m.rows * rank);
  }
  p_ = Tensor(pool_, vector_shape(p_length), Dtype::kFloat32);
  own_q_ = Tensor(pool_, vector_shape(q_length), Dtype::kFloat32);
  const std::vector<float> first = normal_numbers(q_length, seed);
  q_ = to_tensor<float>(exec, pool_, vector_shape(q_length), first);
  const auto bytes = static_cast<int64_t>(p_at_.size() * sizeof(MatrixAt));
  p_table_ = allocate_on(exec.device(), bytes, "a table of matrices");
  write_now(exec.device(), {p_table_.get(), Dtype::kUint8, vector_shape(bytes)}, p_at_.data());
  const Quantizer exact = Quantizer::make(QuantizerKind::kFloat32);
  p_codec_ = make_quantizer_codec(exec.device(), std::vector<Piece>{{0, p_length}}, exact, kChunk);
  q_codec_ = make_quantizer_codec(exec.device(), std::vector<Piece>{{0, q_length}}, exact, kChunk);
}

int64_t PowerSgd::bytes() const { return p_codec_->bytes() + q_codec_->bytes(); }

View PowerSgd::matrix(float* values, const MatrixAt& at) const {
  return matrix_view(values + at.first, at.rows, at.columns);
}

void PowerSgd::all_reduce(Exchange& exchange, Exec& exec, float* values, float* residual,
                          const std::string& what) {
  auto *p = p_.as<float>(), *q = q_.as<float>(), *own_q = own_q_.as<float>();
  for (size_t i = 0; i < matrices_.size(); ++i)
    gemm(exec, matrix(p, p_at_[i]), matrix(values, matrices_[i]), matrix(q, q_at_[i]));
  synchronize(exec);
  exchange.all_reduce(*p_codec_, {Algorithm::kRing, p, nullptr, {}, false, 0, what + ", P"});
  orthonormalise(exec, static_cast<const MatrixAt*>(p_table_.get()), std::ssize(p_at_), longest_,
                 p);
  for (size_t i = 0; i < matrices_.size(); ++i)
    gemm(exec, matrix(q, q_at_[i]), matrix(values, matrices_[i]), matrix(p, p_at_[i]),
         {.transpose_a = true});
  copy_view(exec, own_q_, q_);
  synchronize(exec);
  exchange.all_reduce(*q_codec_, {Algorithm::kRing, q, nullptr, {}, false, 0, what + ", Q"});
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const View sum = matrix(values, matrices_[i]);
    if (residual != nullptr) {
      const View rest = matrix(residual, matrices_[i]);
      gemm(exec, rest, matrix(p, p_at_[i]), matrix(own_q, q_at_[i]), {.transpose_b = true});
      subtract(exec, rest, sum, rest);
    }
    gemm(exec, sum, matrix(p, p_at_[i]), matrix(q, q_at_[i]), {.transpose_b = true});
  }
}

}  // namespace ringfort
