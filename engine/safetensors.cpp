// The header is handled as JSON and hashed as canonical JSON (keys sorted, no spaces), not as
// bytes, so that a file stays valid when another tool reads and rewrites it.
#include "engine/safetensors.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "engine/files.h"
#include "kernels/error.h"

namespace ringfort {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's reference reader
constexpr size_t kPrefixBytes = 8;
constexpr int kMaxDepth = 3;  // {header: {tensor: [shape]}}
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kChecksum = "ringfort.checksum";
// A file that says it is ours must carry a checksum: otherwise a flipped bit in the checksum's own
// key would pass.
constexpr const char* kFormat = "ringfort.format";
constexpr const char* kAdvice = "take another copy of it";

struct Dtype {
  std::string_view name;
  uint64_t size;
};
constexpr std::array<Dtype, 7> kDtypes{
    {{"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"U8", 1}}};

// Bytes per element, or 0 for a dtype we do not know.
uint64_t dtype_size(std::string_view dtype) {
  for (const Dtype& known : kDtypes)
    if (known.name == dtype) return known.size;
  return 0;
}

// Multiplies; false when the product does not fit.
bool multiply(uint64_t& product, uint64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product);
}

std::string checksum(Json header, std::span<const std::span<const std::byte>> data) {
  if (header.contains(kMetadata)) header[kMetadata].erase(kChecksum);
  const std::string canonical = header.dump();
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  require(state != nullptr, "no memory is left for a checksum");
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), canonical.data(), canonical.size());
  for (const std::span<const std::byte> part : data)
    if (!part.empty()) XXH3_128bits_update(state.get(), part.data(), part.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

// ---- Writing ------------------------------------------------------------------------------------

void check_array(const NamedArray& array, const std::string& file) {
  require(!array.name.empty() && array.name != kMetadata,
          "cannot write '{}': '{}' is not a possible name of an array", file, array.name);
  uint64_t bytes = dtype_size(array.dtype);
  require(bytes != 0, "cannot write '{}': array '{}' has the unknown dtype '{}'", file, array.name,
          array.dtype);
  bool fits = true;
  for (const int64_t dim : array.shape)
    fits = fits && dim >= 0 && multiply(bytes, static_cast<uint64_t>(dim));
  require(fits && bytes == array.bytes.size(),
          "cannot write '{}': array '{}' of shape ({}) and dtype {} does not take {} bytes", file,
          array.name, shape_text(array.shape), array.dtype, array.bytes.size());
}

std::vector<const NamedArray*> in_file_order(std::span<const NamedArray> arrays,
                                             const std::string& file) {
  std::vector<const NamedArray*> order;
  for (const NamedArray& array : arrays) {
    check_array(array, file);
    order.push_back(&array);
  }
  std::sort(order.begin(), order.end(), [](const NamedArray* a, const NamedArray* b) {
    return std::tuple(dtype_size(b->dtype), std::string_view(a->name)) <
           std::tuple(dtype_size(a->dtype), std::string_view(b->name));
  });
  return order;
}

Json make_header(std::span<const NamedArray* const> arrays,
                 const std::map<std::string, std::string>& metadata, const std::string& file) {
  Json header = Json::object();
  for (const char* reserved : {kFormat, kChecksum})
    require(!metadata.contains(reserved), "cannot write '{}': the metadata key '{}' is reserved",
            file, reserved);
  header[kMetadata] = metadata;
  header[kMetadata][kFormat] = "1";
  uint64_t begin = 0;
  for (const NamedArray* array : arrays) {
    require(!header.contains(array->name), "cannot write '{}': two arrays are named '{}'", file,
            array->name);
    const uint64_t end = begin + array->bytes.size();
    header[array->name] = {
        {"dtype", array->dtype}, {"shape", array->shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  return header;
}

// ---- Reading ------------------------------------------------------------------------------------

// Refuses nesting beyond what the format has, and keys that occur twice, of which the JSON library
// would silently keep the last. By itself: a callback of the library's parser costs the square of
// the number of arrays.
class HeaderGuard final : public Json::json_sax_t {
 public:
  explicit HeaderGuard(const std::string& file) : file_(file) {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    keys_.emplace_back();
    return deeper();
  }
  bool key(string_t& name) override {
    require(keys_.back().insert(name).second, "'{}' is damaged: its header has '{}' twice; {}",
            file_, name, kAdvice);
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return end_array();
  }
  bool start_array(size_t) override { return deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  bool deeper() {
    require(++depth_ <= kMaxDepth, "'{}' is damaged: its header is nested too deeply; {}", file_,
            kAdvice);
    return true;
  }

  const std::string& file_;
  std::vector<std::set<std::string>> keys_;
  int depth_ = 0;
};

// Parses the header.
Json parse_header(std::string_view text, const std::string& file) {
  // The padding is spaces only. A zero byte would end the text for the JSON library, hiding what
  // follows.
  const size_t end = text.find_last_not_of(' ');
  require(!text.empty() && text.front() == '{' && end != text.npos && text[end] == '}' &&
              text.find('\0') == text.npos,
          "'{}' is not a safetensors file, or damaged: its header is no JSON object; {}", file,
          kAdvice);
  const std::string_view json = text.substr(0, end + 1);
  HeaderGuard guard(file);
  try {
    Json::sax_parse(json, &guard);  // what is no JSON at all is left to the parser
    return Json::parse(json);
  } catch (const Json::parse_error& error) {
    fail("'{}' is damaged: its header is no valid JSON at byte {}; {}", file, error.byte, kAdvice);
  } catch (const Json::exception&) {
    fail("'{}' is damaged: its header has a number out of range; {}", file, kAdvice);
  }
}

void read_metadata(const Json& json, SafetensorsFile& out) {
  require(json.is_object(), "'{}' is damaged: its metadata is no JSON object; {}", out.file,
          kAdvice);
  for (const auto& [key, value] : json.items()) {
    require(value.is_string(), "'{}' is damaged: its metadata '{}' is not a text; {}", out.file,
            key, kAdvice);
    out.metadata[key] = value.get<std::string>();
  }
}

bool is_unsigned_list(const Json& json) {
  return json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& value) {
           return value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX;
         });
}

NamedArray read_entry(const std::string& name, const Json& json, std::span<const std::byte> data,
                      const std::string& file) {
  const bool complete = json.is_object() && json.size() == 3 && json.contains("dtype") &&
                        json["dtype"].is_string() && json.contains("shape") &&
                        is_unsigned_list(json["shape"]) && json.contains("data_offsets") &&
                        is_unsigned_list(json["data_offsets"]) && json["data_offsets"].size() == 2;
  require(complete,
          "'{}' is damaged: the header's entry '{}' is not made of dtype, shape and data_offsets; "
          "{}",
          file, name, kAdvice);
  NamedArray array{
      name, json["dtype"].get<std::string>(), json["shape"].get<std::vector<int64_t>>(), {}};
  uint64_t bytes = dtype_size(array.dtype);
  require(bytes != 0,
          "'{}': array '{}' has dtype '{}', which Ringfort does not read (F32, F64, "
          "F16, BF16, I64, I32, U8); convert it first",
          file, name, array.dtype);
  bool fits = true;
  for (const int64_t dim : array.shape) fits = fits && multiply(bytes, static_cast<uint64_t>(dim));
  const auto begin = json["data_offsets"][0].get<uint64_t>();
  const auto end = json["data_offsets"][1].get<uint64_t>();
  require(begin <= end && end <= data.size(),
          "'{}' is truncated or damaged: array '{}' is said to lie at bytes {} to {} of {}; {}",
          file, name, begin, end, data.size(), kAdvice);
  require(fits && bytes == end - begin,
          "'{}' is damaged: array '{}' of shape ({}) and dtype {} cannot take {} bytes; {}", file,
          name, shape_text(array.shape), array.dtype, end - begin, kAdvice);
  array.bytes = data.subspan(begin, end - begin);
  return array;
}

// Every byte of the data belongs to exactly one array.
void check_cover(std::span<const NamedArray> arrays, std::span<const std::byte> data,
                 const std::string& file) {
  const std::byte* expected = data.data();
  for (const NamedArray& array : arrays) {
    require(array.bytes.data() == expected,
            "'{}' is damaged: array '{}' overlaps another or leaves a hole before it; {}", file,
            array.name, kAdvice);
    expected += array.bytes.size();
  }
  const auto rest = data.data() + data.size() - expected;
  require(rest == 0, "'{}' is damaged: {} bytes follow its last array; {}", file, rest, kAdvice);
}

void verify_checksum(const Json& header, std::span<const std::byte> data, SafetensorsFile& out) {
  const auto found = out.metadata.find(kChecksum);
  const bool ours = out.metadata.contains(kFormat);
  if (found == out.metadata.end()) {
    require(!ours, "'{}' is damaged: its checksum is missing; {}", out.file, kAdvice);
    return;
  }
  const std::array<std::span<const std::byte>, 1> parts{data};
  require(ours && found->second == checksum(header, parts),
          "'{}' is damaged: its checksum does not match its content; {}", out.file, kAdvice);
  out.checked = true;
  out.metadata.erase(kChecksum);
  out.metadata.erase(kFormat);
}

}  // namespace

// Not by fmt::join, on which g++ 12 warns falsely at -O3.
std::string shape_text(std::span<const int64_t> shape) {
  std::string text;
  for (const int64_t dim : shape) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return text;
}

bool SafetensorsFile::contains(std::string_view name) const {
  return std::any_of(arrays.begin(), arrays.end(),
                     [&](const NamedArray& array) { return array.name == name; });
}

const NamedArray& SafetensorsFile::at(std::string_view name) const {
  for (const NamedArray& array : arrays)
    if (array.name == name) return array;
  fail("'{}' has no array '{}'; is it a checkpoint of this model?", file, name);
}

void save_safetensors(const std::filesystem::path& path, std::span<const NamedArray> arrays,
                      const std::map<std::string, std::string>& metadata) {
  const std::string file = path.string();
  const std::vector<const NamedArray*> order = in_file_order(arrays, file);
  std::vector<std::span<const std::byte>> parts;
  for (const NamedArray* array : order) parts.push_back(array->bytes);
  std::string text;
  try {
    Json header = make_header(order, metadata, file);
    header[kMetadata][kChecksum] = checksum(header, parts);
    text = header.dump();
  } catch (const Json::exception&) {
    fail("cannot write '{}': an array's name or its metadata is not valid UTF-8", file);
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts at a multiple of 8 bytes
  require(text.size() <= kMaxHeaderBytes, "cannot write '{}': its header of {} bytes is too large",
          file, text.size());
  const std::array<uint64_t, 1> length{text.size()};
  parts.insert(parts.begin(), {std::as_bytes(std::span(length)), std::as_bytes(std::span(text))});
  write_file_atomic(path, parts);
}

SafetensorsFile load_safetensors(const std::filesystem::path& path) {
  SafetensorsFile out;
  out.file = path.string();
  out.content = read_file(path);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(out.content));
  uint64_t length = 0;
  require(bytes.size() >= kPrefixBytes, "'{}' is truncated or not a safetensors file; {}", out.file,
          kAdvice);
  std::copy_n(bytes.begin(), kPrefixBytes, std::as_writable_bytes(std::span(&length, 1)).begin());
  require(length <= std::min<uint64_t>(kMaxHeaderBytes, bytes.size() - kPrefixBytes),
          "'{}' is truncated or not a safetensors file: it names a header of {} bytes; {}",
          out.file, length, kAdvice);
  const std::span<const std::byte> data = bytes.subspan(kPrefixBytes + length);
  const Json header = parse_header(
      {reinterpret_cast<const char*>(out.content.data()) + kPrefixBytes, length}, out.file);
  for (const auto& [name, entry] : header.items())
    if (name == kMetadata)
      read_metadata(entry, out);
    else
      out.arrays.push_back(read_entry(name, entry, data, out.file));
  std::sort(out.arrays.begin(), out.arrays.end(), [](const NamedArray& a, const NamedArray& b) {
    return std::tuple(a.bytes.data(), a.bytes.size(), std::string_view(a.name)) <
           std::tuple(b.bytes.data(), b.bytes.size(), std::string_view(b.name));
  });
  check_cover(out.arrays, data, out.file);
  verify_checksum(header, data, out);
  return out;
}

}  // namespace ringfort
