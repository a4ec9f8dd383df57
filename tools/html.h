// Text for the report's page. Whatever comes from a file goes through escape().
#pragma once

#include <string>
#include <string_view>

namespace ringfort {

// & < > " ' as entities; bytes that no page may hold (control characters) are dropped.
std::string escape(std::string_view text);

std::string percent(double share);         // "70.4 %"; "-" for NaN
std::string grouped(int64_t count);        // "60,000"
std::string shell_word(std::string_view);  // quoted where a shell needs it

// The 95 % Wilson score interval of a share observed on n samples.
struct Interval {
  double low, high;
};
Interval wilson(double share, int64_t n);

}  // namespace ringfort
