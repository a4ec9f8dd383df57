#include "kernels/orthonormal.h"

#include "kernels/rows.h"

namespace ringfort {
namespace {

struct Orthonormalise {
  const MatrixAt* matrices;
  float* values;

  template <class Row>
  HD void operator()(const Row& row, int64_t index) const {
    const MatrixAt m = matrices[index];
    float* const p = values + m.first;
    const auto at = [&](int64_t i, int64_t column) -> float& { return p[i * m.columns + column]; };
    const auto inner = [&](int64_t a, int64_t b) {
      return row.template sum<double>(m.rows, [&](int64_t i) {
        return static_cast<double>(at(i, a)) * static_cast<double>(at(i, b));
      });
    };
    for (int64_t column = 0; column < m.columns; ++column) {
      const double before = sqrt(inner(column, column));
      for (int pass = 0; pass < 2; ++pass)  // the second takes what rounding left of the first
        for (int64_t other = 0; other < column; ++other) {
          const auto share = static_cast<float>(inner(other, column));
          row.each(m.rows, [&](int64_t i) { at(i, column) -= share * at(i, other); });
        }
      const double left = sqrt(inner(column, column));
      const auto factor = static_cast<float>(left > 1e-5 * before ? 1 / left : 0.0);
      row.each(m.rows, [&](int64_t i) { at(i, column) *= factor; });
    }
  }
};

}  // namespace

void orthonormalise(Exec& exec, const MatrixAt* matrices, int64_t count, int64_t longest,
                    float* values) {
  for_each_row(exec, count, longest, Orthonormalise{matrices, values});
}

}  // namespace ringfort
