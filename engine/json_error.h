// What a JSON library's exception says, for a sentence of ours.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ringfort {

// The reason without the exception's own name: "[json.exception.parse_error.101] parse error at
// line 1, ..." is "parse error at line 1, ...".
inline std::string json_reason(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.starts_with("[json.exception.") ? text.find("] ") : std::string::npos;
  return end == std::string::npos ? text : text.substr(end + 2);
}

}  // namespace ringfort
