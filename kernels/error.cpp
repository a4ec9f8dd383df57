#include "kernels/error.h"

#include <algorithm>

namespace ringfort {

std::string printable(std::string_view text) {
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  return out;
}

}  // namespace ringfort
