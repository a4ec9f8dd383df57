#include "engine/format_number.h"

#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace ringfort {

void require_format(const nlohmann::json& description, int64_t known, const std::string& file,
                    std::string_view kind) {
  require(description.is_object() && description.contains(kFormatKey),
          "{}: this {} does not say which format it has, as those of old versions of Ringfort; "
          "this one reads format {}, use the version that wrote it",
          file, kind, known);
  const nlohmann::json& said = description.at(kFormatKey);
  require(said.is_number_integer(), "{}: the format of this {} is {}, which is no whole number",
          file, kind, said.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  const auto format = said.get<int64_t>();
  require(
      format == known, "{}: this {} has format {}, and this version of Ringfort reads {}; {}", file,
      kind, format, known,
      format < known ? "use the older version that wrote it" : "use the newer one that wrote it");
}

}  // namespace ringfort
