#include "kernels/view.h"

namespace ringfort {

std::string to_string(const Shape& shape) {
  return fmt::format("({}, {}, {}, {})", shape.n, shape.h, shape.w, shape.c);
}

std::string_view to_string(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kBFloat16:
      return "bfloat16";
    case Dtype::kFloat64:
      return "float64";
    case Dtype::kInt32:
      return "int32";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kUint8:
      return "uint8";
    case Dtype::kBit:
      return "bit";
  }
  return "unknown";
}

int64_t bytes_for(Dtype dtype, int64_t elements) {
  switch (dtype) {
    case Dtype::kFloat64:
    case Dtype::kInt64:
      return 8 * elements;
    case Dtype::kFloat32:
    case Dtype::kInt32:
      return 4 * elements;
    case Dtype::kBFloat16:
      return 2 * elements;
    case Dtype::kUint8:
      return elements;
    case Dtype::kBit:
      return (elements + 63) / 64 * 8;
  }
  return 0;
}

View View::samples(int64_t first, int64_t samples_count) const {
  require(dtype != Dtype::kBit, "View::samples: a packed bit mask cannot be cut between samples");
  require(first >= 0 && samples_count >= 0 && first + samples_count <= shape.n,
          "View::samples: [{}, {}) is outside the {} samples of {}", first, first + samples_count,
          shape.n, to_string(shape));
  View part = *this;
  part.data = static_cast<std::byte*>(data) + bytes_for(dtype, first * shape.per_sample());
  part.shape.n = samples_count;
  return part;
}

View reshaped(View view, Shape shape) {
  require(shape.count() == view.count(), "reshaped: {} has another number of elements than {}",
          to_string(shape), to_string(view.shape));
  require(view.layout == Layout::kChannelsLast || view.shape.h * view.shape.w == 1,
          "reshaped: a blocked view of shape {} must be reordered to channels last first",
          to_string(view.shape));
  view.shape = shape;
  view.layout = Layout::kChannelsLast;
  return view;
}

}  // namespace ringfort
