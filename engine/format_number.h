// The format that a file's description says it has: "format": 3. A program reads what it writes,
// and says in one sentence why it takes nothing else.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ringfort {

inline constexpr const char* kFormatKey = "format";

// kind: of the file, "checkpoint". Errors, naming `file`: the description is no object, its format
// is missing, no whole number, or not `known`.
void require_format(const nlohmann::json& description, int64_t known, const std::string& file,
                    std::string_view kind);

}  // namespace ringfort
