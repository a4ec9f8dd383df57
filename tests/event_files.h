// Reads TensorBoard's event files back: every CRC is checked, every field that Ringfort writes is
// understood, and nothing else is accepted.
#pragma once

#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/files.h"
#include "tools/event_file.h"

namespace ringfort::test {

struct ReadEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::map<std::string, float> scalars;
};

template <class T>
T take(std::string_view& bytes) {
  REQUIRE(bytes.size() >= sizeof(T));
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

inline uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    REQUIRE(shift < 64);
    const auto byte = take<uint8_t>(bytes);
    value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
}

inline std::string_view take_text(std::string_view& bytes) {
  const uint64_t size = take_varint(bytes);
  REQUIRE(bytes.size() >= size);
  const std::string_view text = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return text;
}

inline void read_summary(std::string_view bytes, std::map<std::string, float>& scalars) {
  while (!bytes.empty()) {
    REQUIRE(take<uint8_t>(bytes) == (1 << 3 | 2));  // Summary.value
    std::string_view value = take_text(bytes);
    REQUIRE(take<uint8_t>(value) == (1 << 3 | 2));  // tag
    const std::string tag(take_text(value));
    REQUIRE(take<uint8_t>(value) == (2 << 3 | 5));  // simple_value
    CHECK(scalars.emplace(tag, take<float>(value)).second);
    CHECK(value.empty());
  }
}

inline ReadEvent read_event(std::string_view data) {
  ReadEvent event;
  while (!data.empty()) switch (take<uint8_t>(data)) {
      case 1 << 3 | 1:
        event.wall_time = take<double>(data);
        break;
      case 2 << 3 | 0:
        event.step = static_cast<int64_t>(take_varint(data));
        break;
      case 3 << 3 | 2:
        event.version = take_text(data);
        break;
      case 5 << 3 | 2:
        read_summary(take_text(data), event.scalars);
        break;
      default:
        FAIL("an unknown field");
    }
  return event;
}

inline std::vector<ReadEvent> read_events(const std::filesystem::path& path) {
  const std::string content = read_text(path);
  std::vector<ReadEvent> events;
  for (std::string_view rest = content; !rest.empty();) {
    const std::string_view length_bytes = rest.substr(0, 8);
    const auto length = take<uint64_t>(rest);
    REQUIRE(take<uint32_t>(rest) == masked_crc32c(length_bytes));
    REQUIRE(rest.size() >= length + 4);
    const std::string_view data = rest.substr(0, length);
    rest.remove_prefix(length);
    REQUIRE(take<uint32_t>(rest) == masked_crc32c(data));
    events.push_back(read_event(data));
  }
  return events;
}

}  // namespace ringfort::test
